"""Find and read JSON files; errors are reported in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lannunet_core import UserError, terminal_text

DEEPEST = 50  # levels of lists and objects
LARGEST = 2**53  # of whole numbers; a float cannot represent all larger ones


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: It cannot be read, is not JSON, repeats a key, or contains a whole number beyond 2^53 or
            more than 50 levels, which no annotation needs.
    """

    def refuse(what: str) -> UserError:
        return UserError(f"{path}: {what}")

    def whole(digits: str) -> int:
        if len(digits) > len(str(LARGEST)) + 1 or abs(int(digits)) > LARGEST:
            raise refuse(f"the number {digits:.20}… is larger than annotations may contain.")
        return int(digits)

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(found)
        if len(content) < len(found):
            keys = [key for key, _ in found]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise refuse(f'the key "{terminal_text(twice)}" is given twice in one object; remove one.')
        return content

    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, parse_int=whole, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg})."
        ) from None
    except RecursionError:
        raise refuse("is nested too deeply.") from None
    except UnicodeDecodeError as error:
        raise refuse(f"cannot be read as UTF-8 text ({error.reason} at byte {error.start}).") from None
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror}).") from None
    if _depth(content) > DEEPEST:
        raise refuse("is nested too deeply.")
    return content


def _depth(content: Any) -> int:
    depth, level = 0, [content]
    while level and depth <= DEEPEST:
        inner = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))
        ]
        level = [value for values in inner for value in values]
        depth += 1
    return depth


def fold_numbers(folder: Path) -> list[int]:
    """The numbers of the foldK.json in a folder."""
    names = (re.fullmatch(r"fold(\d+)\.json", path.name) for path in folder.glob("fold*.json"))
    return sorted(int(name[1]) for name in names if name)


def may_be_annotations(target: Path) -> bool:
    """Whether a path may hold landmark annotations: a JSON, or a folder of foldK.json or with one of our
    files."""
    if target.is_file():
        return target.suffix.lower() == ".json"
    if not target.is_dir():
        return False
    if fold_numbers(target):
        return True
    try:
        content = read_json(annotation_file(target, -1))
    except UserError:
        return False
    lists = content.values() if isinstance(content, dict) else ()
    return any(
        isinstance(one, dict) and "coordinates" in one for of in lists if isinstance(of, list) for one in of
    )


def annotation_file(target: Path, fold: int) -> Path:
    """The JSON that `dataset.src_targets` and a fold choose; -1: the JSON that is not a fold.

    Raises:
        UserError: There is none.
    """
    if target.is_file():
        return target
    if not target.is_dir():
        raise UserError(f"{target}: there is no such file or folder (dataset.src_targets). Name the JSON.")
    found = sorted(path.name for path in target.glob("*.json"))
    if not found:
        raise UserError(
            f"{target}: holds no JSON. Give the JSON of landmark annotations, or a folder of foldK.json. "
            "Label maps are evaluated against label maps: lannunet evaluate FOLDER FOLDER."
        )
    listing = ", ".join(found)
    if fold >= 0:
        if f"fold{fold}.json" in found:
            return target / f"fold{fold}.json"
        raise UserError(
            f"{target}: has no fold{fold}.json (which trainer.fold, or --fold, chooses); it holds {listing}."
        )
    plain = [name for name in found if not re.fullmatch(r"fold\d+\.json", name)]
    if len(plain) != 1:
        raise UserError(
            f"{target}: trainer.fold: -1 takes the one JSON that is not named foldK.json; it holds {listing}."
        )
    return target / plain[0]
