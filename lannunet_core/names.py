"""Names and keys: case and punctuation do not matter wherever a user may give a name."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from lannunet_core.errors import UserError

Named = TypeVar("Named")


def plain(name: str) -> str:
    """The form in which names are compared: `My-Net`, `mynet` and `My Net` are equal."""
    return re.sub(r"[\W_]+", "", name.casefold())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'my-net'?`, or "" if no known name is similar."""
    spelled = {plain(other): other for other in known}
    nearest = get_close_matches(plain(name), spelled, n=1)
    return f" Did you mean '{spelled[nearest[0]]}'?" if nearest else ""


def is_among(name: str, known: Iterable[str]) -> bool:
    return plain(name) in map(plain, known)


def choose(key: str, name: str, known: Mapping[str, Named]) -> Named:
    """The value of a name, in any spelling; `key` is its place in the configuration.

    Raises:
        UserError: There is no such name.
    """
    by_name = {plain(other): value for other, value in known.items()}
    if plain(name) in by_name:
        return by_name[plain(name)]
    raise UserError(
        f"{key}: '{name}' is not known; there are {', '.join(sorted(known))}.{did_you_mean(name, known)}"
    )


def dotted(nest: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, each with its dotted key."""
    for key, value in nest.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_places(value: Any) -> Any:
    """Plain data with the last component of each absolute path."""
    if isinstance(value, Mapping):
        return {key: without_places(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_places, value))
    paths = (PurePosixPath(value), PureWindowsPath(value)) if isinstance(value, str) else ()
    return next((path.name for path in paths if path.is_absolute() and path.name), value)


def fold_numbers(folds: str) -> list[int]:
    """Parse `0-4`, `0,2,4`, or both."""
    numbers: list[int] = []
    for word in folds.split(","):
        ends = re.fullmatch("([0-9]+)(?:-([0-9]+))?", word.strip())
        more = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else range(0)
        if not more:
            raise UserError(f"--folds: '{word}' names no folds. Give numbers from 0 up, as in 0-4 or 0,2,4.")
        numbers += more
    return list(dict.fromkeys(numbers))
