"""Predicting cases with a learner: class scores, and label maps as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lannunet_core import Floats, collate, progress_bar, to_device
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.label_files import write_label
from lannunet_segmentation.data.normalise import prepare_image
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.predict.resample import label_map
from lannunet_segmentation.predict.sliding import predict_scores
from lannunet_segmentation.predict.targets import label_paths
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import (
    Case,
    CaseImage,
    Labels,
    SegmentationDataset,
    SegmentedCase,
    SegmentedImage,
    Settings,
)

SCORES_IN_MEMORY = 2 << 30  # bytes; larger ones go to a file


@dataclass(frozen=True)
class Place:
    """What further inputs of the network may need of a prepared image.

    Attributes:
        id: The case's id.
        affine: (D + 1, D + 1) from its pixels to original pixels.
        spacing: mm per pixel (x, y[, z]).
        extra: Further fields of the case.
    """

    id: str
    affine: Floats
    spacing: Sequence[float]
    extra: Mapping[str, Any]


@torch.inference_mode()
def scores_of(
    session: SegmentationSession, image: NDArray[np.float32], place: Place, mirror: bool = False
) -> Tensor:
    """The activated maps (K, *S) of a prepared image (C, *S)."""
    run, learner, device = session.run, session.learner, session.fabric.device
    size = 2 * len(run.outputs) * int(np.prod(image.shape[1:]))
    folder = session.config.output.output_dir
    of_case = {
        "id": place.id,
        "spacing": torch.tensor(place.spacing, dtype=torch.float64),
        "extra": session.extra.item(place.extra),
    }

    def inputs(patches: Tensor, affines: Tensor) -> Mapping[str, Any]:
        batch = to_device(collate([of_case] * len(patches)), device)
        affine = to_device({"affine": torch.from_numpy(place.affine) @ affines}, device)
        return session.hooks.network_inputs(batch={**batch, **affine, "image": patches})

    return predict_scores(
        learner.eval().run_network,
        image,
        run.input_size,
        device,
        classes=len(run.outputs),
        batch_size=session.config.solver.data_loader_batch_size_eval,
        mirror=mirror,
        scratch=folder if size > SCORES_IN_MEMORY and folder.is_dir() else None,
        activation=learner.loss.activation,
        inputs=inputs,
    )


def postprocessed(hooks: SegmentationHooks, made: SegmentedImage) -> SegmentedImage:
    """What the hook makes of a prediction, checked."""
    found: SegmentedImage = hooks.postprocess(prediction=made)
    if found is made:
        return made
    labels, classes = found.labels, len(made.class_names)
    if labels.shape != made.labels.shape or not 0 <= labels.min() <= labels.max() < classes:
        wanted = f"labels of shape {made.labels.shape} in 0 … {classes - 1}"
        raise hooks.wrong("postprocess", wanted, labels)
    return found


def segment_case(
    session: SegmentationSession,
    case: Case,
    stored: CaseImage,
    dataset: SegmentationDataset,
    settings: Settings,
    kept: NDArray[np.float32] | None = None,
) -> Labels:
    """The label map (*S) of a case as it is `stored`, post-processed; for `kept` see `label_map`."""
    hooks, geometry = session.hooks, stored.geometry
    image, affine = prepare_image(stored, settings, dataset)
    spacing = np.abs(affine[:-1, :-1]).T @ geometry.spacing  # its axes may be turned
    place = Place(case.id, affine, spacing.tolist(), case.extra)
    scores = scores_of(session, image, place, session.config.inference.tta)
    size = stored.pixels.shape[:0:-1]
    labels = label_map(scores, affine, size, lambda maps: hooks.get_segmentation(maps=maps), kept)
    made = SegmentedImage(case.id, labels, stored.label, geometry.spacing, dataset.class_names, case.extra)
    return np.asarray(postprocessed(hooks, made).labels, np.int16)


def segment(
    session: SegmentationSession,
    cases: Sequence[Case],
    dataset: SegmentationDataset,
    settings: Settings,
    folder: Path,
    title: str,
) -> list[SegmentedCase]:
    """Predict cases, post-process them, and write label files, in the geometry of their images."""
    folder.mkdir(exist_ok=True)
    done = []
    targets = label_paths(cases, dataset, folder)
    with progress_bar(f"segmenting {title} cases", len(cases)) as bar:
        for case, path in zip(cases, targets, strict=True):
            stored = read_case(case, dataset)
            geometry = stored.geometry
            write_label(path, segment_case(session, case, stored, dataset, settings), geometry)
            done.append(SegmentedCase(case.id, case.images, path, case.label, case.extra, geometry))
            bar.advance()
    return list(session.hooks.postprocess_all(predictions=done))
