"""Slices of the hippocampus cases as PNG files, which do not state an orientation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

EACH = 3  # slices of a case


def write_pictures(source: Path, target: Path, mirrored: bool = False) -> Path:
    """Write sagittal slices that show both parts, of all cases of a raw folder (nnU-Net's layout).

    Args:
        source: The raw folder.
        target: The new one.
        mirrored: Mirror each slice at random along each axis, so that orientations differ.
    """
    rng = np.random.default_rng(0)
    for file in sorted(source.glob("labels*/*.nii.gz")):
        name, split = file.name.removesuffix(".nii.gz"), file.parent.name.removeprefix("labels")
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(source / f"images{split}/{name}_0000.nii.gz")))
        scaled = (values - values.min()) / np.ptp(values) * 255
        both = np.flatnonzero((label == 1).any((0, 1)) & (label == 2).any((0, 1)))
        for x in both[len(both) // 4 :: max(len(both) // 4, 1)][:EACH].tolist():
            steps = rng.choice([-1, 1], 2) if mirrored else (1, 1)
            picture, its_label = (array[:: steps[0], :: steps[1], x] for array in (scaled.round(), label))
            _write(picture, target / f"images{split}" / f"{name}_{x}_0000.png")
            _write(its_label, target / f"labels{split}" / f"{name}_{x}.png")
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content |= {"file_ending": ".png", "numTraining": len(list((target / "labelsTr").iterdir()))}
    (target / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return target


def _write(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(values.astype(np.uint8))), str(path))
