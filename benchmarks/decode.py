"""Coordinates of 19 maps of 512² at an original resolution of 2400×1935."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lannunet_images import resize_affine
from lannunet_landmarks import decode_peak, gaussian_heatmaps
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from benchmarks import Row, seconds

SIZE, ORIGINAL, LANDMARKS = (512, 512), (2400, 1935), 19


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.uniform(50, 460, (1, LANDMARKS, 2)), dtype=torch.float32)
    states = torch.zeros(1, LANDMARKS, dtype=torch.long)
    blobs = gaussian_heatmaps(points, states, torch.tensor([[3.0]]), SIZE, [SIZE], 1.0)[0]
    noise = ndimage.gaussian_filter(rng.standard_normal(blobs.shape), (0, 0, 2, 2))
    maps = (blobs + 0.1 + 0.02 * torch.from_numpy(noise / noise.std()).float()).clamp(min=1e-6)
    matrix = resize_affine(ORIGINAL, SIZE, "stretch")
    affine, sizes = torch.from_numpy(matrix)[None], torch.tensor([ORIGINAL])
    to_input = np.linalg.inv(matrix)
    x, y = (np.arange(o) * to_input[i, i] + to_input[i, 2] for i, o in enumerate(ORIGINAL))

    def ours() -> NDArray[Any]:
        return decode_peak(maps, affine, sizes, "scale_heatmap_first").points[0].numpy()

    def spline() -> NDArray[Any]:
        where = np.meshgrid(y, x, indexing="ij")
        found = []
        for heatmap in maps[0].numpy():
            coefficients = ndimage.spline_filter(heatmap, mode="mirror")
            upsampled = ndimage.map_coordinates(coefficients, where, prefilter=False, mode="mirror")
            found.append(peak(upsampled))
        return np.array(found)

    def bicubic() -> NDArray[Any]:
        upsampled = functional.interpolate(maps, ORIGINAL[::-1], mode="bicubic", align_corners=False)
        return np.array([peak(heatmap) for heatmap in upsampled[0].numpy()])

    strides = [round(1 / (axis[1] - axis[0])) for axis in (y, x)]  # original pixels per input pixel
    rows_, columns = (places.ravel() for places in np.mgrid[-2:3, -2:3])
    design = np.stack([np.ones(25), rows_, columns, rows_**2, rows_ * columns, columns**2], 1)

    def peak(upsampled: NDArray[Any]) -> tuple[float, float]:
        """The highest pixel, moved to the vertex of the weighted fit to the logarithms, in input pixels."""
        row, column = map(int, np.unravel_index(upsampled.argmax(), upsampled.shape))
        box = upsampled[row + strides[0] * rows_, column + strides[1] * columns].astype(float)
        fit = np.linalg.lstsq(design * box[:, None], np.log(box) * box, rcond=None)[0]
        step = -np.linalg.solve([[2 * fit[3], fit[4]], [fit[4], 2 * fit[5]]], fit[1:3])
        return (
            x[column] + strides[1] * step[1] * (x[1] - x[0]),
            y[row] + strides[0] * step[0] * (y[1] - y[0]),
        )

    apart = np.linalg.norm(ours() - spline(), axis=1).max()
    apart_bicubic = np.linalg.norm(ours() - bicubic(), axis=1).max()
    (spline_seconds,) = seconds(spline, repeats=1)
    bicubic_seconds, our_seconds = seconds(bicubic, ours, repeats=15)
    name = "scale_heatmap_first, 19 maps, 512² to 2400×1935"
    return [
        Row(
            name,
            "SciPy cubic spline of whole maps",
            spline_seconds,
            our_seconds,
            at_least=50,
            note=f"at most {apart:.4f} px apart",
            same=bool(apart < 0.05),
        ),
        Row(
            name,
            "torch bicubic (another, cheaper kernel) of whole maps",
            bicubic_seconds,
            our_seconds,
            at_least=50,
            note=f"at most {apart_bicubic:.4f} px apart",
        ),
    ]
