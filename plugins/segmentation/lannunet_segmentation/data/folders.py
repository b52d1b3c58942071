"""nnU-Net folders, raw or preprocessed: which cases they hold, by names and `dataset.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lannunet_core import IMAGE_FILES, ImageFiles, LoadedConfig, UserError, open_in_format
from lannunet_segmentation.data import nnunet_v1
from lannunet_segmentation.data.cases import CHANNEL, complete, visible
from lannunet_segmentation.data.declaration import read_channels, read_classes, read_json
from lannunet_segmentation.data.headers import dimensions_of
from lannunet_segmentation.schema import DatasetConfig
from lannunet_segmentation.types import Case, SegmentationDataset

LISTED_KEYS = {"image", "label"}  # of an entry in version 1
MAPPED_KEYS = {"images", "label"}  # and in version 2


def open_dataset(loaded: LoadedConfig) -> SegmentationDataset:
    """The data set of a run: an nnU-Net folder, or in the format of one of its plugins."""
    files = ImageFiles.of(loaded)

    def own(config: DatasetConfig) -> SegmentationDataset:
        return read_dataset(config.root, files)

    dataset = open_in_format(loaded, own)
    if not isinstance(dataset, SegmentationDataset):
        raise UserError(
            f"dataset.format: {loaded.run.dataset.format} gives a {type(dataset).__name__}, should give a "
            "SegmentationDataset. Tell its author."
        )
    _check_ids(dataset)
    return replace(dataset, files=files)


def _check_ids(dataset: SegmentationDataset) -> None:
    """Files are called after cases."""
    for cases in (dataset.training, dataset.testing):
        seen: set[str] = set()
        for case in cases:
            if case.id in ("", ".", "..") or Path(case.id).name != case.id or "\\" in case.id:
                raise UserError(f'{dataset.path}: a case is called "{case.id}", which cannot name a file.')
            if case.id in seen:
                raise UserError(f'{dataset.path}: two cases are called "{case.id}". Rename one.')
            seen.add(case.id)


def read_dataset(folder: Path, files: ImageFiles = IMAGE_FILES) -> SegmentationDataset:
    """What an nnU-Net folder holds, by names and `dataset.json`; no voxel is read.

    Args:
        folder: A raw folder of version 1 or 2, or a preprocessed one of version 1: a `…_stage0`, or its
            parent, of which the finest stage of the 3D plan is taken.
        files: What reads its images and labels.

    Raises:
        UserError: It is no such folder, or it contradicts itself.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder. Name an nnU-Net folder (DatasetXXX_NAME or TaskXXX_NAME).")
    if (folder / "imagesTr").is_dir():
        return _read_raw(folder, files)
    if (stage := nnunet_v1.find_stage(folder)) is not None:
        return _read_preprocessed(stage)
    if (folder / "dataset.json").is_file():
        raise UserError(f"{folder / 'imagesTr'}: the folder of training images is missing.")
    raise UserError(
        f"{folder}: is no nnU-Net folder: it holds neither dataset.json and imagesTr (raw), nor a folder "
        "…_stage0 or cases as .npz and .pkl (preprocessed by version 1)."
    )


def is_dataset(folder: Path) -> bool:
    """Whether it looks like such a folder, however damaged."""
    try:
        return (folder / "imagesTr").is_dir() or nnunet_v1.is_stage(folder) or bool(nnunet_v1.stages(folder))
    except OSError:
        return False


def _read_raw(folder: Path, files: ImageFiles) -> SegmentationDataset:
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
    channel_names = read_channels(path, declared)
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
        there = sorted({"".join(file.suffixes) for file in visible(folder / "imagesTr")})
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
        dimensions=dimensions_of(training, files),
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=ending,
        training=training,
        testing=testing,
        files=files,
    )


def _found_cases(folder: Path, part: Literal["Tr", "Ts"], channels: int, ending: str) -> tuple[Case, ...]:
    """The cases of imagesTr or imagesTs, by the names of their files."""
    grouped: dict[str, dict[int, Path]] = {}
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    for file in visible(images):
        if not file.name.endswith(ending):
            continue
        match = CHANNEL.fullmatch(file.name.removesuffix(ending))
        if match is None:
            raise UserError(f"{file}: its name lacks the channel. Call it NAME_0000{ending}.")
        grouped.setdefault(match[1], {})[int(match[2])] = file
    cases = []
    for name, found in sorted(grouped.items()):
        paths = complete(images, name, found, channels, ending)
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
        for file in visible(labels):
            if file.name.endswith(ending) and file.name.removesuffix(ending) not in grouped:
                name = file.name.removesuffix(ending)
                raise UserError(
                    f"{images / name}_0000{ending}: the image of the label {file} does not exist."
                )
    return tuple(cases)


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
        paths = complete(images, name, found, channels, ending)
        cases[name] = Case(name, paths, label, _further(entry, LISTED_KEYS))
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
        cases.append(Case(name, images, label, _further(entry, MAPPED_KEYS)))
    return tuple(cases)


def _further(entry: Any, known: set[str]) -> dict[str, Any]:
    """The further fields of an entry."""
    return {key: value for key, value in entry.items() if key not in known} if isinstance(entry, dict) else {}


def _listed_fields(entries: Any) -> dict[str, dict[str, Any]]:
    """The further fields of what a dataset.json of version 1 lists, by case."""
    fields = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(image := entry.get("image"), str):
            fields[Path(image).name.removesuffix(".nii.gz")] = _further(entry, LISTED_KEYS)
    return fields


def _read_preprocessed(stage: Path) -> SegmentationDataset:
    plan, arrays = nnunet_v1.stage_plan(stage), nnunet_v1.stage_cases(stage)
    for file in sorted(stage.glob("*.npz")):
        if not file.with_suffix(".pkl").is_file() and not file.stem.endswith(nnunet_v1.WEIGHT_MAP):
            raise UserError(f"{file.with_suffix('.pkl')}: the properties of {file.name} are missing.")
    shapes = [nnunet_v1.preprocessed_shape(path) for path in arrays.values()]
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
        channel_names = read_channels(declaration, declared)
    else:
        channel_names = tuple(str(channel) for channel in range(shapes[0][0] - 1))
    if plan is not None and len(plan.channel_names) != len(channel_names):
        raise UserError(
            f"{plan.path}: is for {len(plan.channel_names)} channels, but {stage} has {len(channel_names)}. "
            "It is another data set's plan: preprocess again."
        )
    fields = _listed_fields(declared.get("training"))
    return SegmentationDataset(
        path=stage,
        name=str(declared.get("name", stage.parent.name)),
        layout="preprocessed",
        dimensions=2 if flat else 3,
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=".nii.gz",
        training=tuple(Case(name, (path,), None, fields.get(name, {})) for name, path in arrays.items()),
        testing=(),
    )
