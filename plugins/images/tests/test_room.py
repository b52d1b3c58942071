"""Smaller batches and smaller windows if an allocator refuses."""

import pytest
import torch
from lannunet_images import Room
from lannunet_images.room import halved

from lannunet_core.errors import RunFailed, UserError

REFUSALS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.10 GB)."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
]


class Allocator:
    """Refuse more than a limit, and record what was allocated."""

    def __init__(self, most, error=REFUSALS[0]):
        self.most, self.error, self.given = most, error, []

    def take(self, items):
        if len(items) > self.most:
            raise self.error
        self.given.append(list(items))
        return sum(items)

    def window(self, size):
        if torch.Size(size).numel() > self.most:
            raise self.error
        return size


@pytest.mark.parametrize("error", REFUSALS)
def test_so_many_at_a_time_as_fit(capsys, error):
    room, allocator = Room(), Allocator(2, error)
    found = list(room.in_batches(range(7), 5, allocator.take))
    assert found == [(1, range(2)), (5, range(2, 4)), (9, range(4, 6)), (6, range(6, 7))]
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "memory is short: 2 at a time from here on, not 5"
    assert list(room.in_batches(range(3), 5, allocator.take)) == [(1, range(2)), (2, range(2, 3))]
    assert capsys.readouterr().out == ""


def test_what_fits_is_taken_as_asked(capsys):
    assert list(Room().in_batches(range(5), 3, sum)) == [(3, range(3)), (7, range(3, 5))]
    assert Room().in_windows((64, 48), lambda size: size) == (64, 48)
    assert capsys.readouterr().out == ""


def test_where_not_even_one_fits_smaller_windows_are_taken(capsys):
    """If there are no smaller windows, one sentence reports it."""
    with pytest.raises(RunFailed, match="not enough memory to predict: a single one does not fit"):
        list(Room().in_batches(range(4), 4, Allocator(0).take))
    room = Room()

    def in_batches(size):
        return next(room.in_batches(range(2), 2, Allocator(2 if size == (32, 64) else 0).take))[0]

    assert room.in_windows((64, 64), in_batches) == 0
    assert "windows of 32×64, not of 64×64" in capsys.readouterr().out


def test_a_plugin_that_needs_too_much_is_no_other_case():
    def failing(items):
        if len(items) > 1:
            raise RunFailed("Plugin x failed.") from REFUSALS[0]
        return items[0]

    assert [found for found, _ in Room().in_batches(range(3), 2, failing)] == [0, 1, 2]


def test_another_error_is_not_taken_for_it():
    for error in (RuntimeError("size mismatch"), ValueError("no")):
        with pytest.raises(type(error)):
            list(Room().in_batches(range(4), 4, Allocator(1, error).take))
        with pytest.raises(type(error)):
            Room().in_windows((64, 64), Allocator(64, error).window)


def test_smaller_windows(capsys):
    room = Room()
    assert room.in_windows((200, 96), Allocator(4000).window) == (32, 64)
    assert capsys.readouterr().out == "memory is short: windows of 32×64, not of 200×96\n"
    assert room.limited((40, 50)) == (32, 50)
    assert room.limited((40, 96, 40)) == (40, 96, 40)  # of another model
    assert room.in_windows((200, 96), Allocator(4000).window) == (32, 64)
    assert capsys.readouterr().out == ""


def test_where_none_fits_one_sentence_says_so():
    with pytest.raises(RunFailed, match="not enough memory to predict: windows of 32×32 do not fit"):
        Room().in_windows((64, 64), Allocator(10).window)

    def picky(size):
        if size != (64, 64):
            raise UserError("cannot take it")
        raise REFUSALS[0]

    with pytest.raises(RunFailed, match="does not accept windows of 32×64"):
        Room().in_windows((64, 64), picky)


def test_halves():
    assert halved((512, 384)) == (256, 384)
    assert halved((100, 40, 30)) == (64, 40, 30)
    assert halved((20, 33)) == (20, 32)
    assert halved((32, 20)) is None
