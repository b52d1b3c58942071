"""Pictures of training patches, for visual inspection: the network's input, and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_report import to_display

from lannunet_core import atomic_path
from lannunet_segmentation.types import IGNORE

PANEL_INCHES = 5.0


def draw_training_patches(batch: Mapping[str, Any], folder: Path) -> None:
    """Write one picture per patch: the image, and the label over it, grey where there is no annotation.

    A volume is shown as the slice z with the most voxels of a class.

    Args:
        batch: A collated batch, after augmentation.
        folder: Created if need be.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    images, labels = batch["image"].cpu().numpy(), batch["label"].cpu().numpy()
    for number, (name, image, label) in enumerate(zip(batch["id"], images, labels, strict=True)):
        title = str(name)
        if label.ndim == 3:
            z = int((label > 0).sum(axis=(1, 2)).argmax())
            image, label, title = image[:, z], label[z], f"{name}, z = {z}"
        figure = Figure(figsize=(2 * PANEL_INCHES, PANEL_INCHES), layout="constrained")
        figure.suptitle(title, parse_math=False)
        plain, laid_over = figure.subplots(1, 2)
        for axis in (plain, laid_over):
            axis.imshow(to_display(image))
            axis.set_axis_off()
        laid_over.imshow(np.where(label > 0, label, np.nan), cmap="tab10", vmin=1, vmax=10, alpha=0.5)
        laid_over.imshow(np.where(label == IGNORE, 0.5, np.nan), cmap="gray", vmin=0, vmax=1, alpha=0.5)
        with atomic_path(folder / f"{number}_{name}.png") as temporary:
            figure.savefig(temporary, dpi=100)
