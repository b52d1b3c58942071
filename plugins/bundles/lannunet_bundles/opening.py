"""Opening a bundle: it is verified and unpacked into the cache, as a folder in the layout of a run's."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from lannunet_bundles.archive import in_order, packed, verified
from lannunet_bundles.cache import cache_folder
from lannunet_bundles.manifest import Manifest
from lannunet_core import UserError

_opened: dict[tuple[Path, int, int], Path] = {}


def open_bundle(path: Path) -> Path:
    """The folder in the cache with a bundle's models, which is checked once per process.

    Raises:
        UserError: The bundle is damaged or hostile, or a distribution that it requires is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such bundle.")
    known = path.stat()
    key = (path.resolve(), known.st_mtime_ns, known.st_size)
    if key not in _opened:
        manifest, digest = verified(path)
        require(manifest, path)
        _opened[key] = unpacked(path, digest)
    return _opened[key]


def require(manifest: Manifest, path: Path) -> None:
    """Raise a UserError if requirements of a bundle are missing, with all of them and the command."""
    lacking, problems = [], []
    for text in manifest.requires:
        wanted = Requirement(text)
        try:
            here = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{wanted.name}, which is not installed")
        else:
            if wanted.specifier.contains(here, prereleases=True):
                continue
            problems.append(f"{text}, and {here} is installed")
        lacking.append(text)
    if lacking:
        raise UserError(
            f"{path}: needs {'; and '.join(problems)}. To continue: "
            f"lannunet plugins install {' '.join(map(shlex.quote, lacking))}"
        )


def unpacked(path: Path, digest: str) -> Path:
    """The folder of a verified bundle; an existing folder is verified too."""
    bundles = cache_folder("bundles")
    folder = bundles / digest
    if is_intact(folder, digest):
        return folder
    with tempfile.TemporaryDirectory(dir=bundles, prefix=".") as temporary:
        new = Path(temporary, digest)

        def keep(name: str, content: bytes) -> None:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)

        if verified(path, keep)[1] != digest:
            raise UserError(f"{path}: was changed while it was read. Try again.")
        if folder.exists():  # it was changed
            shutil.rmtree(folder)
        try:
            os.rename(new, folder)  # noqa: PTH104  (which never replaces a folder with something in it)
        except OSError:
            if not is_intact(folder, digest):  # else another process unpacked it first
                raise
    return folder


def is_intact(folder: Path, digest: str) -> bool:
    """Whether a folder contains exactly the files of the bundle with this SHA-256."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    if not files or any(path.is_symlink() for path in files.values()):
        return False
    whole = hashlib.sha256()
    for piece in packed((name, files[name].read_bytes()) for name in in_order(files)):
        whole.update(piece)
    return whole.hexdigest() == digest
