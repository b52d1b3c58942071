"""Standalone image files as cases, for prediction: their grouping and names.

A folder may contain files of any format. Files that cannot be predicted correctly are reported by name,
before anything is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lannunet_images import IMAGE_FILES, ImageFiles, image_name, is_series

from lannunet_core import UserError, echo, terminal_text
from lannunet_segmentation.data.cases import CHANNEL, complete, file_ending, visible
from lannunet_segmentation.data.headers import image_headers
from lannunet_segmentation.types import Case

BESIDE = (".json", ".raw", ".zraw")  # files that belong to an image: its spacing, its voxels


def loose_cases(
    paths: Sequence[Path], channels: int, dimensions: int, readers: ImageFiles = IMAGE_FILES
) -> tuple[Case, ...]:
    """Group files for prediction into cases: files that differ only in their `_0000` are channels of one.

    Args:
        paths: Image files, and folders of them; each series of DICOM slices in one is a volume.
        channels: C of the model.
        dimensions: D of the model.
        readers: Reader of the image files.

    Raises:
        UserError: A file is missing or has another dimension, a channel is missing, two cases have one name,
            or slices of a DICOM series are given instead of their folder.
    """
    folders: dict[Path, dict[Path, None]] = {}  # the files of each folder, once
    for path in paths:
        for file in _folder_files(path, dimensions, readers) if path.is_dir() else [path]:
            if not file.exists() and not is_series(file):
                raise UserError(f"{file}: does not exist.")
            folders.setdefault(file.parent, {})[file] = None
    cases: dict[str, Case] = {}
    for folder, files in sorted(folders.items()):
        readers.check_series(folder, list(files), dimensions)
        for name, found in _grouped(list(files), channels, readers).items():
            if name in cases:
                raise UserError(
                    f'{folder}: a case "{name}" is also in {cases[name].images[0].parent}. Predict them '
                    "apart."
                )
            ending = file_ending(next(iter(found.values())), readers)
            cases[name] = Case(name, complete(folder, name, found, channels, ending), None)
            image_headers(cases[name], dimensions, channels, readers)
    return tuple(cases.values())


def _grouped(files: Sequence[Path], channels: int, readers: ImageFiles) -> dict[str, dict[int, Path]]:
    """The files of one folder, by case and channel. Numbers that are not channels belong to the name."""
    stems = {file: image_name(file).removesuffix(file_ending(file, readers)) for file in files}
    all_stems = set(stems.values())
    grouped: dict[str, dict[int, Path]] = {}
    for file, stem in sorted(stems.items()):
        name, channel = stem, 0
        if match := CHANNEL.fullmatch(stem):
            if int(match[2]) < channels or f"{match[1]}_0000" in all_stems:
                name, channel = match[1], int(match[2])
            else:
                echo(f"warning: {terminal_text(file)}: is treated as a case, not as a channel", err=True)
        found = grouped.setdefault(name, {})
        if channel in found:
            raise UserError(
                f'{file}: is the case "{name}", as {found[channel].name} is. Rename one, or predict them '
                "apart."
            )
        found[channel] = file
    return dict(sorted(grouped.items()))


def _folder_files(folder: Path, dimensions: int, readers: ImageFiles) -> list[Path]:
    """The images of a folder; DICOM slices are joined to volumes if the model needs these."""
    files = visible(folder)
    chosen = [file for file in files if readers.knows(file)]
    if not chosen:
        below = sorted(path.name for path in folder.iterdir() if path.is_dir())
        more = f" Folders in it are not searched; name them: {', '.join(below[:3])}." if below else ""
        raise UserError(
            f"{folder}: holds no image; known are DICOM and files in {', '.join(readers.suffixes)}.{more}"
        )
    used = set(chosen)
    if left := [file.name for file in files if file not in used and file.suffix.lower() not in BESIDE]:
        names = ", ".join(left[:5]) + (f" and {len(left) - 5} others" if len(left) > 5 else "")
        echo(f"warning: {folder}: left out, as they are not images: {terminal_text(names)}", err=True)
    return readers.volumes(folder, chosen) if dimensions == 3 else chosen
