"""nnLandmark's data sets: nnU-Net folders whose label maps show each landmark as a blob with a unique value.

https://github.com/MIC-DKFZ/nnLandmark. A landmark is its blob's centre of mass. `name_to_label.json` names
the values, `spacing.json` has the spacing of images that state none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_landmarks import (
    Annotated,
    Annotations,
    LandmarkFormat,
    Mark,
    World,
    read_json,
    relative_to,
    without_suffix,
)
from numpy.typing import NDArray

from lannunet_core import (
    UserError,
    atomic_path,
    image_header,
    image_placement,
    inside,
    read_image,
    terminal_text,
)
from lannunet_formats.common import file_of, write_json

NAMES, SPACING, VOXELS, DATASET = (
    "name_to_label.json",
    "spacing.json",
    "all_landmarks_voxel.json",
    "dataset.json",
)
HALF_CUBE = 1  # voxels, as nnLandmark draws them


def matches(path: Path) -> bool:
    return path.is_dir() and (path / NAMES).is_file() and (path / "labelsTr").is_dir()


def read(path: Path, images: Path | None) -> Annotations:
    values = _values(path)
    spacings = read_json(path / SPACING) if (path / SPACING).is_file() else {}
    if not isinstance(spacings, dict):
        raise UserError(f"{path / SPACING}: should be an object with an entry for each case.")
    listed = _listed(path)
    found: list[Annotated] = []
    several = 0
    for folder, split in (("Tr", None), ("Ts", "testing")):
        for label in sorted((path / f"labels{folder}").glob("*")):
            case = without_suffix(label.name)
            if case == label.name or label.name.startswith("."):
                continue
            named = listed.get(case)
            image, channels = (named, 1) if named else _image(path, f"images{folder}", case, images, label)
            several += channels > 1
            marks = _marks(label, image, values)
            spacing = _spacing(spacings.get(case), f"{path / SPACING}, {case}")
            found.append(Annotated(image, marks, case, split, spacing, source=str(label)))  # type: ignore[arg-type]
    if any(one.split for one in found):
        # Cases of labelsTr are for training; the data set does not state which are for validation.
        found = [replace(one, split=one.split or "training") for one in found]
    notes = (f"{path}: {several} cases have several channels; only the first is used.",) if several else ()
    return Annotations(tuple(values), tuple(found), name=path.name, notes=notes)


def _values(path: Path) -> dict[str, int]:
    """The value of each landmark, by its name."""
    file = path / NAMES if (path / NAMES).is_file() else path / DATASET
    content = read_json(file)
    labels = content if file.name == NAMES else content.get("labels", {})
    if (
        not isinstance(labels, dict)
        or any(not isinstance(value, int) for value in labels.values())
        or len(set(labels.values())) < len(labels)
    ):
        raise UserError(f"{file}: should map each landmark to a unique whole number.")
    values = {terminal_text(name): value for name, value in labels.items() if value}
    return dict(sorted(values.items(), key=lambda pair: pair[1]))


def _listed(path: Path) -> dict[str, Path]:
    """The images that `dataset.json` lists, by case."""
    content = read_json(path / DATASET) if (path / DATASET).is_file() else {}
    cases = content.get("dataset") or {}
    return {case: path / entry["images"][0] for case, entry in cases.items()}


def _image(path: Path, folder: str, case: str, images: Path | None, label: Path) -> tuple[Path, int]:
    """The file of the first channel of a case, and the number of channels."""
    place = images or path / folder
    found = sorted(
        file
        for file in place.glob(f"{case}*")
        if without_suffix(file.name) in (case, *_channels(file.name, case))
    )
    if not found:
        raise UserError(f"{label}: there is no image {case}_0000 in {place}. Copy it there, or set --images.")
    return found[0], len(found)


def _channels(name: str, case: str) -> tuple[str, ...]:
    stem = without_suffix(name)
    number = stem.removeprefix(f"{case}_")
    return (stem,) if len(number) == 4 and number.isdecimal() else ()


def _spacing(entry: Any, where: str) -> tuple[float, ...] | None:
    """The spacing of the annotations, if the image has none."""
    if not isinstance(entry, Mapping) or entry.get("image_spacing") is not None:
        return None
    told: Any = entry.get("annotation_spacing")
    if told is None:
        return None
    steps = told if isinstance(told, list) else [told] * 3
    if len(steps) != 3 or not all(isinstance(step, (int, float)) and step > 0 for step in steps):
        raise UserError(f"{where}: annotation_spacing is {told!r:.60}, should be mm along three axes.")
    return tuple(float(step) for step in steps)


def _marks(label: Path, image: Path, values: Mapping[str, int]) -> dict[str, Mark]:
    """The centre of mass of each blob."""
    from scipy import ndimage

    stated = image_header(image, 3).size
    array = read_image(label, 3).pixels[0]  # (z, y, x)
    if array.shape[::-1] != stated:
        raise UserError(f"{label}: has {array.shape[::-1]} voxels, but {image} has {stated}.")
    if array.dtype.kind == "f":
        array = np.rint(array).astype(np.int64)
    where: NDArray[np.int64] = np.argwhere(array > 0)[:, ::-1]
    of = array[tuple(where.T[::-1])]
    if unknown := sorted(set(np.unique(of).tolist()) - set(values.values())):
        raise UserError(f"{label}: contains the value {unknown[0]}, which is not in {NAMES}. Add it there.")
    marks = {}
    for name, value in values.items():
        voxels = where[of == value]
        if not len(voxels):
            continue
        box = np.zeros(np.ptp(voxels, axis=0) + 1, dtype=bool)
        box[tuple((voxels - voxels.min(axis=0)).T)] = True
        _, blobs = ndimage.label(box, np.ones((3, 3, 3)))
        if blobs > 1:
            raise UserError(f"{label}: {name} (value {value}) has {blobs} blobs, should have one.")
        marks[name] = Mark(tuple(voxels.mean(axis=0).tolist()))
    return marks


def write(annotations: Annotations, out: Path) -> None:
    """Label maps and the files beside them; `dataset.json` has the paths of the images."""
    values = {name: number for number, name in enumerate(annotations.names, 1)}
    centres = [_centres(one) for one in annotations.images]  # refused before anything is written
    out.mkdir(parents=True)
    dataset, voxels, spacings = {}, {}, {}
    for one, placed in zip(annotations.images, centres, strict=True):
        folder = out / ("labelsTs" if one.split == "testing" else "labelsTr")
        folder.mkdir(exist_ok=True)
        file = file_of(folder, one, ".nii.gz")
        _write_map(_drawn(one, placed, values), one.image, file)
        case = without_suffix(file.name)
        dataset[case] = {"images": [relative_to(one.image, out)], "label": relative_to(file, out)}
        voxels[case] = {name: list(mark.at) for name, mark in one.marks.items() if mark.at is not None}
        stated = image_header(one.image, 3).spacing
        image_spacing = None if one.spacing or stated is None else list(stated)
        told = None if one.spacing is None else list(one.spacing)
        spacings[case] = {"image_spacing": image_spacing, "annotation_spacing": told}
    (out / "labelsTr").mkdir(exist_ok=True)
    write_json(values, inside(out, NAMES, str(out)))
    write_json(voxels, out / VOXELS)
    write_json(spacings, out / SPACING)
    labels = {"background": 0, **values}
    training = sum(one.split != "testing" for one in annotations.images)
    declared = {"channel_names": {"0": "image"}, "labels": labels, "numTraining": training}
    write_json({**declared, "file_ending": ".nii.gz", "dataset": dataset}, out / DATASET)


def _centres(one: Annotated) -> dict[str, NDArray[np.int64]]:
    """The voxel (x, y, z) of each landmark.

    Raises:
        UserError: A landmark is outside of the image, or two are in one voxel.
    """
    size = np.array(image_header(one.image, 3).size)
    placed = {name: np.rint(mark.at).astype(int) for name, mark in one.marks.items() if mark.at is not None}
    for name, centre in placed.items():
        if (centre < 0).any() or (centre >= size).any():
            raise UserError(f'sample "{one.id}": landmark {name} is outside of {one.image}.')
        if _nearest(name, placed) == 0:
            raise UserError(f'sample "{one.id}": landmark {name} shares its voxel with another.')
    return placed


def _nearest(name: str, placed: Mapping[str, NDArray[np.int64]]) -> float:
    """Voxels along an axis to the nearest other landmark."""
    return min(
        (np.abs(placed[name] - at).max() for other, at in placed.items() if other != name), default=np.inf
    )


def _drawn(
    one: Annotated, placed: Mapping[str, NDArray[np.int64]], values: Mapping[str, int]
) -> NDArray[np.uint16]:
    """One cube per landmark: 3 voxels per side, fewer at the border, and 1 if another landmark is close."""
    size = np.array(image_header(one.image, 3).size)
    array = np.zeros(size[::-1], np.uint16)
    for name, centre in placed.items():
        wanted = HALF_CUBE if _nearest(name, placed) > 2 * HALF_CUBE else 0
        half = np.minimum(wanted, np.minimum(centre, size - 1 - centre))
        box = tuple(slice(c - h, c + h + 1) for c, h in zip(centre[::-1], half[::-1], strict=True))
        array[box] = values[name]
    return array


def _write_map(array: NDArray[np.uint16], image: Path, out: Path) -> None:
    """Write a label map with the geometry of the image."""
    import SimpleITK as sitk

    written: Any = sitk.GetImageFromArray(array)
    placement = image_placement(image)
    if placement is not None:
        world = World.of(placement, 3)
        steps = np.linalg.norm(world.matrix, axis=0)
        written.SetSpacing(steps.tolist())
        written.SetOrigin(world.origin.tolist())
        written.SetDirection((world.matrix / steps).flatten().tolist())
    with atomic_path(out) as temporary:
        sitk.WriteImage(written, str(temporary), useCompression=True)


NNLANDMARK = LandmarkFormat(
    "nnlandmark",
    "nnLandmark's label maps",
    matches,
    read,
    write,
    dimensions=(3,),
    holds=frozenset({"spacing", "unannotated"}),
    error=0.5,
)
