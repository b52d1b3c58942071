"""Image files of a run: files of the installed formats, and of its plugins' readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from lannunet_core import (
    Header,
    Image,
    ImageReader,
    LoadedConfig,
    Placement,
    UserError,
    ask_class,
    echo,
    image_format,
    image_formats,
    image_header,
    image_placement,
    image_suffixes,
    read_image,
    series_of,
    terminal_text,
)
from lannunet_images.series import (
    Series,
    folder_of,
    image_name,
    read_series,
    slices_in,
    title_of,
)


def has_any_name(path: Path) -> bool:
    """Whether a file has a format whose files often have no suffix, regardless of its name.

    DICOMDIR, the list of files on a DICOM medium, has the same format and is not an image.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        found = image_format(path) if path.is_file() else ""
    except UserError:
        return False
    return any(one.by_name_too for one in image_formats() if one.name == found)


@dataclass(frozen=True)
class ImageFiles:
    """Reads image files. It is pickled for loader workers.

    `readers` are by suffix, lower-case with its dot; they take precedence over the installed formats.
    """

    readers: Mapping[str, ImageReader] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: LoadedConfig) -> ImageFiles:
        """Image files with the readers of a run's plugins; the last plugin takes precedence."""
        readers: dict[str, ImageReader] = {}
        for plugin in loaded.plugins:
            found = ask_class(plugin.installed, plugin.plugin_class.image_readers)
            readers |= {suffix.lower(): reader for suffix, reader in found.items()}
        return cls(readers)

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*image_suffixes(), *self.readers)))

    def knows(self, path: Path) -> bool:
        """Whether a file of a folder is an image, by its suffix; DICOM, which often has none, by content.

        A folder is an image if it contains DICOM slices, see `read_series`. Hidden files are not images:
        macOS writes ._x.png next to x.png on disks of other systems.
        """
        if path.name.startswith("."):
            return False
        if folder_of(path) is not None:
            return bool(slices_in(path))
        return path.name.lower().endswith(self.suffixes) or has_any_name(path)

    def read(self, path: Path, dimensions: int) -> Image:
        """An image's pixels and spacing, see `read_image`; for a folder of DICOM slices, `read_series`."""
        if folder_of(path) is not None:
            return _volume(path, dimensions).read()
        reader = self.reader(path)
        return read_image(path, dimensions) if reader is None else self._read_by(reader, path, dimensions)

    def header(self, path: Path, dimensions: int) -> Header:
        """Size, channels and spacing, see `image_header`."""
        if folder_of(path) is not None:
            return _volume(path, dimensions).header
        reader = self.reader(path)
        if reader is None:
            return image_header(path, dimensions)
        image = self._read_by(reader, path, dimensions)
        return Header(tuple(image.pixels.shape[:0:-1]), image.pixels.shape[0], image.spacing)

    def placement(self, path: Path) -> Placement | None:
        """The placement of the voxels, see `image_placement`; None for files that a plugin reads."""
        if folder_of(path) is not None:
            return read_series(path).header.placement
        return None if self.reader(path) else image_placement(path)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The files of an image: the slices of a volume, else the file itself."""
        return read_series(path).files if folder_of(path) is not None else (path,)

    def volumes(self, folder: Path, files: Sequence[Path]) -> list[Path]:
        """The images in the files of a folder, for a model of volumes.

        The slices of a DICOM series are one image, named by the folder. If the folder contains several
        series, each is named FOLDER/SeriesInstanceUID, and all are listed. Every other file is one image.
        """
        series = self._series(files)
        volumes = {uid: slices for uid, slices in series.items() if self._are_slices(slices)}
        if not volumes:
            return list(files)
        if folder.name in ("", ".."):
            folder = folder.resolve()
        if len(series) == 1:
            named, taken = [folder], slices_in(folder)
        else:
            named, taken = [folder / uid for uid in volumes], [*chain(*volumes.values())]
            echo(f"{terminal_text(folder)}: has {len(series)} DICOM series; these are volumes:")
            for uid, slices in volumes.items():
                title = title_of(slices[0]) or "without a title"
                name = image_name(folder / uid)
                echo(terminal_text(f"  {name}: {title}, {len(slices)} files"))
        others = set(files) - set(taken)
        return [*named, *(file for file in files if file in others)]

    def check_series(self, folder: Path, files: Sequence[Path], dimensions: int) -> None:
        """Refuse single slices of a volume if the model needs volumes; warn if it needs 2D images.

        Args:
            folder: The folder of the files.
            files: The files that the user names one by one.
            dimensions: Dimensions of the model's images.
        """
        slices = max(self._series(files).values(), key=len, default=[])
        if len(slices) < 2:
            return
        text = f"{terminal_text(folder)}: {len(slices)} files are slices of one DICOM series"
        if dimensions == 2:
            echo(f"warning: {text}; each is predicted as a separate image.", err=True)
        elif self._are_slices(slices):
            raise UserError(f"{text}. Name the folder, which is read as one volume.")

    def _series(self, files: Iterable[Path]) -> dict[str, list[Path]]:
        """The files of each DICOM series, by its UID."""
        found: dict[str, list[Path]] = {}
        for path in files:
            if self.reader(path) is None and (series := series_of(path)):
                found.setdefault(series, []).append(path)
        return found

    def _are_slices(self, files: Sequence[Path]) -> bool:
        """Whether files of a series are slices of one volume, not one volume each."""
        return len(files) > 1 and self.header(files[0], 3).size[2] == 1

    def reader(self, path: Path) -> ImageReader | None:
        """The plugin's reader for a file; None: an installed format reads it."""
        suffixes = [suffix for suffix in self.readers if path.name.lower().endswith(suffix)]
        return self.readers[max(suffixes, key=len)] if suffixes else None

    def _read_by(self, reader: ImageReader, path: Path, dimensions: int) -> Image:
        try:
            pixels, spacing = reader(path)
        except UserError:
            raise
        except Exception as error:  # a reader may raise any error for a damaged file
            raise UserError(
                f"{path}: cannot be read by the plugin's reader ({type(error).__name__}: {error}). Copy or "
                "convert the image again."
            ) from error
        pixels = np.asarray(pixels)
        if pixels.ndim != dimensions + 1 or pixels.dtype.kind not in "biuf" or not pixels.size:
            raise UserError(
                f"{path}: the plugin's reader returns an array of shape {pixels.shape}, type {pixels.dtype}, "
                f"should be numbers (C, {'z, ' if dimensions == 3 else ''}y, x). Report it to its author."
            )
        if pixels.dtype.kind == "b":
            pixels = pixels.view(np.uint8)
        return Image(pixels, None if spacing is None else tuple(float(step) for step in spacing))


def _volume(path: Path, dimensions: int) -> Series:
    if dimensions != 3:
        raise UserError(
            f"{path}: is a folder, which is read as a volume, where 2D is needed. Name its files."
        )
    return read_series(path)


IMAGE_FILES = ImageFiles()
"""The image files without any plugin."""
