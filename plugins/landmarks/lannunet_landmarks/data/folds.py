"""From one JSON of annotations to foldK.json files for a cross-validation."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import UserError, terminal_text, write_text
from lannunet_landmarks.data.annotations import (
    SPLITS,
    Split,
    dataset_section,
    image_path,
    is_annotated,
    load_dataset,
)
from lannunet_landmarks.data.exchange import format_of, read_content
from lannunet_landmarks.data.groups import contents, field_of, groups_by, joined, patient_field

VALIDATION_PARTS = 10  # one tenth of what is not tested is for validation


@dataclass(frozen=True)
class Folds:
    """Folds that were written.

    Attributes:
        count: Number of folds.
        notes: Messages for the user.
        warnings: Messages about possible mistakes.
    """

    count: int
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Unit:
    """Samples that stay together.

    Attributes:
        members: Positions of its samples.
        strata: Number of its samples in each stratum.
    """

    members: Sequence[int]
    strata: Counter[str]


def write_folds(
    annotations: Path,
    folder: Path,
    count: int | None,
    *,
    root: Path | None = None,
    keep_testing: bool = False,
    group: str | None = None,
    stratify: str | None = None,
    seed: int = 0,
) -> Folds:
    """Split the annotated samples so that each is tested in exactly one fold.

    Samples of one image, or of one group, stay together, so no fold trains on what it tests. A tenth of the
    remaining samples, at least one and drawn again for each fold, chooses the best epoch (`validation`); the
    rest are for training. Samples without annotation are left out.

    Args:
        annotations: A plain JSON; its lists are joined and split again.
        folder: Folder of the foldK.json; created if need be. Image paths are written relative to it.
        count: Number of folds; None: one fold per image, or per group.
        root: Folder that image paths in `annotations` are relative to; None: the JSON's own folder.
        keep_testing: Leave the list `testing` out.
        group: Field or pattern that identifies the patient of a sample, see `groups_by`. The folds store it
            in a field and in `group_by`, so that training checks it too.
        stratify: A field whose values are to be as frequent in each fold as in all.
        seed: Seed of the draws.
    """
    if annotations.is_dir() and format_of(annotations, -1) is None:
        raise UserError(
            f"{annotations}: is a folder. Give the JSON of landmark annotations; other tasks split their "
            "data by trainer.fold, without files of folds."
        )
    if not annotations.exists():
        raise UserError(f"{annotations}: there is no such file. Give the JSON of annotations.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output: {folder} is a file. Name a folder, which is made if need be.")
    load_dataset(dataset_section(annotations, root), -1)  # raises an error if the annotations are wrong
    content = read_content(annotations, -1, images=root).json
    base = root or annotations.parent
    splits = [split for split in SPLITS if not (keep_testing and split == "testing")]
    entries = [entry for split in splits for entry in content.get(split, []) if is_annotated(entry)]
    kept = content.get("testing", []) if keep_testing else []
    every = [*entries, *kept]
    images = [image_path(base, entry["image"]) for entry in every]
    known = contents(images)
    keys: list[list[Hashable]] = [[known[image]] for image in images]
    what, notes, warnings = "annotated images", [], []
    if group is not None:
        groups, told = groups_by(group, every, "--group")
        keys = [[*own, name] for own, name in zip(keys, groups, strict=True)]
        number, what = len(set(groups[: len(entries)])), "groups"
        notes.append(f"{number} groups of {len(entries)} samples, by {terminal_text(told)}")
        content["group_by"] = field = _field_for(group, every)
        entries = [{**one, field: one.get(field, name)} for one, name in zip(entries, groups, strict=False)]
    keys, keys_of_kept = keys[: len(entries)], keys[len(entries) :]
    dealt = {key for own in keys for key in own}
    if seen := sum(not dealt.isdisjoint(own) for own in keys_of_kept):
        shared = "image" if group is None else "image or group"
        warnings.append(
            f"{seen} of the {len(kept)} testing samples share their {shared} with some that folds train on."
        )
    strata = [""] * len(entries) if stratify is None else field_of(stratify, entries, "--stratify")
    units = [Unit(members, Counter(strata[one] for one in members)) for members in joined(keys)]

    count = len(units) if count is None else count
    if not 2 <= count <= len(units) or len(units) < 3:
        raise UserError(
            f"--count: {len(units)} {what} of {annotations} cannot be split into {count} folds; give 2 to "
            f"{len(units)} of at least 3."
        )
    if folder.is_dir() and (there := sorted(folder.glob("fold*.json"))):
        raise UserError(
            f"--output: {folder} already holds folds ({there[0].name}). Remove them, or name another."
        )
    warnings += [] if stratify is None else rare(stratify, units, count)
    folds = deal_folds(units, count, seed)
    if group is None and (patient := patient_field(entries)) is not None:
        warnings += apart(patient, entries, [fold["testing"] for fold in folds])
    folder.mkdir(parents=True, exist_ok=True)
    moved = [_moved(entry, image, folder) for entry, image in zip(entries, images, strict=False)]
    for number, fold in enumerate(folds):
        lists = {split: [moved[one] for one in sorted(fold[split])] for split in SPLITS}
        text = json.dumps({**content, "fold": number, **lists}, indent=1, ensure_ascii=False)
        # Characters that UTF-8 cannot encode are escaped, as in JSON.
        write_text(folder / f"fold{number}.json", text.encode("utf-8", "backslashreplace").decode())
    return Folds(count, notes, warnings)


def deal_folds(units: Sequence[Unit], count: int, seed: int) -> list[dict[Split, list[int]]]:
    """The positions of each list of each fold."""
    rng = np.random.default_rng(seed)
    one_each = count == len(units)
    tested = [[unit] for unit in units] if one_each else deal(units, count, rng)
    folds: list[dict[Split, list[int]]] = []
    for testing in tested:
        others = [unit for unit in units if unit not in testing]
        parts = deal(others, min(VALIDATION_PARTS, len(others)), rng)
        validation = parts.pop(int(rng.integers(len(parts)))) if len(parts) > 1 else []
        training = [unit for part in parts for unit in part]
        lists: dict[Split, Sequence[Unit]] = {
            "training": training,
            "validation": validation,
            "testing": testing,
        }
        folds.append({split: [one for unit in of for one in unit.members] for split, of in lists.items()})
    return folds


def deal(units: Sequence[Unit], count: int, rng: np.random.Generator) -> list[list[Unit]]:
    """Split units into parts of similar size with similar strata; the largest units are assigned first."""
    shuffled = [units[one] for one in rng.permutation(len(units))]
    frequent = sum((unit.strata for unit in units), Counter[str]())
    parts: list[list[Unit]] = [[] for _ in range(count)]
    loads = [Counter[str]() for _ in range(count)]

    def cost(unit: Unit, load: Counter[str]) -> tuple[float, int]:
        alike = sum(often * load[name] / frequent[name] for name, often in unit.strata.items())
        return alike, load.total()

    for unit in sorted(shuffled, key=lambda unit: -len(unit.members)):
        part = min(range(count), key=lambda part: cost(unit, loads[part]))
        parts[part].append(unit)
        loads[part] += unit.strata
    return parts


def rare(field: str, units: Sequence[Unit], count: int) -> list[str]:
    """Messages about strata that cannot be in every fold."""
    often = Counter(name for unit in units for name in unit.strata)
    names = [terminal_text(name) for name, number in often.items() if number < count]
    if not names:
        return []
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return [
        f"--stratify: {len(names)} of the {len(often)} values of {field} ({shown}) are too rare to be in "
        f"each of {count} folds."
    ]


def apart(field: str, entries: Sequence[Mapping[str, Any]], tested: Sequence[Sequence[int]]) -> list[str]:
    """Messages about patients with images in several folds."""
    folds: dict[str, set[int]] = {}
    for number, of_fold in enumerate(tested):
        for one in of_fold:
            folds.setdefault(str(entries[one].get(field)), set()).add(number)
    torn = sum(len(numbers) > 1 for name, numbers in folds.items() if name != "None")
    if not torn:
        return []
    return [
        f'{torn} of {len(folds)} values of the field "{terminal_text(field)}" have images in several '
        f"folds, which test on what they trained on; --group {terminal_text(field)} keeps them together."
    ]


def _field_for(group: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The field with a sample's group; a new field for a pattern, because image paths are rewritten."""
    if any(group in entry for entry in entries):
        return group
    field = "group"
    while any(field in entry for entry in entries):
        field += "_"
    return field


def _moved(entry: Mapping[str, Any], image: Path, folder: Path) -> dict[str, Any]:
    """A sample, with its image path relative to `folder`."""
    if Path(entry["image"]).is_absolute():
        return dict(entry)
    return {**entry, "image": Path(os.path.relpath(image, folder)).as_posix()}
