"""Pictures of samples, labels and predicted maps, for visual inspection. Written as PNG, never shown.

A volume is shown as one slice: the one with the strongest map.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lannunet_report import to_display
from numpy.typing import NDArray

from lannunet_core import Floats, atomic_path, names_a_file
from lannunet_landmarks.types import Prediction

if TYPE_CHECKING:
    from torch import Tensor

PANEL_INCHES = 5.0
LONGEST = 40  # characters of a file name, of up to 4 bytes each


def draw_training_batch(batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> None:
    """Write one picture per sample: the image as the network sees it, its landmarks and their heatmaps.

    Args:
        batch: A collated batch, after augmentation.
        labels: Labels of `generate_labels`; their first tensor (B, N, *S) is drawn.
        folder: Created if need be; files are named by sample id.
    """
    image = _numpy(batch["image"])
    maps = _first_maps(labels, image.ndim)
    folder.mkdir(parents=True, exist_ok=True)
    for b, name in enumerate(batch["id"]):
        points = {"landmark": (_numpy(batch["landmarks"])[b], "#2ee6a6", "o")}
        _draw(
            folder / f"{file_name(str(name))}.png",
            str(name),
            image[b],
            None if maps is None else maps[b],
            points,
        )


def draw_predicted_maps(
    batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Prediction], folder: Path
) -> None:
    """Write one picture per sample: the image, the predicted maps, the predicted and the annotated landmarks.

    Args:
        batch: A collated batch; its affine maps the predictions' frame to the network's.
        heatmaps: Activated maps; the first tensor (B, N, *S) is drawn.
        predictions: Predictions of this batch, in its order.
        folder: Created if need be.
    """
    from lannunet_images import transform_points

    image = _numpy(batch["image"])
    maps = _first_maps(heatmaps, image.ndim)
    to_input = np.linalg.inv(_numpy(batch["affine"]))
    folder.mkdir(parents=True, exist_ok=True)
    for b, prediction in enumerate(predictions):
        points = {"prediction": (transform_points(to_input[b], prediction.coordinates), "#ff9d2e", "x")}
        if prediction.target is not None:
            points["annotation"] = (transform_points(to_input[b], prediction.target), "#2ee6a6", "o")
        path = folder / f"{file_name(prediction.id)}.png"
        _draw(path, prediction.id, image[b], None if maps is None else maps[b], points)


def _draw(
    path: Path,
    title: str,
    image: NDArray[Any],
    maps: NDArray[Any] | None,
    points: Mapping[str, tuple[Floats, str, str]],
) -> None:
    """One PNG: the image (C, *S) with points (N, D), and beside it the image under the maps (N, *S')."""
    from matplotlib.figure import Figure

    strongest = None if maps is None else maps.max(axis=0)  # (*S')
    if image.ndim == 4:
        z = _plane(image.shape[1], strongest, points)
        if strongest is not None:
            strongest = strongest[min(z * len(strongest) // image.shape[1], len(strongest) - 1)]
        image, title = image[:, z], f"{title}, z = {z}"
    height, width = image.shape[1:]
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)

    panels = 1 if strongest is None else 2
    figure = Figure(
        figsize=(PANEL_INCHES * panels, PANEL_INCHES * height / width + 0.6), layout="constrained"
    )
    figure.suptitle(title, parse_math=False)
    axes = np.atleast_1d(figure.subplots(1, panels))
    for axis in axes:
        axis.imshow(to_display(image), extent=edges)
        axis.set_axis_off()
    for name, (place, colour, marker) in points.items():
        face = {"edgecolors": colour, "facecolors": "none"} if marker == "o" else {"color": colour}
        axes[0].scatter(*place[:, :2].T, s=40, linewidths=1.3, marker=marker, label=name, **face)
        for n, (x, y) in enumerate(place[:, :2]):
            if np.isfinite((x, y)).all():
                axes[0].annotate(str(n), (x, y), (4, 4), textcoords="offset points", color=colour, size=8)
    axes[0].set(xlim=edges[:2], ylim=edges[2:])
    if strongest is not None:
        top = max(float(strongest.max()), 1e-12)
        alpha = (strongest / top).clip(0, 1) * 0.8
        overlay = axes[1].imshow(strongest, cmap="inferno", vmin=0, vmax=top, alpha=alpha, extent=edges)
        overlay.colorbar = None
        axes[1].set_title(f"maps, up to {top:.3g}", size=9)
    if len(points) > 1:
        axes[0].legend(loc="upper right", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _plane(depth: int, strongest: NDArray[Any] | None, points: Mapping[str, tuple[Floats, str, str]]) -> int:
    """The plane with the strongest map, or through the median point, or the middle one."""
    if strongest is not None and strongest.max() > 0:
        return int(strongest.max(axis=(1, 2)).argmax()) * depth // len(strongest)
    heights = np.concatenate([place[:, 2] for place, _, _ in points.values()])
    heights = heights[np.isfinite(heights)]
    return int(np.clip(np.median(heights).round(), 0, depth - 1)) if heights.size else depth // 2


def _first_maps(nest: Any, dimensions: int) -> NDArray[Any] | None:
    """The first array of `dimensions` axes in a nest of tensors, depth first; None: there is none."""
    if hasattr(nest, "detach"):
        return _numpy(nest) if nest.ndim == dimensions else None
    values = nest.values() if isinstance(nest, Mapping) else nest if isinstance(nest, (list, tuple)) else ()
    return next((found for value in values if (found := _first_maps(value, dimensions)) is not None), None)


def _numpy(tensor: Tensor | NDArray[Any]) -> NDArray[Any]:
    return tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().double().numpy()


def file_name(name: str) -> str:
    """A safe file name for an id or a foreign name; different names give different results."""
    harmless = re.sub(r"[^\w. -]", "_", name)
    if harmless == name and names_a_file(name):
        return name
    return (
        f"{harmless[:LONGEST].strip('. ')}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    )
