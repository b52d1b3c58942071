"""nnU-Net folders: what they hold, their cases as arrays, and labels written back.

Sizes and spacings are (x, y[, z]), arrays (C, [z,] y, x). A voxel that nobody annotated is `IGNORE`, whatever
the files call it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core import (
    SUFFIXES,
    Header,
    UserError,
    atomic_path,
    image_format,
    image_header,
    image_placement,
    read_image,
)
from lannunet_segmentation.data import nnunet_v1
from lannunet_segmentation.types import (
    IGNORE,
    Case,
    CaseImage,
    Geometry,
    Labels,
    SegmentationDataset,
)

FOLDS = 5
SPACING_TOLERANCE = 1e-3  # relative: files round
INTEGER_TOLERANCE = 1e-3  # files of scaled numbers round
CHANNEL = re.compile(r"(.+)_(\d{4})")
PICTURES = (".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
Declared = Mapping[str, Any]


def read_dataset(folder: Path) -> SegmentationDataset:
    """What an nnU-Net folder holds, by names and `dataset.json`; no voxel is read.

    Args:
        folder: A raw folder of version 1 or 2, or a preprocessed one of version 1: a `…_stage0`, or its
            parent, of which the finest stage of the 3D plan is taken.

    Raises:
        UserError: It is no such folder, or it contradicts itself.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder. Name an nnU-Net folder (DatasetXXX_NAME or TaskXXX_NAME).")
    if (folder / "imagesTr").is_dir():
        return _read_raw(folder)
    if (stage := nnunet_v1.find_stage(folder)) is not None:
        return _read_preprocessed(stage)
    if (folder / "dataset.json").is_file():
        raise UserError(f"{folder / 'imagesTr'}: the folder of training images is missing.")
    raise UserError(
        f"{folder}: is no nnU-Net folder: it holds neither dataset.json and imagesTr (raw), nor a folder "
        "…_stage0 or cases as .npz and .pkl (preprocessed by version 1)."
    )


