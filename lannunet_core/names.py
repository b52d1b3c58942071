"""How names are compared, wherever a user may give one: case and punctuation do not matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from lannunet_core.errors import UserError

Named = TypeVar("Named")


def plain(name: str) -> str:
    """The form in which names are compared: `U-Net`, `unet` and `UNet` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'unet'?`, or nothing where no known name is close."""
    spelled = {plain(other): other for other in known}
    nearest = get_close_matches(plain(name), spelled, n=1)
    return f" Did you mean '{spelled[nearest[0]]}'?" if nearest else ""


def is_among(name: str, known: Iterable[str]) -> bool:
    return plain(name) in map(plain, known)


def choose(key: str, name: str, known: Mapping[str, Named]) -> Named:
    """What a name stands for.

    Args:
        key: The key of the configuration that holds it, for the message.
        name: In any spelling.
        known: What there is, by name.

    Raises:
        UserError: There is no such name.
    """
    by_name = {plain(other): value for other, value in known.items()}
    if plain(name) in by_name:
        return by_name[plain(name)]
    raise UserError(
        f"{key}: '{name}' is not known; there are {', '.join(sorted(known))}.{did_you_mean(name, known)}"
    )
