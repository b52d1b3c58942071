"""Match predictions to samples: by id, or by the name of the image file."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from lannunet_core import UserError, echo, image_suffixes
from lannunet_landmarks.types import Prediction, Sample

MOST_PARTS = 4  # of a path, from its end


def match(
    path: Path, predicted: Sequence[Prediction], samples: Sequence[Sample], where: str
) -> dict[str, Prediction]:
    """Predictions by the ids of their samples.

    `lannunet predict` names an image by its file, a data set by an id. One way of matching is used for all
    predictions: the first in which each belongs to a different sample. If that is not the id, it is printed.

    Args:
        path: Path of the predictions, for messages.
        predicted: Predictions, whose ids may be file names.
        samples: Samples that they may belong to.
        where: Name of the samples in messages.

    Raises:
        UserError: A prediction belongs to none of the samples.
    """
    names = [one.id for one in predicted]
    tried = {way: _found(names, *keys(samples)) for way, keys in WAYS.items()}
    way, found = max(tried.items(), key=lambda one: len(one[1]))  # the first of equally good ways
    for name in names:
        if name not in found:
            by = "" if way == "id" else f" (by their {way})"
            raise UserError(f"{path}: '{name}' is not a sample of {where}{by}. Choose with --split.")
    if way != "id":
        echo(f"predictions are matched to samples by their {way}")
    return {found[one.id]: one for one in predicted}


def _found(
    names: Sequence[str], keys: Mapping[str, Hashable], key_of: Callable[[str], Hashable]
) -> dict[str, str]:
    """The samples' ids by name, for names and samples that match only each other."""
    ids: dict[Hashable, list[str]] = {}
    for sample, key in keys.items():
        ids.setdefault(key, []).append(sample)
    wanted: dict[Hashable, list[str]] = {}
    for name in names:
        wanted.setdefault(key_of(name), []).append(name)
    return {
        of_key[0]: ids[key][0]
        for key, of_key in wanted.items()
        if len(of_key) == 1 and len(ids.get(key, [])) == 1
    }


Keys = tuple[Mapping[str, Hashable], Callable[[str], Hashable]]
"""The key of each sample, by its id, and the function that computes a key from a prediction's name."""


def _ids(samples: Sequence[Sample]) -> Keys:
    return {one.id: one.id for one in samples}, lambda name: name


def _paths(samples: Sequence[Sample]) -> Keys:
    return {one.id: one.image.resolve() for one in samples}, lambda name: Path(name).resolve()


def _ends(samples: Sequence[Sample], parts: int) -> Keys:
    return {one.id: _parts(str(one.image))[-parts:] for one in samples}, lambda name: _parts(name)[-parts:]


def _stems_as_ids(samples: Sequence[Sample]) -> Keys:
    return {one.id: one.id for one in samples}, _stem


def _stems(samples: Sequence[Sample]) -> Keys:
    return {one.id: _stem(one.image.name) for one in samples}, _stem


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.replace("\\", "/")).parts


def _stem(path: str) -> str:
    """A file name without the suffix of an image format."""
    name = (_parts(path) or ("",))[-1]
    suffixes = [suffix for suffix in image_suffixes() if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))] if suffixes else name


WAYS: Mapping[str, Callable[[Sequence[Sample]], Keys]] = {
    "id": _ids,
    "image path": _paths,
    "file name": partial(_ends, parts=1),
    **{f"file name in {n - 1} folder(s)": partial(_ends, parts=n) for n in range(2, MOST_PARTS + 1)},
    "file name without its suffix, as id": _stems_as_ids,
    "file name without its suffix": _stems,
}
