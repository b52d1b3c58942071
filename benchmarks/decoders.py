"""`gaussian_fit` of 19 landmarks at 512², against SciPy's least squares for one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lannunet_landmarks import decode_gaussian_fit
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks import Row, seconds
from benchmarks.decoder_precision import NOISE, gaussians

SIZE, LANDMARKS, SIGMA, OUTLIERS = 512, 19, 3.0, 0.05
AGREEMENT = 0.01  # pixels
WINDOW = 11  # pixels on either side of the start: more than 3.5 sigma


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(50, SIZE - 50, (1, LANDMARKS, 2)))
    clean = gaussians(points, (SIZE, SIZE), SIGMA).numpy()
    noisy = clean + NOISE * rng.standard_normal(clean.shape)
    outlier = rng.random(clean.shape) < OUTLIERS
    defective = np.where(outlier, rng.random(clean.shape), noisy)
    plain = {name: fit_each(maps[0], points[0]) for name, maps in (("clean", clean), ("noisy", noisy))}
    windowed = fit_each(defective[0], points[0], WINDOW)
    heatmaps = torch.from_numpy(noisy).float()

    (whole_seconds,) = seconds(lambda: fit_each(noisy[0], points[0]), repeats=2)
    window_seconds, our_seconds = seconds(
        lambda: fit_each(noisy[0], points[0], WINDOW), lambda: ours(heatmaps), repeats=7
    )
    apart = {
        name: float(np.linalg.norm(ours(torch.from_numpy(maps).float()) - plain[name], axis=1).max())
        for name, maps in (("clean", clean), ("noisy", noisy))
    }
    truth = points[0].numpy()
    error, error_plain = (
        float(np.sqrt(((found - truth) ** 2).sum(1).mean()))
        for found in (ours(torch.from_numpy(defective).float()), windowed)
    )
    name = f"gaussian_fit, {LANDMARKS} landmarks, 512²"
    return [
        Row(
            name,
            "SciPy least squares of each whole map",
            whole_seconds,
            our_seconds,
            at_least=200,
            note=f"at most {apart['clean']:.5f} px apart, with noise {apart['noisy']:.5f} px",
            same=max(apart.values()) < AGREEMENT,
        ),
        Row(
            name,
            f"SciPy least squares of {2 * WINDOW + 1}² pixels around the true points, given",
            window_seconds,
            our_seconds,
            note=f"with 5 % outliers {error:.3f} px from the truth, SciPy {error_plain:.3f} px",
            same=error < error_plain,
        ),
    ]


def ours(heatmaps: torch.Tensor) -> NDArray[Any]:
    found = decode_gaussian_fit(
        heatmaps=heatmaps,
        affine=torch.eye(3, dtype=torch.float64)[None],
        original_sizes=torch.tensor([heatmaps.shape[:1:-1]]),
        evaluation_mode="use_input_size",
    )
    return found.points[0].numpy()


def fit_each(maps: NDArray[Any], starts: torch.Tensor, window: int | None = None) -> NDArray[Any]:
    """Means (N, 2) (x, y) of Gaussians fitted to maps (N, y, x) or windows of them, from rounded starts."""
    found = []
    for heatmap, start in zip(maps, starts.round().long().tolist(), strict=True):
        y, x = np.indices(heatmap.shape)
        if window is not None:
            box = tuple(slice(max(centre - window, 0), centre + window + 1) for centre in start[::-1])
            heatmap, y, x = heatmap[box], y[box], x[box]

        def residuals(theta: NDArray[Any], heatmap: Any = heatmap, y: Any = y, x: Any = x) -> Any:
            height, mean_x, mean_y, a, b, c = theta  # the Cholesky factor of the inverse covariance
            u, v = a * (x - mean_x) + b * (y - mean_y), c * (y - mean_y)
            return (height * np.exp(-0.5 * (u**2 + v**2)) - heatmap).ravel()

        theta = least_squares(residuals, [1.0, *start, 1 / SIGMA, 0.0, 1 / SIGMA], method="lm").x
        found.append(theta[1:3])
    return np.array(found)
