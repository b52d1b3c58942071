"""A bundle's archive: a zip of one form. The same files give the same bytes, and other bytes are refused.

Its files are stored, not compressed, under one date and one mode, by name, the manifest after them. So a
bundle is verified by writing it once more and comparing: whatever differs shows, be it a flipped byte, a
second file of one name, or what hides between two. Nothing in it can grow: it holds what its size says.
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

MOST_BYTES = 2**32 - 2**20  # of a zip without 64-bit extensions
MOST_FILES = 1000
MOST_OF_MANIFEST = 2**22  # bytes
SUFFIXES = (".safetensors", ".json", ".yaml", ".md", ".jpg")
"""Of what a bundle may hold: nothing that runs, and nothing that unpickles."""

LAST = (MANIFEST, SIGNATURE)
DO_NOT_USE = "Do not use it, and report it to its source."
VERSION, UTF8, JAN_1980, REGULAR = 20, 0x800, 0x21, (stat.S_IFREG | 0o644) << 16


def packed(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The archive of these files, in their order, in pieces (PKWARE's APPNOTE 6.3, 4.3.7, 4.3.12, 4.3.16).

    Raises:
        UserError: They are too large for it.
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
            raise UserError("the models take more than the 4 GB that a bundle can hold. Bundle fewer folds.")
    yield directory
    yield struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), offset, 0)


def in_order(names: Iterable[str]) -> list[str]:
    """As an archive has them."""
    return sorted(names, key=lambda name: (name in LAST, name))


def verified(
    path: Path, keep: Callable[[str, bytes], object] = lambda name, content: None
) -> tuple[Manifest, str]:
    """A bundle's manifest and the SHA-256 of the bundle, once each of its bytes is found to be right.

    Args:
        path: The bundle.
        keep: Called with the name and the content of each file in it, checked by then.

    Raises:
        UserError: It is damaged, or holds what no bundle holds.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            sizes = listed(path, archive, path.stat().st_size)
            manifest = read_manifest(path, archive.read(MANIFEST))
            for name in sorted(manifest.files.keys() ^ (sizes.keys() - {MANIFEST, SIGNATURE})):
                where = "lists, and does not hold" if name in manifest.files else "holds, and does not list"
                raise UserError(f"{path}: the bundle {where}, '{name}'. {DO_NOT_USE}")

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
        raise damaged(path, str(error).partition("\n")[0] or "it ends too early") from None


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: the bundle is damaged: {why:.200}. Copy or download it again.")


def compared(path: Path, written_again: Iterator[bytes]) -> str:
    """The SHA-256 of a file that consists of these pieces.

    Raises:
        UserError: It does not.
    """
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for piece in written_again:
            if file.read(len(piece)) != piece:
                raise damaged(path, "it is not as lannunet writes bundles")
            whole.update(piece)
        if file.read(1):
            raise damaged(path, "there is something behind its end")
    return whole.hexdigest()


def listed(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """The sizes of an archive's files by name, from its directory alone.

    Raises:
        UserError: It lists what no bundle holds.
    """
    sizes: dict[str, int] = {}
    for entry in archive.infolist()[: MOST_FILES + 1]:
        name, mode = entry.orig_filename, entry.external_attr >> 16
        shown = f"'{name[:80]}'"
        if refused := (
            (name in sizes and f"{shown} twice")
            or (leads_away(name) and f"{shown}, which leads out of it")
            or (not stat.S_ISREG(mode) and f"{shown}, which is a link or a device, no file")
            or (not (name == SIGNATURE or name.endswith(SUFFIXES)) and f"{shown}, which may hold code")
            or (entry.compress_type != zipfile.ZIP_STORED and f"{shown} compressed, as bundles never do")
            or (entry.file_size != entry.compress_size and f"{shown}, which would grow")
        ):
            raise UserError(f"{path}: the bundle holds {refused}. {DO_NOT_USE}")
        sizes[name] = entry.file_size
    if len(sizes) > MOST_FILES or sum(sizes.values()) > size:
        raise UserError(f"{path}: the bundle would unpack to more than it is. {DO_NOT_USE}")
    if MANIFEST not in sizes or sizes[MANIFEST] > MOST_OF_MANIFEST:
        raise UserError(
            f"{path}: is not a bundle, as it has no valid {MANIFEST}. Give one of `lannunet bundle create`."
        )
    return sizes


def leads_away(name: str) -> bool:
    """Whether a file's name leads out of the folder that it is unpacked into, on any system."""
    return not name or not all(map(names_a_file, name.split("/"))) or PurePosixPath(name).is_absolute()


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of an open file."""
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()
