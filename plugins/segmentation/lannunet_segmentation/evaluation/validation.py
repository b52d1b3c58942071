"""How far off a model is on the cases that are held out, on the grid that the network sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import gathered, progress_bar, share
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.predict.predictor import Place, postprocessed, scores_of
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import IGNORE, Labels, SegmentedImage


def validation_error(session: SegmentationSession, cases: Sequence[PreparedCase]) -> dict[str, float] | None:
    """1 − the mean Dice of all classes and cases, on the prepared grid, of the annotated voxels.

    Where cases have weights, the same of the weighted Dice is added, and the figures of plugins.
    """
    hooks, names = session.hooks, session.run.outputs
    keeps = hooks.answered("validation_metrics")
    kept: list[SegmentedImage] = []
    session.learner.eval()
    scores: list[float] = []
    weighted: list[float] = []
    own = share(cases)
    with progress_bar("validating", len(own)) as bar:
        for case in own:
            label = case.label()
            assert label is not None
            place = Place(case.id, case.affine, case.spacing, case.extra_fields)
            maps = scores_of([session], case.image(), place, mirrored=False)
            labels = hooks.get_segmentation(maps=maps.float()).numpy()
            made = SegmentedImage(case.id, labels, label, case.spacing, names, case.extra_fields)
            made = postprocessed(hooks, made)
            kept += [made] if keeps else []
            predicted = made.labels
            scores += dice_of_classes(predicted, label, len(names))
            weighing = [extra for extra in session.learner.extra_maps if extra.role != "label"]
            found = [case.extra(extra.name) for extra in weighing]
            known = [values.astype(np.float32) for values in found if values is not None]
            if known:
                weight = math.prod(known[1:], start=known[0])
                weighted += dice_of_classes(predicted, label, len(names), weight)
            bar.advance()
    scores, weighted, kept = gathered(scores), gathered(weighted), gathered(kept)
    if not scores:
        return None
    figures = {"validation_error": 1 - float(np.mean(scores))}
    if weighted:
        figures["weighted_validation_error"] = 1 - float(np.mean(weighted))
    further = hooks.validation_metrics(predictions=kept)
    return figures | {name: float(value) for name, value in further.items()}


def dice_of_classes(
    predicted: np.ndarray[Any, Any], label: Labels, classes: int, weight: NDArray[np.float32] | None = None
) -> list[float]:
    """Dice of each class but the background that is predicted or annotated, of the annotated voxels.

    With `weight` (*S), each voxel counts so often.
    """
    known = label != IGNORE
    counts = None if weight is None else weight[known]
    predicted, label = predicted[known], label[known]
    hit = predicted == label
    found = np.bincount(predicted, counts, minlength=classes)
    wanted = np.bincount(label, counts, minlength=classes)
    common = np.bincount(label[hit], None if counts is None else counts[hit], minlength=classes)
    total = (found + wanted)[1:]
    return [float(2 * both / all_) for both, all_ in zip(common[1:], total, strict=True) if all_]
