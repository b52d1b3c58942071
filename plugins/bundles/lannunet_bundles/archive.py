"""A bundle's archive: a zip in a canonical form. The same files give the same bytes; others are refused.

Files are stored uncompressed, with a fixed date and mode, sorted by name; the manifest is last. A bundle is
therefore verified by writing it again and comparing bytes, which detects a flipped byte, a second file with
the same name, and data hidden between files. Unpacked files are never larger than the archive.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lannunet_bundles.manifest import MANIFEST, SIGNATURE, Manifest, read_manifest
from lannunet_core import UserError, names_a_file

MOST_BYTES = 2**32 - 2**20  # limit of a zip without 64-bit extensions
MOST_FILES = 1000
MOST_OF_MANIFEST = 2**22  # bytes
SUFFIXES = (".safetensors", ".json", ".yaml", ".md", ".jpg")
"""Suffixes of files that a bundle may contain: no code, and no pickles."""

LAST = (MANIFEST, SIGNATURE)
DO_NOT_USE = "Do not use it, and report it to its source."
VERSION, UTF8, JAN_1980, REGULAR = 20, 0x800, 0x21, (stat.S_IFREG | 0o644) << 16


def packed(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The archive of these files, in their order, in pieces (PKWARE's APPNOTE 6.3, 4.3.7, 4.3.12, 4.3.16).

    Raises:
        UserError: The files are too large for a bundle.
    """
    directory, offset, count = b"", 0, 0
    for name, content in files:
        encoded, size = name.encode(), len(content)
        common = struct.pack(
            "<5H3L2H", VERSION, UTF8, 0, 0, JAN_1980, zlib.crc32(content), size, size, len(encoded), 0
        )
        yield b"PK\3\4" + common + encoded
        yield content
        made_on_unix = struct.pack("<H", 3 << 8 | VERSION)
        place = struct.pack("<3H2L", 0, 0, 0, REGULAR, offset)
        directory += b"PK\1\2" + made_on_unix + common + place + encoded
        offset, count = offset + 4 + len(common) + len(encoded) + size, count + 1
        if offset + len(directory) > MOST_BYTES:
            raise UserError("the models are larger than 4 GB, the limit of a bundle. Bundle fewer folds.")
    yield directory
    yield struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), offset, 0)


def in_order(names: Iterable[str]) -> list[str]:
    """File names in the order of the archive."""
    return sorted(names, key=lambda name: (name in LAST, name))


def verified(
    path: Path, keep: Callable[[str, bytes], object] = lambda name, content: None
) -> tuple[Manifest, str]:
    """A bundle's manifest and the SHA-256 of the bundle, after all of its bytes are verified.

    Args:
        path: The bundle.
        keep: Called with the name and the content of each file, which is verified before.

    Raises:
        UserError: The bundle is damaged, or contains a file that is not allowed.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            sizes = listed(path, archive, path.stat().st_size)
            manifest = read_manifest(path, archive.read(MANIFEST))
            for name in sorted(manifest.files.keys() ^ (sizes.keys() - {MANIFEST, SIGNATURE})):
                has, lists = ("lacks", "lists") if name in manifest.files else ("contains", "does not list")
                raise UserError(
                    f"{path}: the bundle {has} '{name}', which its manifest {lists}. {DO_NOT_USE}"
                )

            def contents() -> Iterator[tuple[str, bytes]]:
                for name in in_order(sizes):
                    content = archive.read(name)
                    if name in manifest.files and not manifest.files[name].is_of(content):
                        raise damaged(path, f"'{name}' differs from its manifest")
                    keep(name, content)
                    yield name, content

            return manifest, compared(path, packed(contents()))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such bundle.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise damaged(path, str(error).partition("\n")[0] or "it is truncated") from None


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: the bundle is damaged: {why:.200}. Copy or download it again.")


def compared(path: Path, written_again: Iterator[bytes]) -> str:
    """The SHA-256 of a file that consists of these pieces.

    Raises:
        UserError: The file differs from the pieces.
    """
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for piece in written_again:
            if file.read(len(piece)) != piece:
                raise damaged(path, "it differs from what lannunet writes")
            whole.update(piece)
        if file.read(1):
            raise damaged(path, "data follows its end")
    return whole.hexdigest()


def listed(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """The sizes of an archive's files by name, from its directory alone.

    Raises:
        UserError: The archive lists a file that is not allowed in a bundle.
    """
    sizes: dict[str, int] = {}
    for entry in archive.infolist()[: MOST_FILES + 1]:
        name, mode = entry.orig_filename, entry.external_attr >> 16
        shown = f"'{name[:80]}'"
        if refused := (
            (name in sizes and f"{shown} twice")
            or (leads_away(name) and f"{shown}, a path outside of the bundle")
            or (not stat.S_ISREG(mode) and f"{shown}, which is a link or a device, not a file")
            or (not (name == SIGNATURE or name.endswith(SUFFIXES)) and f"{shown}, which may be code")
            or (entry.compress_type != zipfile.ZIP_STORED and f"{shown}, which is compressed")
            or (entry.file_size != entry.compress_size and f"{shown}, whose sizes differ")
        ):
            raise UserError(f"{path}: the bundle contains {refused}. {DO_NOT_USE}")
        sizes[name] = entry.file_size
    if len(sizes) > MOST_FILES or sum(sizes.values()) > size:
        raise UserError(f"{path}: the bundle would unpack to more than its size. {DO_NOT_USE}")
    if MANIFEST not in sizes or sizes[MANIFEST] > MOST_OF_MANIFEST:
        raise UserError(
            f"{path}: is not a bundle, because it has no valid {MANIFEST}. Give a file written by `lannunet "
            "bundle create`."
        )
    return sizes


def leads_away(name: str) -> bool:
    """Whether a file name points outside of the folder into which it is unpacked, on any system."""
    return not name or not all(map(names_a_file, name.split("/"))) or PurePosixPath(name).is_absolute()


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of an open file."""
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()
