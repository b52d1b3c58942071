"""NumPy's files, valid and damaged."""

import errno
import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from lannunet_segmentation.data.arrays import layout, own_array, read_array, save_array

from lannunet_core.errors import UserError
from tests.fixtures.nnunet import refused

ARRAYS = {
    "volume": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "line": np.arange(5, dtype=">i8"),
    "flags": np.array([True, False]),
    "number": np.float64(3),
    "none": np.zeros((3, 0), np.uint8),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_what_numpy_writes(tmp_path, array, save):
    path = tmp_path / ("array.npy" if save is np.save else "array.npz")
    save(path, array) if save is np.save else save(path, other=np.zeros(9), data=array)
    found = read_array(path)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    assert layout(path).shape == array.shape
    assert save is not np.save or not array.size or isinstance(found, np.memmap)


def test_of_several_arrays_the_first_is_taken_where_none_is_called_so(tmp_path):
    np.savez(tmp_path / "maps.npz", first=np.ones(2), data=np.zeros(3))
    assert read_array(tmp_path / "maps.npz", "").shape == (2,)


def test_our_own_are_of_a_known_type_and_shape(tmp_path):
    path, array = tmp_path / "own.npy", np.arange(6, dtype=np.int16).reshape(2, 3)
    save_array(path, array.T.copy().T)
    np.testing.assert_array_equal(own_array(path, np.int16, (2, 3)), np.load(path))
    np.testing.assert_array_equal(np.load(path), array)
    for dtype, shape in ((np.int32, (2, 3)), (np.int16, (3, 2))):
        refused(path, "were prepared", call=lambda d=dtype, s=shape: own_array(path, d, s))


def npy(shape, descr="'<f4'", content=b""):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


HOSTILE = {
    "more than the file": npy("(1000000000, 1000)"),
    "less than the file": npy("(1,)", content=b"0" * 8),
    "objects": npy("(1,)", "'|O'", b"0" * 8),
    "a record": npy("(1,)", "[('a', '<f4')]", b"0000"),
    "text": npy("(1,)", "'<U1'", b"0000"),
    "an expression": npy("(__import__('os').getpid(),)", content=b"0000"),
    "brackets": npy("(" * 5000),
    "a negative side": npy("(-1,)"),
    "no header": b"\x93NUMPY\x01\x00\xff\xff",
    "another version": b"\x93NUMPY\x09\x00\xff\xff\xff\xff",
    "nothing": b"",
    "a pickle": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_headers_are_refused(tmp_path, content, packed):
    path = tmp_path / ("array.npz" if packed else "array.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.npy", content)
    else:
        path.write_bytes(content)
    for read in (layout, read_array):
        refused(path, "not an array of numbers", call=lambda read=read: read(path))


def test_an_archive_that_claims_more_than_it_can_hold(tmp_path):
    path = tmp_path / "array.npz"
    np.savez_compressed(path, data=np.zeros(10))
    content = path.read_bytes()
    size = (128 + 80).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (2**31).to_bytes(4, "little")))
    refused(path, "claims", call=lambda: read_array(path))


def test_what_is_not_there(tmp_path):
    for name in ("array.npy", "array.npz"):
        refused(name, "No such file", call=lambda name=name: read_array(tmp_path / name))


def test_mutated_files_are_read_or_refused(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["volume"])
    np.savez_compressed(tmp_path / "a.npz", data=ARRAYS["volume"])
    chance, ends = random.Random(0), set()
    for seed in (tmp_path / "a.npy", tmp_path / "a.npz"):
        sound, path = seed.read_bytes(), seed.with_stem("mutated")
        for _ in range(500):
            content = bytearray(sound)
            for _ in range(chance.choice((1, 4))):
                at = chance.randrange(len(content))
                content[at : at + chance.randrange(3)] = bytes([chance.randrange(256)])
            path.write_bytes(content)
            try:
                np.array(read_array(path))
                ends.add("read")
            except UserError as error:
                assert "\n" not in str(error)
                ends.add("refused")
    assert ends == {"read", "refused"}


@pytest.mark.parametrize("count", [10, 100_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch, count):
    class Full(io.FileIO):
        def write(self, content):
            if len(memoryview(content).cast("B")) > 70:  # the header fits
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r": Full(path, "w") if mode == "wb" else opened(path, mode)
    )
    with pytest.raises(OSError, match=r"No space left on device: .*a\.npy"):
        save_array(tmp_path / "a.npy", np.zeros(count))
    assert not list(tmp_path.iterdir())
