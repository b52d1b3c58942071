"""Read nnU-Net folders, raw or preprocessed: their cases, by file names and `dataset.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lannunet_images import IMAGE_FILES, ImageFiles, is_series

from lannunet_core import LoadedConfig, UserError, echo, inside, open_in_format, terminal_text
from lannunet_segmentation.data import nnunet_v1, nnunet_v2
from lannunet_segmentation.data.cases import CHANNEL, complete, read_case as read_case, visible
from lannunet_segmentation.data.declaration import (
    read_annotated,
    read_channels,
    read_classes,
    read_ending,
    read_json,
    read_name,
    read_regions,
)
from lannunet_segmentation.data.headers import dimensions_of
from lannunet_segmentation.data.places import located
from lannunet_segmentation.schema import DatasetConfig
from lannunet_segmentation.types import Case, SegmentationDataset

LISTED_KEYS = {"image", "label"}  # of an entry in version 1
MAPPED_KEYS = {"images", "label"}  # of an entry in version 2


def open_dataset(loaded: LoadedConfig) -> SegmentationDataset:
    """Open the data set of a run: an nnU-Net folder, or one in the format of one of its plugins."""
    files = ImageFiles.of(loaded)

    def own(config: DatasetConfig) -> SegmentationDataset:
        return read_dataset(config.root, files)

    dataset = open_in_format(loaded, own)
    if not isinstance(dataset, SegmentationDataset):
        raise UserError(
            f"dataset.format: {loaded.run.dataset.format} returns a {type(dataset).__name__}, should return "
            "a SegmentationDataset. Report it to its author."
        )
    return replace(checked(dataset), files=files)


def checked(dataset: SegmentationDataset) -> SegmentationDataset:
    """The data set, after checking that its case names can be file names.

    Raises:
        UserError: They cannot, or two cases of a part have one name.
    """
    for cases in (dataset.training, dataset.testing):
        seen: set[str] = set()
        for case in cases:
            inside(dataset.path, case.id, f"{dataset.path}: the name of a case")
            if case.id in seen:
                raise UserError(f'{dataset.path}: two cases are called "{case.id}". Rename one.')
            seen.add(case.id)
    return dataset


def read_dataset(folder: Path, files: ImageFiles = IMAGE_FILES) -> SegmentationDataset:
    """Read an nnU-Net folder, by names and `dataset.json`, without voxels.

    Args:
        folder: A raw folder of version 1 or 2, or a preprocessed one. For version 1: a `…_stage0`, or its
            parent, of which the finest stage of the 3D plan is used. For version 2: that of a configuration
            (`nnUNetPlans_3d_fullres`), or its parent, see `find_configuration`. Or a data set's number or
            name, see `located`.
        files: Reader of its images and labels.

    Raises:
        UserError: It is not such a folder, or is inconsistent.
    """
    folder = located(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: is not a folder. Name an nnU-Net folder (DatasetXXX_NAME or TaskXXX_NAME)."
        )
    if (folder / "imagesTr").is_dir():
        return checked(_read_raw(folder, files))
    if (configuration := nnunet_v2.find_configuration(folder)) is not None:
        return checked(_read_configuration(configuration))
    if _is_preprocessed_by_version_2(folder):
        raise UserError(
            f"{folder}: was preprocessed by a version 2 of nnU-Net before 2.6, or lacks its cases (.b2nd). "
            "Name the folder that it was made from (nnUNet_raw/DatasetXXX_NAME, with imagesTr), or "
            "preprocess it again."
        )
    if (stage := nnunet_v1.find_stage(folder)) is not None:
        return checked(_read_preprocessed(stage))
    if (folder / "dataset.json").is_file():
        raise UserError(f"{folder / 'imagesTr'}: the folder of training images is missing.")
    raise UserError(
        f"{folder}: is not an nnU-Net folder: it holds neither dataset.json and imagesTr (raw), nor a folder "
        "…_stage0 or cases as .npz and .pkl (preprocessed by version 1)."
    )


def is_dataset(folder: Path) -> bool:
    """Whether it seems to be such a folder, even if damaged."""
    try:
        folder = located(folder)
        known = (folder / "imagesTr").is_dir() or _is_preprocessed_by_version_2(folder)
        return known or nnunet_v1.is_stage(folder) or bool(nnunet_v1.stages(folder))
    except OSError:
        return False


def _is_preprocessed_by_version_2(folder: Path) -> bool:
    """Whether it, or its parent folder, has plans of version 2, which are JSON."""
    if any((*folder.glob("*lans.json"), *folder.glob("dataset_fingerprint.json"))):
        return True
    arrays = [path for ending in ("npz", "npy", "b2nd") for path in folder.glob(f"*.{ending}")]
    return bool(arrays) and any(folder.resolve().parent.glob("*lans.json"))


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
    regions = read_regions(path, declared)
    ending = read_ending(path, declared, ".nii.gz" if layout == "raw1" else "")
    count = len(channel_names)
    if layout == "raw1":
        if not isinstance(declared.get("training"), list):
            raise UserError(f'{path}: lacks "training", the list of {{"image": …, "label": …}}.')
        training = _listed_cases(folder, declared["training"], "Tr", count, ending)
        tests = declared.get("test", [])
        if not isinstance(tests, list):
            raise UserError(f'{path}: "test" is {tests!r}, but must be a list of images.')
        testing = _listed_cases(folder, tests, "Ts", count, ending)
    elif isinstance(declared.get("dataset"), dict):
        training, testing = _mapped_cases(folder, declared["dataset"]), ()
    else:
        training, testing = _found_cases(folder, "Tr", count, ending), ()
        _say_left_out(folder / "imagesTr", ending, files)
    if not training:
        there = sorted({"".join(file.suffixes) for file in visible(folder / "imagesTr")})
        raise UserError(
            f"{folder / 'imagesTr'}: holds no case that ends in _0000{ending} (it has "
            f"{', '.join(there) or 'no'} files). Correct file_ending in {path}, or the names."
        )
    stated = declared.get("numTraining")
    if isinstance(stated, int) and stated > len(training):
        raise UserError(
            f"{path}: numTraining is {stated}, but there are {len(training)} training cases. Add the "
            "missing ones, or correct the number."
        )
    if not testing and (folder / "imagesTs").is_dir():
        testing = _found_cases(folder, "Ts", count, ending)
    found = SegmentationDataset(
        path=folder,
        name=read_name(declared, folder),
        layout=layout,
        dimensions=dimensions_of(training, len(channel_names), files),
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=ending,
        training=training,
        testing=testing,
        files=files,
        regions=regions,
    )
    return _partly_annotated(found, path, declared)


def _partly_annotated(
    dataset: SegmentationDataset, path: Path, declared: Mapping[str, Any]
) -> SegmentationDataset:
    """Cases with their annotated classes, from `annotated` of dataset.json."""
    partly = read_annotated(path, declared, dataset.outputs)
    known = {case.id for case in (*dataset.training, *dataset.testing)}
    if unknown := sorted(set(partly) - known):
        raise UserError(
            f'{path}: "annotated" names the case "{terminal_text(unknown[0])}", which does not exist. '
            "Correct the name, or remove it."
        )

    def of(cases: Sequence[Case]) -> tuple[Case, ...]:
        return tuple(replace(case, annotated=partly.get(case.id)) for case in cases)

    return replace(dataset, training=of(dataset.training), testing=of(dataset.testing))


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
                    f"{label}: the label of a training case is missing. Add it, or remove its images from "
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


def _say_left_out(images: Path, ending: str, readers: ImageFiles) -> None:
    others = [f.name for f in visible(images) if readers.knows(f) and not f.name.endswith(ending)]
    if others:
        names = ", ".join(others[:5]) + (f" and {len(others) - 5} others" if len(others) > 5 else "")
        echo(
            f"warning: {images}: left out, as their names do not end in {ending}: {terminal_text(names)}",
            err=True,
        )


def _listed_cases(
    folder: Path, entries: Sequence[Any], part: Literal["Tr", "Ts"], channels: int, ending: str
) -> tuple[Case, ...]:
    """The cases that a dataset.json of version 1 lists, with names without a channel."""
    cases: dict[str, Case] = {}
    where, images = folder / "dataset.json", folder / f"images{part}"
    for entry in entries:
        image = entry.get("image") if isinstance(entry, dict) else entry
        if not isinstance(image, str):
            raise UserError(f"{where}: {entry!r} lists no image.")
        name = Path(image).name.removesuffix(ending)
        inside(images, name, f"{where}: the name of a case")
        if name in cases:
            raise UserError(f'{where}: lists the case "{name}" twice. Remove one.')
        found = {
            channel: file
            for channel in range(channels)
            if (file := images / f"{name}_{channel:04d}{ending}").is_file()
        }
        if not found and (whole := images / f"{name}{ending}").is_file():
            found = {0: whole}  # all channels in one file, as in the Decathlon
            match = CHANNEL.fullmatch(name)
            if match and (folder / f"labels{part}" / f"{match[1]}{ending}").is_file():
                raise UserError(
                    f'{where}: lists the image "{terminal_text(image)}". Version 1 omits the channel: '
                    f'write "./images{part}/{match[1]}{ending}".'
                )
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
    """The cases that a dataset.json of version 2 lists under `dataset`, with files anywhere."""
    cases = []
    where = folder / "dataset.json"
    for name, entry in sorted(entries.items()):
        inside(folder, name, f'{where}: the name of a case of "dataset"')
        images = entry.get("images") if isinstance(entry, dict) else None
        files = [*images, entry.get("label")] if isinstance(images, list) else []
        if len(files) < 2 or not all(isinstance(file, str) for file in files):
            raise UserError(
                f'{where}: case "{name}" of "dataset" needs "images", a list of paths, and "label", a path.'
            )
        paths = [folder / file for file in files]
        for path in paths:
            if not _is_file(path) and not (path != paths[-1] and is_series(path)):
                raise UserError(f'{where}: lists {str(path)!r} for the case "{name}", but it does not exist.')
        cases.append(Case(name, tuple(paths[:-1]), paths[-1], _further(entry, MAPPED_KEYS)))
    return tuple(cases)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # it is too long, or not a valid path
        return False


def _further(entry: Any, known: set[str]) -> dict[str, Any]:
    """The additional fields of an entry."""
    return {key: value for key, value in entry.items() if key not in known} if isinstance(entry, dict) else {}


def _listed_fields(entries: Any) -> dict[str, dict[str, Any]]:
    """The additional fields of entries in a dataset.json of version 1, by case."""
    fields = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(image := entry.get("image"), str):
            fields[Path(image).name.removesuffix(".nii.gz")] = _further(entry, LISTED_KEYS)
    return fields


def _read_preprocessed(stage: Path) -> SegmentationDataset:
    plan, arrays = nnunet_v1.stage_plan(stage), nnunet_v1.stage_cases(stage)
    for file in visible(stage):
        is_case = file.suffix == ".npz" and not file.stem.endswith(nnunet_v1.WEIGHT_MAP)
        if is_case and not file.with_suffix(".pkl").is_file():
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
    regions = read_regions(declaration, declared) if "labels" in declared else ()
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
    found = SegmentationDataset(
        path=stage,
        name=read_name(declared, stage.parent),
        layout="preprocessed",
        dimensions=2 if flat else 3,
        channel_names=channel_names,
        class_names=class_names,
        ignore=ignore,
        file_ending=".nii.gz",
        training=tuple(Case(name, (path,), None, fields.get(name, {})) for name, path in arrays.items()),
        testing=(),
        regions=regions,
    )
    return _partly_annotated(found, declaration, declared)


def _read_configuration(folder: Path) -> SegmentationDataset:
    """Read a folder that version 2 preprocessed."""
    cases, path = nnunet_v2.configuration_cases(folder), folder.parent / "dataset.json"
    for name, file in cases.items():
        if not file.with_suffix(".pkl").is_file():
            raise UserError(f"{file.with_suffix('.pkl')}: the properties of {name} are missing.")
    declared = read_json(path)
    if not isinstance(declared, dict) or "channel_names" not in declared:
        raise UserError(f'{path}: lacks "channel_names", such as {{"0": "CT"}}.')
    class_names, ignore = read_classes(path, declared)
    flat = all(nnunet_v2.preprocessed_shape(file)[1] == 1 for file in cases.values())
    found = SegmentationDataset(
        path=folder,
        name=read_name(declared, folder.parent),
        layout="preprocessed",
        dimensions=2 if flat else 3,
        channel_names=read_channels(path, declared),
        class_names=class_names,
        ignore=ignore,
        file_ending=".nii.gz",
        training=tuple(Case(name, (file,), None) for name, file in cases.items()),
        testing=(),
        regions=read_regions(path, declared),
    )
    return _partly_annotated(found, path, declared)
