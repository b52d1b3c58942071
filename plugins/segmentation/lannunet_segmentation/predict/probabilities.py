"""Class probabilities as files: `CASE.npz`, as in nnU-Net, without keeping them in memory."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import RunFailed, atomic_path, inside
from lannunet_segmentation.predict.resample import Keep
from lannunet_segmentation.types import Case

CHUNK = 16 << 20  # bytes that are compressed at a time


def probability_paths(cases: Sequence[Case], folder: Path) -> list[Path]:
    """The file of probabilities of each case in a folder."""
    return [inside(folder, f"{case.id}.npz", str(case.images[0])) for case in cases]


@contextmanager
def writing_probabilities(path: Path, shape: Sequence[int]) -> Iterator[Keep]:
    """Write probabilities to an `.npz` whose array `probabilities` is (K, *S) in half precision.

    Rows come slab by slab, for all classes, but are stored class by class. So they go to a scratch file
    first, which is compressed at the end.

    Args:
        path: The file.
        shape: (K, *S).

    Yields:
        A function that takes them; see `Keep`.

    Raises:
        RunFailed: There is not enough space for them.
    """
    row = math.prod(shape[2:])
    told = partial(_telling_of_room, path, 2 * math.prod(shape))
    with told():
        scratch = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  (closed below)
    with scratch:

        def keep(rows: slice, values: NDArray[np.float32]) -> None:
            with told():
                for number, one in enumerate(values):
                    scratch.seek(2 * row * (number * shape[1] + rows.start))
                    scratch.write(one.astype("<f2").tobytes())

        yield keep
        head: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)}
        entry = zipfile.ZipInfo("probabilities.npy")  # with a fixed time: equal results are equal files
        entry.compress_type = zipfile.ZIP_DEFLATED
        with (
            told(),
            atomic_path(path) as temporary,
            zipfile.ZipFile(temporary, "w") as archive,
            archive.open(entry, "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array_header_1_0(member, head)  # type: ignore[no-untyped-call]
            scratch.seek(0)
            shutil.copyfileobj(scratch, member, CHUNK)


@contextmanager
def _telling_of_room(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"{path}: no room for {size / 1e9:.1f} GB of probabilities and the file that they are compressed "
            f"into ({error.strerror}). Free some space or choose another output folder."
        ) from error
