"""Dice and 95 % Hausdorff distances by MONAI, which the tests compare ours with.

    pip install monai==1.6.1
    python -m benchmarks.monai_figures > plugins/segmentation/tests/evaluation/monai.json

Twenty pairs of label maps of two classes are drawn: blobs on grids whose spacings differ up to sixfold.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CASES, CLASSES = 20, 2


def draw(seed: int) -> tuple[NDArray[np.int16], NDArray[np.int16], tuple[float, float, float]]:
    """Predicted and annotated labels (z, y, x), and the spacing (x, y, z) in mm."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(12, 30, 3).tolist())
    spacing = tuple(np.round(rng.uniform(0.5, 3.0, 3), 3).tolist())
    base = rng.normal(size=(CLASSES + 1, *size))
    labels = []
    for _ in range(2):
        noisy = base + rng.normal(scale=0.7, size=base.shape)
        smooth = np.stack([ndimage.gaussian_filter(one, rng.uniform(1.5, 2.5)) for one in noisy])
        labels.append(smooth.argmax(0).astype(np.int16))
    return labels[0], labels[1], spacing


def main() -> int:
    import torch
    from monai import __version__ as version  # type: ignore[import-not-found]
    from monai.metrics import DiceMetric, HausdorffDistanceMetric  # type: ignore[import-not-found]

    found: dict[str, Any] = {"monai": version, "torch": torch.__version__, "cases": []}
    for seed in range(CASES):
        predicted, target, spacing = draw(seed)
        hot = [
            torch.stack([torch.from_numpy(labels == value) for value in range(CLASSES + 1)])[None].float()
            for labels in (predicted, target)
        ]
        dice = DiceMetric(include_background=False, reduction="none")
        distance = HausdorffDistanceMetric(include_background=False, percentile=95, reduction="none")
        steps = list(spacing[::-1])
        case = {"seed": seed, "dice": dice(*hot)[0].tolist()}
        case["hausdorff95"] = distance(*hot, spacing=steps)[0].tolist()
        found["cases"].append(case)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