def split(
    dataset: SegmentationDataset, fold: int | Literal["all"], seed: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The training and the validation cases of one fold.

    `splits_final.json` or `.pkl` in the folder (of a preprocessed one: also beside it) says which; without
    one the cases are shuffled by the seed and dealt to five folds.

    Args:
        dataset: The data set.
        fold: Counted from 0; `all` trains on every case and validates on none.
        seed: Of the shuffle.
    """
    if fold == "all":
        return dataset.training, ()
    path = _splits_file(dataset)
    if path is not None:
        return _listed_split(path, dataset, fold)
    cases = dataset.training
    folds = min(FOLDS, len(cases))
    if len(cases) < 2:
        raise UserError(f"{dataset.path}: {len(cases)} training case cannot be split. Set trainer.fold: all.")
    if not 0 <= fold < folds:
        raise UserError(f"trainer.fold: {fold} is none of the {folds} folds (0 to {folds - 1}), nor all.")
    order = np.random.default_rng(seed).permutation(len(cases))
    held_out = set(order[fold::folds].tolist())
    training = tuple(case for index, case in enumerate(cases) if index not in held_out)
    return training, tuple(cases[index] for index in sorted(held_out))


def read_case(case: Case, dataset: SegmentationDataset, with_label: bool = True) -> CaseImage:
    """A case's voxels.

    Args:
        case: Of this data set, or of `loose_cases`.
        dataset: Says how its files are read.
        with_label: Whether to read the label too, where there is one.
    """
    if dataset.layout == "preprocessed":
        return _read_preprocessed_case(case, dataset, with_label)
    channels = [read_image(path, dataset.dimensions).pixels for path in case.images]
    _check_channels(case, sum(map(len, channels)), len(dataset.channel_names))
    shapes = {pixels.shape[1:] for pixels in channels}
    if len(shapes) > 1:
        check_case(case, dataset)
    pixels = np.concatenate([each.astype(np.float32, copy=False) for each in channels])
    label = None
    if with_label and case.label is not None:
        label, _ = read_label(case.label, dataset)
        if label.shape != pixels.shape[1:]:
            raise _differ(case, case.label, "size", label.shape[::-1], pixels.shape[:0:-1])
    return CaseImage(pixels, label, case_geometry(case, dataset))


def read_label(path: Path, dataset: SegmentationDataset) -> tuple[Labels, Geometry]:
    """A label map (*S) with `IGNORE` where nobody annotated, and where its voxels lie.

    Args:
        path: A label file.
        dataset: What it belongs to: its classes and ignore label.

    Raises:
        UserError: It holds numbers that are not integers, or none of the classes.
    """
    pixels = _label_pixels(path, dataset.dimensions)
    return as_labels(pixels, path, dataset), _geometry(path, dataset.dimensions)


def as_labels(values: NDArray[Any], path: Path, dataset: SegmentationDataset) -> Labels:
    """Values of any number type as labels of this data set; `path` names them in messages."""
    if values.dtype.kind == "f":
        whole = np.rint(values)
        fractions = ~(np.abs(whole - values) <= INTEGER_TOLERANCE)  # NaN too
        if fractions.any():
            raise UserError(
                f"{path}: holds {values[fractions][0]:g}, which is no integer. Labels are whole numbers; was "
                "it resampled with linear interpolation, or is it an image?"
            )
        values = whole
    highest = len(dataset.class_names) - 1 if dataset.ignore is None else dataset.ignore
    for value in (values.min(), values.max()):
        if not IGNORE <= value <= highest:
            names = ", ".join(f"{index} {name}" for index, name in enumerate(dataset.class_names))
            more = "" if dataset.ignore is None else f", {dataset.ignore} ignore"
            raise UserError(
                f"{path}: holds the label {value:g}, which is none of the classes ({names}{more}; −1 is not "
                "annotated). Declare it in dataset.json, or correct the label."
            )
    labels = values.astype(np.int16)
    if dataset.ignore is not None:
        labels[labels == dataset.ignore] = IGNORE
    return labels


def write_label(path: Path, label: Labels, geometry: Geometry) -> None:
    """Write a label map in the geometry of its image.

    Volumes are signed 16-bit; pictures, which have no sign, are 8-bit where that is enough.

    Args:
        path: Its suffix is the format. Its folder exists.
        label: (*S).
        geometry: Of the image that was segmented.

    Raises:
        UserError: The format cannot hold labels, or not these.
    """
    if label.shape != geometry.size[::-1]:
        raise ValueError(f"label {label.shape} for an image of size {geometry.size}")
    suffix = next((each for each in (*VOLUMES, *PICTURES) if path.name.lower().endswith(each)), None)
    if suffix is None or (suffix in PICTURES and geometry.axes != 2):
        supported = ", ".join(VOLUMES if geometry.axes == 3 else (*VOLUMES, *PICTURES))
        raise UserError(f"{path}: labels of this image cannot be written so. Choose one of {supported}.")
    if suffix in PICTURES:
        if label.min(initial=0) < 0:
            raise UserError(f"{path}: a picture cannot hold −1. Choose one of {', '.join(VOLUMES)}.")
        label = cast(Labels, label.astype(np.uint8 if label.max(initial=0) < 256 else np.uint16))
    import SimpleITK as sitk

    spacing = geometry.spacing
    if geometry.axes > len(spacing):
        label, spacing = label[None], (*spacing, geometry.thickness)
    image: Any = sitk.GetImageFromArray(label)
    image.SetSpacing(spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=suffix != ".mhd")


def case_geometry(case: Case, dataset: SegmentationDataset) -> Geometry:
    """Where a case's voxels lie, from the header of its first file."""
    if dataset.layout == "preprocessed":
        return nnunet_v1.geometry(case.images[0], dataset.dimensions)
    return _geometry(case.images[0], dataset.dimensions)


def check_case(case: Case, dataset: SegmentationDataset) -> None:
    """Check by the files' headers that they belong together.

    Raises:
        UserError: A file is absent; channels are missing; an image, another channel or the label differs in
            size or spacing; a preprocessed case is of another plan.
    """
    if dataset.layout == "preprocessed":
        nnunet_v1.check(case.images[0], dataset)
        return
    headers = _image_headers(case, dataset.dimensions, len(dataset.channel_names))
    if case.label is not None:
        _check_same(case, case.label, image_header(case.label, dataset.dimensions), headers[0])


def loose_cases(paths: Sequence[Path], channels: int, file_ending: str, dimensions: int) -> tuple[Case, ...]:
    """Files for prediction as cases: those that differ only in their `_0000` are the channels of one.

    Args:
        paths: Image files, and folders of them.
        channels: C of the model.
        file_ending: What counts within a folder; where it has no such file, any image.
        dimensions: D of the model.

    Raises:
        UserError: A file is absent or of another dimension, a channel is missing, two cases have one name.
    """
    files = [
        file for path in paths for file in (_folder_files(path, file_ending) if path.is_dir() else [path])
    ]
    grouped: dict[tuple[Path, str], dict[int, Path]] = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: does not exist.")
        stem = file.name.removesuffix(_ending(file, file_ending))
        match = CHANNEL.fullmatch(stem)
        name, channel = (match[1], int(match[2])) if match else (stem, 0)
        grouped.setdefault((file.parent, name), {})[channel] = file
    cases: dict[str, Case] = {}
    for (parent, name), found in sorted(grouped.items()):
        if name in cases:
            raise UserError(
                f'{parent}: a case "{name}" is also in {cases[name].images[0].parent}. Predict them apart.'
            )
        cases[name] = Case(name, _complete(parent, name, found, channels, file_ending), None)
        _image_headers(cases[name], dimensions, channels)
    return tuple(cases.values())


# dataset.json


def _read_raw(folder: Path) -> SegmentationDataset:
    path = folder / "dataset.json"
    declared = read_json(path)
    if not isinstance(declared, dict):
        raise UserError(f"{path}: must be an object.")
    if "channel_names" in declared:
        layout: Literal["raw1", "raw2"] = "raw2"
    elif "modality" in declared:
        layout = "raw1"
    else:
        raise UserError(
            f'{path}: lacks "channel_names", such as {{"0": "CT"}} (version 1 calls it "modality").'
        )
    channel_names = _channel_names(path, declared)
    class_names, ignore = read_classes(path, declared)
    ending = str(declared.get("file_ending", ".nii.gz" if layout == "raw1" else ""))
    if not ending:
        raise UserError(f'{path}: lacks "file_ending", such as ".nii.gz".')
    count = len(channel_names)
    if layout == "raw1":
        if not isinstance(declared.get("training"), list):
            raise UserError(f'{path}: lacks "training", the list of {{"image": …, "label": …}}.')
        training = _listed_cases(folder, declared["training"], "Tr", count, ending)
        testing = _listed_cases(folder, declared.get("test", []), "Ts", count, ending)
    elif isinstance(declared.get("dataset"), dict):
        training, testing = _mapped_cases(folder, declared["dataset"]), ()
    else:
        training, testing = _found_cases(folder, "Tr", count, ending), ()
    if not training:
        there = sorted({"".join(file.suffixes) for file in _visible(folder / "imagesTr")})
        raise UserError(
            f"{folder / 'imagesTr'}: holds no case that ends in _0000{ending} (it has "
            f"{', '.join(there) or 'no'} files). Correct file_ending in {path}, or the names."
        )
    stated = declared.get("numTraining")
    if isinstance(stated, int) and stated > len(training):
        raise UserError(
            f"{path}: numTraining is {stated}, but there are {len(training)} training cases. Bring those "
            "that are absent, or correct the number."
        )
    if not testing and (folder / "imagesTs").is_dir():
        testing = _found_cases(folder, "Ts", count, ending)
    return SegmentationDataset(
        path=folder,
        name=str(declared.get("name", folder.name)),
        layout=layout,
        dimensions=_dimensions(training),
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=ending,
        training=training,
        testing=testing,
    )


def read_json(path: Path) -> Any:
    """What an nnU-Net `dataset.json` holds.

    Raises:
        UserError: It is missing, malformed (with line and column), or no text in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: is missing. nnU-Net's dataset.json names channels and classes.") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg})."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def _channel_names(path: Path, declared: Declared) -> tuple[str, ...]:
    key = "channel_names" if "channel_names" in declared else "modality"
    names = declared[key]
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))) or not names:
        raise UserError(f'{path}: "{key}" must number its channels from "0", such as {{"0": "CT"}}.')
    return tuple(str(names[str(index)]) for index in range(len(names)))


def read_classes(path: Path, declared: Declared) -> tuple[tuple[str, ...], int | None]:
    """The classes of a `dataset.json`.

    Args:
        path: Of the file, for messages.
        declared: What it holds; `labels` of version 1 (value first) or 2 (name first).

    Returns:
        The names, background first, each at its label value; and the value that stands for "not annotated",
        None where there is none.

    Raises:
        UserError: There are no labels, they are regions, or they are not numbered from 0 up.
    """
    labels = declared.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise UserError(f'{path}: lacks "labels", such as {{"background": 0, "tumour": 1}}.')
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise UserError(
            f'{path}: "labels" has regions (lists of values), which are not supported. Give each class one '
            "value."
        )
    if all(str(key).lstrip("-").isdigit() for key in labels) and not all(map(_is_integer, labels.values())):
        labels = {str(name): int(value) for value, name in labels.items()}  # version 1: value first
    values: dict[str, int] = {}
    for name, value in labels.items():
        if not _is_integer(value):
            raise UserError(f'{path}: the label of "{name}" is {value!r}, which is no integer.')
        values[name] = int(value)
    ignore = values.pop("ignore", None)
    if ignore is not None and ignore != IGNORE and ignore <= max(values.values(), default=0):
        raise UserError(
            f'{path}: "ignore" is {ignore}, but must be the highest label; {max(values.values())} is higher. '
            f"Give it {len(values)}, in the label files too."
        )
    if sorted(values.values()) != list(range(len(values))) or len(values) < 2:
        raise UserError(
            f"{path}: the labels are {sorted(values.values())}; they must be 0 for the background and "
            "1, 2, … without a gap for the classes."
        )
    if ignore not in (None, IGNORE, len(values)):
        raise UserError(
            f'{path}: "ignore" is {ignore}, but must be the next after the classes, {len(values)}.'
        )
    names = sorted(values, key=lambda name: values[name])
    return tuple(names), None if ignore == IGNORE else ignore


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Cases


def _visible(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))


def _found_cases(folder: Path, part: Literal["Tr", "Ts"], channels: int, ending: str) -> tuple[Case, ...]:
    """The cases of imagesTr or imagesTs, by the names of their files."""
    grouped: dict[str, dict[int, Path]] = {}
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    for file in _visible(images):
        if not file.name.endswith(ending):
            continue
        match = CHANNEL.fullmatch(file.name.removesuffix(ending))
        if match is None:
            raise UserError(f"{file}: its name lacks the channel. Call it NAME_0000{ending}.")
        grouped.setdefault(match[1], {})[int(match[2])] = file
    cases = []
    for name, found in sorted(grouped.items()):
        paths = _complete(images, name, found, channels, ending)
        label: Path | None = labels / f"{name}{ending}"
        if label is not None and not label.is_file():
            if part == "Tr":
                raise UserError(
                    f"{label}: the label of a training case is missing. Add it, or take its images out of "
                    "imagesTr."
                )
            label = None
        cases.append(Case(name, paths, label))
    if part == "Tr" and labels.is_dir():
        for file in _visible(labels):
            if file.name.endswith(ending) and file.name.removesuffix(ending) not in grouped:
                name = file.name.removesuffix(ending)
                raise UserError(
                    f"{images / name}_0000{ending}: the image of the label {file} does not exist."
                )
    return tuple(cases)


def _complete(
    folder: Path, name: str, found: Mapping[int, Path], channels: int, ending: str
) -> tuple[Path, ...]:
    """The files of one case, one a channel or one for all (a picture in colours)."""
    for channel in range(channels):
        if channel not in found and list(found) != [0]:
            raise UserError(
                f"{folder / name}_{channel:04d}{ending}: the channel is missing; the others are there."
            )
    beyond = max(found)
    if beyond >= channels:
        raise UserError(
            f"{found[beyond]}: is channel {beyond}, but there are {channels} (0 to {channels - 1})."
        )
    return tuple(found[channel] for channel in sorted(found))


def _listed_cases(
    folder: Path, entries: Sequence[Any], part: Literal["Tr", "Ts"], channels: int, ending: str
) -> tuple[Case, ...]:
    """The cases that a dataset.json of version 1 lists; it leaves the channel out of their names."""
    cases: dict[str, Case] = {}
    for entry in entries:
        image = entry.get("image") if isinstance(entry, dict) else entry
        if not isinstance(image, str):
            raise UserError(f"{folder / 'dataset.json'}: {entry!r} lists no image.")
        name = Path(image).name.removesuffix(ending)
        images = folder / f"images{part}"
        found = {
            channel: file
            for channel in range(channels)
            if (file := images / f"{name}_{channel:04d}{ending}").is_file()
        }
        if not found and (whole := images / f"{name}{ending}").is_file():
            found = {0: whole}  # all channels in one file, as the Decathlon has them
        if not found:
            raise UserError(
                f"{images / name}_0000{ending}: dataset.json lists this case, but it does not exist."
            )
        label: Path | None = folder / f"labels{part}" / f"{name}{ending}"
        if label is not None and not label.is_file():
            if part == "Tr":
                raise UserError(f"{label}: dataset.json lists this case, but its label does not exist.")
            label = None
        cases[name] = Case(name, _complete(images, name, found, channels, ending), label)
    return tuple(cases[name] for name in sorted(cases))


def _mapped_cases(folder: Path, entries: Mapping[str, Any]) -> tuple[Case, ...]:
    """The cases that a dataset.json of version 2 lists under `dataset`, wherever their files are."""
    cases = []
    for name, entry in sorted(entries.items()):
        if not isinstance(entry, dict) or not entry.get("images") or not entry.get("label"):
            raise UserError(
                f'{folder / "dataset.json"}: case "{name}" of "dataset" needs "images" and "label".'
            )
        images = tuple(folder / str(image) for image in entry["images"])
        label = folder / str(entry["label"])
        for file in (*images, label):
            if not file.is_file():
                raise UserError(
                    f'{file}: dataset.json lists it for the case "{name}", but it does not exist.'
                )
        cases.append(Case(name, images, label))
    return tuple(cases)


def _folder_files(folder: Path, ending: str) -> list[Path]:
    files = _visible(folder)
    chosen = [file for file in files if file.name.endswith(ending)]
    chosen = chosen or [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not chosen:
        raise UserError(f"{folder}: holds no image (such as NAME_0000{ending}).")
    return chosen


def _ending(file: Path, expected: str) -> str:
    if file.name.endswith(expected):
        return expected
    return file.name[-7:] if file.name.lower().endswith(".nii.gz") else file.suffix


# Headers


def _dimensions(cases: Sequence[Case]) -> int:
    """2 where images are pictures or volumes of one slice, by the first file and, of volumes, by all."""
    first = cases[0].images[0]
    placement = image_placement(first)
    if placement is None or len(placement.spacing) == 2:
        return 2 if _is_flat(first) else 3
    return 2 if all(_is_flat(case.images[0]) for case in cases) else 3


def _is_flat(path: Path) -> bool:
    try:
        image_header(path, 2)
    except UserError:
        return False
    return True


def _image_headers(case: Case, dimensions: int, channels: int) -> list[Header]:
    headers = [image_header(path, dimensions) for path in case.images]
    _check_channels(case, sum(header.channels for header in headers), channels)
    for path, header in zip(case.images[1:], headers[1:], strict=True):
        _check_same(case, path, header, headers[0])
    return headers


def _check_channels(case: Case, found: int, wanted: int) -> None:
    if found != wanted:
        raise UserError(
            f"{case.images[0]}: {found} channel{'s' * (found != 1)} where the data set has {wanted}. Further "
            "ones are files of their own (_0001, …)."
        )


def _check_same(case: Case, path: Path, header: Header, first: Header) -> None:
    if header.size != first.size:
        raise _differ(case, path, "size", header.size, first.size)
    found, wanted = header.spacing, first.spacing
    if found and wanted and not np.allclose(found, wanted, rtol=SPACING_TOLERANCE, atol=0):
        raise _differ(case, path, "spacing", found, wanted)


def _differ(case: Case, path: Path, what: str, found: Sequence[float], wanted: Sequence[float]) -> UserError:
    left, right = ("×".join(f"{number:g}" for number in numbers) for numbers in (found, wanted))
    return UserError(
        f"{path}: its {what} is {left}, that of {case.images[0]} is {right}. Both must lie on one grid: "
        "resample it, or export it again."
    )


def _geometry(path: Path, dimensions: int) -> Geometry:
    header, placement = image_header(path, dimensions), image_placement(path)
    if placement is None:
        ones, zeros = (1.0,) * dimensions, (0.0,) * dimensions
        identity = tuple(np.eye(dimensions).ravel().tolist())
        return Geometry(header.size, header.spacing or ones, zeros, identity, dimensions)
    axes = min(len(placement.origin), 3)  # a fourth one holds channels
    return Geometry(
        size=header.size,
        spacing=placement.spacing[:dimensions],
        origin=placement.origin[:axes],
        direction=tuple(placement.direction[:axes, :axes].ravel().tolist()),
        axes=axes,
        thickness=placement.spacing[2] if dimensions < axes else 1.0,
    )


def _label_pixels(path: Path, dimensions: int) -> NDArray[Any]:
    """(*S) as stored."""
    if image_format(path) == "PNG":
        from PIL import Image

        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture)  # the palette only says how to show the labels
    pixels = read_image(path, dimensions).pixels
    if len(pixels) != 1:
        raise UserError(f"{path}: has {len(pixels)} channels; a label file has one number a voxel.")
    return cast(NDArray[Any], pixels[0])


# Splits


def _splits_file(dataset: SegmentationDataset) -> Path | None:
    folders = [dataset.path] + [dataset.path.parent] * (dataset.layout == "preprocessed")
    candidates = [folder / f"splits_final{suffix}" for folder in folders for suffix in (".json", ".pkl")]
    return next((path for path in candidates if path.is_file()), None)


def _listed_split(
    path: Path, dataset: SegmentationDataset, fold: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    splits = read_json(path) if path.suffix == ".json" else nnunet_v1.read_pickle(path)
    if not isinstance(splits, list) or not all(
        isinstance(s, dict) and {"train", "val"} <= set(s) for s in splits
    ):
        raise UserError(f'{path}: must be a list with "train" and "val" for each fold.')
    if not 0 <= fold < len(splits):
        raise UserError(f"trainer.fold: {fold} is none of the {len(splits)} folds of {path}, nor all.")
    cases = {case.id: case for case in dataset.training}
    names = {part: [str(name) for name in splits[fold][part]] for part in ("train", "val")}
    for name in [*names["train"], *names["val"]]:
        if name not in cases:
            raise UserError(
                f'{path}: fold {fold} lists the case "{name}", which {dataset.path} does not have.'
            )
    both = sorted(set(names["train"]) & set(names["val"]))
    if both:
        raise UserError(f'{path}: fold {fold} has "{both[0]}" in "train" and in "val".')
    if not names["train"]:
        raise UserError(f"{path}: fold {fold} trains on no case.")
    return tuple(cases[n] for n in names["train"]), tuple(cases[n] for n in names["val"])


# Preprocessed by version 1


def _read_preprocessed(stage: Path) -> SegmentationDataset:
    plan, arrays = nnunet_v1.stage_plan(stage), nnunet_v1.stage_cases(stage)
    for file in sorted(stage.glob("*.npz")):
        if not file.with_suffix(".pkl").is_file() and not file.stem.endswith(nnunet_v1.WEIGHT_MAP):
            raise UserError(f"{file.with_suffix('.pkl')}: the properties of {file.name} are missing.")
    shapes = [nnunet_v1.array_shape(path) for path in arrays.values()]
    flat = all(len(shape) == 3 or shape[1] == 1 for shape in shapes)
    declaration = stage.parent / "dataset.json"
    declared = read_json(declaration) if declaration.is_file() else {}
    if "labels" in declared:
        class_names, ignore = read_classes(declaration, declared)
    else:
        classes = nnunet_v1.highest_class(arrays.values()) if plan is None else plan.classes
        class_names, ignore = ("background", *(str(index + 1) for index in range(classes))), None
    if plan is not None and plan.classes + 1 != len(class_names):
        raise UserError(
            f"{plan.path}: is for {plan.classes} classes, but {declaration} has {len(class_names) - 1}. It "
            "is another data set's plan, or the classes have changed: preprocess again."
        )
    if "modality" in declared or "channel_names" in declared:
        channel_names = _channel_names(declaration, declared)
    else:
        channel_names = tuple(str(channel) for channel in range(shapes[0][0] - 1))
    if plan is not None and len(plan.channel_names) != len(channel_names):
        raise UserError(
            f"{plan.path}: is for {len(plan.channel_names)} channels, but {stage} has {len(channel_names)}. "
            "It is another data set's plan: preprocess again."
        )
    return SegmentationDataset(
        path=stage,
        name=str(declared.get("name", stage.parent.name)),
        layout="preprocessed",
        dimensions=2 if flat else 3,
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=".nii.gz",
        training=tuple(Case(name, (path,), None) for name, path in arrays.items()),
        testing=(),
    )


def _read_preprocessed_case(case: Case, dataset: SegmentationDataset, with_label: bool) -> CaseImage:
    path = case.images[0]
    nnunet_v1.check(path, dataset)
    array = nnunet_v1.read_array(path)
    array = array.reshape(len(array), *array.shape[-dataset.dimensions :])
    label = as_labels(np.asarray(array[-1]), path, dataset) if with_label else None
    pixels = np.array(array[:-1], np.float32)
    return CaseImage(pixels, label, case_geometry(case, dataset))
