"""The contract of an annotation format; `lannunet plugins check my-format` checks the same.

from lannunet_landmarks.conformance import FormatConformance

class TestMyFormat(FormatConformance):
    format = "my-format"
    example = "tests/example.my"  # for a format that only reads: a file, with its images
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import UserError
from lannunet_core.testing import Broken, NotClaimed
from lannunet_landmarks.data.exchange import read_source
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import (
    Annotated,
    Annotations,
    LandmarkFormat,
    Mark,
    format_called,
    matching,
)

HEAVY = ("torch", "matplotlib", "lightning_fabric", "SimpleITK")
IMPORT = (
    "import json, sys; from lannunet_landmarks.data.formats import formats; "
    "found = [one for one in formats()]; "
    "print(json.dumps(sorted(set(sys.modules) & set(sys.argv[1:]))))"
)
NAMES = ("1", "2", "3")  # landmark names in formats that store none
SIZE = {2: (60, 40), 3: (20, 16, 12)}


class FormatConformance:
    """A test class for a format; set its attributes.

    Attributes:
        format: Name of the format.
        example: A file or folder of the format, with its images beside it; required if the format cannot
            write.
    """

    format: str
    example: str | None = None

    def test_it_is_found(self) -> None:
        """It is registered under its name, and has a title."""
        of = self._format()
        if not of.title or of.name != self.format:
            raise Broken(f"its name is {of.name!r}, and its title is {of.title!r}")
        if of.read is None and of.write is None:
            raise Broken("it neither reads nor writes")

    def test_formats_import_without_torch(self) -> None:
        """Finding the format imports no heavy library, because every command that opens data searches the
        formats."""
        ended = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {IMPORT}", *HEAVY],
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise Broken(f"it cannot be imported: {ended.stderr.strip().splitlines()[-1]}")
        if heavy := json.loads(ended.stdout):
            raise Broken(f"importing it imports {', '.join(heavy)}; import where it is needed")

    def test_it_knows_its_own_files_alone(self) -> None:
        """`matches` accepts its own files, and rejects images, empty files, other JSON and tables."""
        with self._source() as (source, _):
            found = matching(source)
            if found is None or found.name != self.format:
                raise Broken(f"its own {source.name} is recognised as {found and found.name}")
            others = {
                "empty": b"",
                "picture.png": b"\x89PNG\r\n\x1a\n",
                "a.json": b'{"a": 1}',
                "a.csv": b"a,b\n1,2\n",
            }
            for name, content in others.items():
                other = source.parent / f"other-{name}"
                other.write_bytes(content)
                if matching(other) is not None and matching(other) == self._format():
                    raise Broken(f"it accepts {content!r} as a file of its own")

    def test_what_it_writes_it_reads(self) -> None:
        """Points, states and images survive writing and reading, in each coordinate system and dimension."""
        of = self._format()
        if of.read is None or of.write is None:
            raise NotClaimed("it does not both read and write")
        for system in of.systems:
            for dimensions in of.dimensions if system == "pixel" else (3,):
                with tempfile.TemporaryDirectory() as place:
                    before = drawn(Path(place) / "images", dimensions)
                    out = _place(place, of)
                    of.write(in_system(before, system), out)
                    after = in_system(read_source(out, of, Path(place) / "images"), "pixel")
                    self._compare(before, after)

    def test_an_example_is_read(self) -> None:
        """Its images are there, and its landmarks have names."""
        with self._source() as (source, images):
            found = read_source(source, self._format(), images)
            if missing := [one.image for one in found.images if not one.image.is_file()]:
                raise Broken(f"it names {missing[0]}, which is not there; say so in a UserError")
            unknown = {name for one in found.images for name in one.marks} - set(found.names)
            if unknown:
                raise Broken(f"it places {sorted(unknown)}, which are not among the names")

    def test_a_damaged_file_is_refused(self) -> None:
        """Half of a file is refused with one sentence, or read as fewer annotations."""
        with self._source() as (source, images):
            for path in [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file()):
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2])
                try:
                    read_source(source, self._format(), images)
                except UserError as error:
                    if "\n" in str(error):
                        raise Broken(f"its message has more than one sentence: {error}") from None
                finally:
                    path.write_bytes(content)

    def _format(self) -> LandmarkFormat:
        return format_called(self.format, "format")

    @contextmanager
    def _source(self) -> Iterator[tuple[Path, Path | None]]:
        """Annotations of the format in a folder of its own, and the folder of its images."""
        of = self._format()
        if of.read is None:
            raise NotClaimed("it does not read")
        with tempfile.TemporaryDirectory() as place:
            out = _place(place, of)
            if of.write is None:
                if self.example is None:
                    raise NotClaimed("it does not write: set `example` to a file of the format")
                example = Path(self.example)
                out = out.parent / example.name
                (shutil.copytree if example.is_dir() else shutil.copyfile)(example, out)
                yield out, example.parent
                return
            before = drawn(Path(place) / "images", of.dimensions[0] if of.systems[0] == "pixel" else 3)
            of.write(in_system(before, of.systems[0]), out)
            yield out, Path(place) / "images"

    def _compare(self, before: Annotations, after: Annotations) -> None:
        if len(after.images) != len(before.images):
            raise Broken(f"{len(before.images)} images come back as {len(after.images)}")
        for one, again in zip(before.images, after.images, strict=True):
            if again.image.resolve() != one.image.resolve():
                raise Broken(f"{one.image} comes back as {again.image}")
            if again.marks.keys() != one.marks.keys():
                raise Broken(f"landmarks {list(one.marks)} come back as {list(again.marks)}")
            for name, mark in one.marks.items():
                off = np.abs(np.subtract(again.marks[name].at or (), mark.at or ())).max()
                if off > self._format().error:
                    raise Broken(f"landmark {name} at {mark.at} comes back {off:.3g} pixels off")


def _place(folder: str, of: LandmarkFormat) -> Path:
    """Where a file or folder of the format is written, in a folder of its own."""
    (Path(folder) / "written").mkdir()
    return Path(folder) / "written" / (of.file or "folder")


def drawn(folder: Path, dimensions: int) -> Annotations:
    """Annotations of three generated images, one of which lacks a landmark."""
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    size = np.array(SIZE[dimensions])
    images = []
    for n in range(3):
        pixels: Any = sitk.GetImageFromArray(rng.integers(0, 255, size[::-1]).astype(np.uint8))
        file = folder / f"image{n}{'.png' if dimensions == 2 else '.nii.gz'}"
        if dimensions == 3:
            pixels.SetSpacing((0.5, 0.75, 2.0))
            pixels.SetOrigin((-20.0, 10.0, float(n)))
            pixels.SetDirection((0.0, 1.0, 0.0, 0.6, 0.0, -0.8, -0.8, 0.0, -0.6))
        sitk.WriteImage(pixels, str(file))
        points = np.array([[0.2], [0.5], [0.8]]) * (size - 1) + rng.uniform(-0.4, 0.4, (3, dimensions))
        marks = {name: Mark(tuple(map(float, point))) for name, point in zip(NAMES, points, strict=True)}
        images.append(
            Annotated(file, {key: marks[key] for key in NAMES if (key, n) != ("2", 1)}, id=f"image{n}")
        )
    return Annotations(NAMES, tuple(images))
