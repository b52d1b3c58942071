"""NIfTI files (1 and 2): a header, and an array with x fastest.

SimpleITK is not used, because it refuses sheared images, returns zeros for missing pixels and for NaN, and
recognises files by the suffix.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats, Stated
from lannunet_images.claims import RATIO, check_claim
from lannunet_images.placed import placed

FIELDS = {  # type and offset in version 1, and in version 2
    "dim": ("(8,)i2", 40, "(8,)i8", 16),
    "datatype": ("i2", 70, "i2", 12),
    "pixdim": ("(8,)f4", 76, "(8,)f8", 104),
    "vox_offset": ("f4", 108, "i8", 168),
    "scl_slope": ("f4", 112, "f8", 176),
    "scl_inter": ("f4", 116, "f8", 184),
    "xyzt_units": ("u1", 123, "u1", 500),
    "qform_code": ("i2", 252, "i4", 344),
    "sform_code": ("i2", 254, "i4", 348),
    "quatern": ("(3,)f4", 256, "(3,)f8", 352),
    "qoffset": ("(3,)f4", 268, "(3,)f8", 376),
    "srow": ("(3,4)f4", 280, "(3,4)f8", 400),
}
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"}
TYPES |= {256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
COLOURS = {128: 3, 2304: 4}  # bytes of a voxel
MM = {1: 1000.0, 3: 0.001}  # per metre and micrometre; 1 for any other unit
TO_LPS = np.diag([-1.0, -1.0, 1.0])  # from x to the right and y to the front
ROUNDING = 1e-3  # relative tolerance within which pixdim and the matrix agree


class _Head(NamedTuple):
    stated: Stated
    dtype: np.dtype[Any]
    components: int  # numbers of a voxel that are stored together
    start: int
    scale: tuple[float, float]


def matches(head: bytes) -> bool:
    """Whether a file is NIfTI, gzipped or not."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 1024)
        except zlib.error:
            return False
    return nifti_version(head) > 0


def nifti_version(head: bytes) -> int:
    """The version, 1 or 2, by the first bytes of a decompressed file; 0: it is not NIfTI."""
    if head[344:348] == b"n+1\0":
        return 1
    return 2 if head[4:8] == b"n+2\0" else 0


def stated(path: Path) -> Stated:
    with _opened(path) as file:
        return _head(path, file).stated


def pixels(path: Path) -> NDArray[Any]:
    """The stored pixels (C, …, y, x), scaled if the header states a scale; NaN stays NaN."""
    with _opened(path) as file:
        head = _head(path, file)
        shape = (head.stated.channels // head.components, *head.stated.size[::-1], head.components)
        array = np.empty(shape, head.dtype)
        flat: Any = array.reshape(-1).view(np.uint8)
        buffer = memoryview(flat)
        file.seek(head.start)
        found = 0
        while found < len(buffer) and (count := file.readinto(buffer[found:])):
            found += count
        if found < len(buffer):
            raise ValueError(f"it has {head.start + found} of {head.start + len(buffer)} bytes")
        file.read(1 << 20)  # a compressed stream is checked at its end
    array = array.astype(head.dtype.newbyteorder("="), copy=False)
    if head.scale != (1, 0):
        wide = array.dtype.itemsize > 4 or array.dtype in (np.int32, np.uint32)
        exact = np.float64 if wide else np.float32
        array = array * exact(head.scale[0]) + exact(head.scale[1])
    return array[..., 0] if head.components == 1 else np.moveaxis(array[0], -1, 0)


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def _head(path: Path, file: Any) -> _Head:
    head = file.read(540)
    first = 2 * (nifti_version(head) - 1)
    places = {name: place[first : first + 2] for name, place in FIELDS.items()}
    order: Any = "<" if head[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
    layout = np.dtype(
        {
            "names": list(places),
            "formats": [cast(str, kind) for kind, _ in places.values()],
            "offsets": [cast(int, offset) for _, offset in places.values()],
            "itemsize": 540 if first else 348,
        }
    ).newbyteorder(order)
    fields = np.frombuffer(head, layout, 1)[0]

    rank = int(fields["dim"][0])
    size = tuple(int(side) for side in fields["dim"][1 : 1 + rank])
    code = int(fields["datatype"])
    if not 1 <= rank <= 7 or (code not in TYPES and (code not in COLOURS or rank > 4)):
        raise ValueError(f"it has {rank} axes and numbers of type {code}")
    channels, components = 1, COLOURS.get(code, 1)
    if rank >= 5 and size[3] == 1:  # vectors: x fastest, components slowest
        size, channels = size[:3], math.prod(size[4:])
    dtype = np.dtype(TYPES.get(code, "u1")).newbyteorder(order)
    start = max(int(fields["vox_offset"]), 544 if first else 352)  # some writers leave it 0
    held = path.stat().st_size * (RATIO if isinstance(file, gzip.GzipFile) else 1) - start
    check_claim(size, channels * components, held, 8 * dtype.itemsize)
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    scaled = bool(slope) and math.isfinite(slope) and math.isfinite(inter) and code not in COLOURS
    found = placed(size, channels * components, *_geometry(fields, len(size)))
    return _Head(found, dtype, components, start, (slope, inter) if scaled else (1, 0))


def _geometry(fields: Any, rank: int) -> tuple[list[float], list[float], Floats]:
    """mm per voxel of each axis, origin and direction, from the matrix that SimpleITK chooses."""
    scale = MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    steps = scale * np.array(fields["pixdim"][1:], float)
    axes: Floats = np.eye(max(rank, 3))
    origin: Floats = np.zeros(3)
    quatern, offset = np.array(fields["quatern"], float), np.array(fields["qoffset"], float)
    rows = scale * np.array(fields["srow"], float)
    lengths = np.linalg.norm(rows[:, :3], axis=0)
    has_matrix = bool(np.isfinite(rows).all() and (lengths > 0).all())
    code = int(fields["sform_code"])
    if has_matrix and code > 0 and (code == 1 or fields["qform_code"] <= 0):
        if not np.allclose(lengths, np.abs(steps[:3]), rtol=ROUNDING, atol=0):
            steps[:3] = lengths
        steps[:3] = np.abs(steps[:3])
        axes[:3, :3], origin = TO_LPS @ rows[:, :3] / lengths, TO_LPS @ rows[:, 3]
    elif fields["qform_code"] > 0 and np.isfinite(quatern).all() and np.isfinite(offset).all():
        axes[:3, :3] = TO_LPS @ _rotation(quatern)
        if fields["pixdim"][0] < 0:
            axes[:3, 2] *= -1
        origin = TO_LPS @ (scale * offset)
    return steps[:rank].tolist(), origin.tolist(), axes[:rank, :rank]


def _rotation(quatern: Floats) -> Floats:
    """The matrix of the unit quaternion with the last three components (3,)."""
    from scipy.spatial.transform import Rotation

    real = math.sqrt(max(0.0, 1 - float(quatern @ quatern)))
    return np.asarray(Rotation.from_quat([*quatern, real]).as_matrix())
