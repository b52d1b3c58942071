"""Label making for one sample: 19 landmarks at 512², 5 levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lannunet_landmarks import gaussian_heatmaps, level_sigmas
from numpy.typing import NDArray

from benchmarks import Row, seconds

SIZE, LANDMARKS, LEVELS, SIGMA, PEAK = 512, 19, 5, 4.0, 100.0


def rows() -> list[Row]:
    points = np.random.default_rng(0).uniform(0, SIZE - 1, (LANDMARKS, 2))
    sides = [SIZE >> level for level in range(LEVELS)]
    buffers: list[NDArray[np.float32]] = [np.empty((LANDMARKS, side, side), np.float32) for side in sides]

    def plain(dtype: type[np.floating[Any]]) -> Callable[[], list[NDArray[np.float32]]]:
        grids = [np.mgrid[:side, :side].astype(dtype)[::-1] for side in sides]

        def make() -> list[NDArray[np.float32]]:
            for level, (x, y) in enumerate(grids):
                width = dtype(max(SIGMA / 2**level, 1))
                for n, point in enumerate(points):
                    cx, cy = ((point + 0.5) / 2**level - 0.5).astype(dtype)
                    squares = (x - cx) ** 2 + (y - cy) ** 2
                    buffers[level][n] = PEAK * np.exp(-squares / (2 * width**2))
            return buffers

        return make

    landmarks = torch.tensor(points[None], dtype=torch.float32)
    states = torch.zeros(1, LANDMARKS, dtype=torch.long)
    sigmas = level_sigmas(SIGMA, [2**level for level in range(LEVELS)])

    level_sizes = [(side, side) for side in sides]

    def ours() -> list[torch.Tensor]:
        return gaussian_heatmaps(landmarks, states, sigmas, (SIZE, SIZE), level_sizes, PEAK)

    doubles, singles = plain(np.float64), plain(np.float32)
    apart = max(float(np.abs(a - b[0].numpy()).max()) for a, b in zip(doubles(), ours(), strict=True))
    doubles_seconds, singles_seconds, our_seconds = seconds(
        doubles, singles, ours, repeats=30, threads=torch.get_num_threads(), in_turns=False
    )
    name = "labels, 19 landmarks, 512², 5 levels"
    return [
        Row(
            name,
            "NumPy, landmark by landmark, buffers reused",
            doubles_seconds,
            our_seconds,
            at_least=30,
            note=f"difference at most {apart / PEAK:.0e} of the peak",
            same=apart < 1e-5 * PEAK,
        ),
        Row(name, "the same with every operand cast to float32", singles_seconds, our_seconds),
    ]
