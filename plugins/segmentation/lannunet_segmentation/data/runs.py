"""Sets of voxels from which one can be drawn without reading the volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_segmentation.data.arrays import layout, own_array, save_array


@dataclass(frozen=True, eq=False)
class Runs:
    """A set of voxels as runs along x, which continue over the end of a row.

    A volume with a few annotated slices has few runs, whatever the number of voxels; a voxel is found by
    bisection, which reads a few pages of a memory-mapped file.

    Attributes:
        size: Size (x, y[, z]) of the volume.
        starts: (R,) int64, the first voxel of each run, counted through the volume with x fastest; ascending.
            ends: (R,) int64, the number of voxels up to and including each run.
    """

    size: tuple[int, ...]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Runs:
        """The voxels (*S) that are true."""
        return cls.of_each(mask).get(1, cls.none(mask.shape[::-1]))

    @classmethod
    def of_each(cls, values: NDArray[Any]) -> dict[int, Runs]:
        """The voxels of each value in an array (*S) of integers, by value."""
        size, flat = values.shape[::-1], values.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        lengths = np.diff(starts, append=flat.size)
        value = flat[starts]
        return {
            int(one): cls(size, starts[value == one], lengths[value == one].cumsum())
            for one in np.unique(value)
        }

    @classmethod
    def none(cls, size: tuple[int, ...]) -> Runs:
        return cls(size, np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def voxel(self, i: int) -> NDArray[np.int64]:
        """The voxel (D,) (x, y[, z]) with index `i`, from 0 … len − 1."""
        run = int(np.searchsorted(self.ends, i, side="right"))
        before = self.ends[run - 1] if run else 0
        place = np.unravel_index(int(self.starts[run] + i - before), self.size[::-1])
        return np.array(place[::-1], np.int64)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a voxel (D,) (x, y[, z]) uniformly. The set must not be empty."""
        return self.voxel(int(rng.integers(len(self))))

    @property
    def array(self) -> NDArray[np.int64]:
        """(2, R) int64, the form in a file."""
        return np.stack([self.starts, self.ends])

    def save(self, path: Path) -> None:
        save_array(path, self.array)

    @classmethod
    def open(cls, path: Path, size: tuple[int, ...]) -> Runs:
        """Open saved runs, memory-mapped.

        Raises:
            UserError: It is not such a file.
        """
        starts, ends = own_array(path, np.int64, (2, layout(path).shape[-1]))
        return cls(size, starts, ends)
