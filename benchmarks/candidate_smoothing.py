"""Candidate smoothing of 19 landmarks at 512², on outputs like those of a trained PHD-Net and on others."""

from __future__ import annotations

import numpy as np
import torch
from lannunet_phdnet.decode import BLOB, smooth_candidates
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks import Row, seconds

LANDMARKS, PATCHES, PATCH = 19, 64, 8
REACH = PATCH  # pixels, five widths of a vote


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(*[np.arange(PATCHES)] * 2)).astype(np.float64)
    landmarks = rng.uniform(3, PATCHES - 4, (LANDMARKS, 2))
    way = landmarks[:, :, None, None] - centres  # (N, 2, P, P)
    distance = np.sqrt((way**2).sum(1))
    heatmaps = np.exp(-0.5 * distance**2) + 0.01 * rng.random(distance.shape)
    noise = rng.standard_normal(way.shape)
    # Measured on the wings: up to four patches away, the error is a tenth of the distance plus a tenth of a
    # patch. Patches further away do not see the landmark, and predict displacements near zero.
    trained = np.where((distance < 4)[:, None], way + noise * 0.1 * (1 + distance[:, None]), 0.7 * noise)
    return [
        compare("like a trained network's", trained, heatmaps, at_least=100),
        compare("every patch knows the way", way + 0.3 * noise, heatmaps),
        compare("noise", 5 * noise, rng.random(heatmaps.shape)),
    ]


def compare(
    what: str,
    displacement: NDArray[np.float64],
    heatmaps: NDArray[np.float64],
    at_least: float | None = None,
) -> Row:
    """Compare our peaks with those of the whole maps; displacements are (N, 2, P, P) in patches."""
    ways, maps = torch.from_numpy(displacement).float(), torch.from_numpy(heatmaps).float()
    expected = nested_loops(displacement, heatmaps)
    places, votes, certain = smooth_candidates(ways, maps)
    found = (places.numpy() + 0.5) * PATCH - 0.5
    # Ours is refined between pixels; that it is the same peak is what counts.
    apart = np.abs(found - [place for place, _ in expected]).max()
    higher = (votes * certain).numpy() / np.array([height for _, height in expected])

    def ours() -> None:
        smooth_candidates(ways, maps)

    (loops,) = seconds(lambda: nested_loops(displacement, heatmaps), repeats=1)
    (our_seconds,) = seconds(ours, repeats=20)
    return Row(
        f"candidate smoothing, 19 landmarks, 512², {what}",
        "nested loops over landmarks and patches",
        loops,
        our_seconds,
        at_least=at_least,
        note=f"at most {apart:.2f} px apart, heights {higher.min():.2f} … {higher.max():.2f} of theirs",
        same=bool(apart < 3),
    )


def nested_loops(
    displacement: NDArray[np.float64], heatmaps: NDArray[np.float64]
) -> list[tuple[tuple[int, int], float]]:
    """The highest pixel (x, y) of each landmark's whole map, and its value; each vote in its own window."""
    side = PATCHES * PATCH
    peaks = []
    for ways, heatmap in zip(displacement, heatmaps, strict=True):
        votes = np.zeros((side, side))
        for i in range(PATCHES):
            for j in range(PATCHES):
                x = (j + ways[0, i, j] + 0.5) * PATCH - 0.5
                y = (i + ways[1, i, j] + 0.5) * PATCH - 0.5
                left, right = max(round(x) - REACH, 0), min(round(x) + REACH + 1, side)
                top, bottom = max(round(y) - REACH, 0), min(round(y) + REACH + 1, side)
                if left < right and top < bottom:
                    along_x = np.exp(-0.5 * ((np.arange(left, right) - x) / (BLOB * PATCH)) ** 2)
                    along_y = np.exp(-0.5 * ((np.arange(top, bottom) - y) / (BLOB * PATCH)) ** 2)
                    votes[top:bottom, left:right] += along_y[:, None] * along_x
        upsampled = functional.interpolate(
            torch.from_numpy(heatmap)[None, None], (side, side), mode="bilinear"
        )
        votes *= upsampled[0, 0].numpy()
        row, column = divmod(int(votes.argmax()), side)
        peaks.append(((column, row), float(votes[row, column])))
    return peaks
