"""Pictures of predictions for trackers: the best, the worst, and some between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lannunet_core import UserError, echo

if TYPE_CHECKING:
    from lannunet_landmarks import Prediction
    from lannunet_segmentation import SegmentedCase

PICTURES = 6
INCHES = 5.0


def draw_predictions(predictions: Sequence[Any], folder: Path, run: Path) -> list[Path]:
    """Write a PNG for up to `PICTURES` predictions, in the order of their errors; nothing for other tasks.

    Args:
        predictions: Argument of the hook `metrics`.
        folder: The target folder.
        run: The run's folder; its config.yaml states task and evaluation mode.
    """
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    if config["task"] == "landmarks":
        if config["inference"]["evaluation_mode"] == "use_input_size":
            return []  # the coordinates are not those of the image file
        ranked = sorted(predictions, key=_landmark_error)
        draw: Callable[[Any, Path], None] = _draw_landmarks
    elif config["task"] == "segmentation":
        ranked, draw = list(predictions), _draw_labels
    else:
        return []
    paths: list[Path] = []
    for place in np.linspace(0, len(ranked) - 1, min(PICTURES, len(ranked))).round().astype(int):
        path = folder / f"prediction_{len(paths) + 1}.png"
        try:
            draw(ranked[place], path)
        except UserError as error:  # a format that another plugin of the run reads
            echo(f"warning: the trackers get no picture of {ranked[place].id}: {error}", err=True)
        else:
            paths.append(path)
    return paths


def _landmark_error(prediction: Prediction) -> float:
    """The mean error of an image; without annotation, its uncertainty."""
    from lannunet_landmarks import radial_errors

    pixels, _ = radial_errors(prediction)
    known = pixels[np.isfinite(pixels)]
    return float(known.mean()) if known.size else 1 - float(np.mean(prediction.confidence))


def _draw_landmarks(prediction: Prediction, path: Path) -> None:
    from lannunet_images import IMAGE_FILES

    dimensions = prediction.coordinates.shape[-1]
    pixels = IMAGE_FILES.read(prediction.image, dimensions).pixels
    title = prediction.id
    points = {"prediction": prediction.coordinates}
    points |= {} if prediction.target is None else {"annotation": prediction.target}
    if dimensions == 3:  # the plane through the median point
        heights = np.concatenate(list(points.values()))[:, 2]
        heights = heights[np.isfinite(heights)]
        middle = np.median(heights) if heights.size else pixels.shape[1] / 2
        z = int(np.clip(np.round(middle), 0, pixels.shape[1] - 1))
        pixels, title = pixels[:, z], f"{title}, z = {z}"
    _save(pixels, title, path, points=points)


def _draw_labels(case: SegmentedCase, path: Path) -> None:
    from lannunet_images import IMAGE_FILES
    from lannunet_segmentation import read_prediction

    labels = read_prediction(case)
    pixels = IMAGE_FILES.read(case.images[0], labels.ndim).pixels
    title = case.id
    if labels.ndim == 3:  # the plane with the most predicted voxels
        z = int((labels > 0).sum(axis=(1, 2)).argmax())
        pixels, labels, title = pixels[:, z], labels[z], f"{title}, z = {z}"
    _save(pixels, title, path, labels=labels)


def _save(
    pixels: NDArray[Any],
    title: str,
    path: Path,
    points: Mapping[str, NDArray[np.float64]] | None = None,
    labels: NDArray[Any] | None = None,
) -> None:
    """An image (C, y, x) with points or labels over it."""
    from lannunet_report import to_display
    from matplotlib.figure import Figure

    height, width = pixels.shape[1:]
    figure = Figure(figsize=(INCHES, INCHES * height / width + 0.4), layout="constrained")
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots()
    axes.imshow(to_display(pixels))
    axes.set_axis_off()
    if labels is not None:
        axes.imshow(np.where(labels > 0, labels, np.nan), cmap="tab10", vmin=1, vmax=10, alpha=0.5)
    for name, colour, marker in (("prediction", "#ff9d2e", "x"), ("annotation", "#2ee6a6", "+")):
        if points and name in points:
            x, y = points[name][:, :2].T
            axes.scatter(x, y, s=40, color=colour, marker=marker, label=name)
    if points:
        axes.legend(loc="upper right", fontsize=8)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    figure.savefig(path, dpi=100)
