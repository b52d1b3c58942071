"""The validation error of a model on the held-out cases, on the network's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import gathered, progress_bar, share
from lannunet_segmentation.data.cascade import PREVIOUS
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.predict.predictor import Place, postprocessed, scores_of
from lannunet_segmentation.regions import label_names, regions_of
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import IGNORE, Labels, Region, SegmentedImage, classes_as_regions


def validation_error(session: SegmentationSession, cases: Sequence[PreparedCase]) -> dict[str, float] | None:
    """1 − the mean Dice of all classes and cases, on the prepared grid, over the annotated voxels.

    If cases have weights, the same for the weighted Dice is added, and the metrics of plugins.
    """
    hooks, run = session.hooks, session.run
    names, regions = label_names(run), regions_of(run)
    compared = regions or classes_as_regions(names)
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
            folder, previous = session.config.output.output_dir, case.extra(PREVIOUS.name)
            maps = scores_of(
                [session], case.image(), place, mirrored=False, previous=previous, scratch=folder
            )
            labels = hooks.get_segmentation(maps=maps.float()).numpy()
            made = SegmentedImage(
                case.id,
                labels,
                label,
                case.spacing,
                names,
                case.extra_fields,
                regions,
                case.annotated_classes,
            )
            made = postprocessed(hooks, made)
            kept += [made] if keeps else []
            predicted = made.labels
            drawn_for = case.annotated_classes
            drawn = [one for one in compared if drawn_for is None or one.name in drawn_for]
            scores += dice_of(predicted, label, drawn)
            weighing = [extra for extra in session.learner.extra_maps if extra.role != "label"]
            found = [case.extra(extra.name) for extra in weighing]
            known = [values.astype(np.float32) for values in found if values is not None]
            if known:
                weight = math.prod(known[1:], start=known[0])
                weighted += dice_of(predicted, label, drawn, weight)
            bar.advance()
    scores, weighted, kept = gathered(scores), gathered(weighted), gathered(kept)
    if not scores:
        return None
    figures = {"validation_error": 1 - float(np.mean(scores))}
    if weighted:
        figures["weighted_validation_error"] = 1 - float(np.mean(weighted))
    further = hooks.validation_metrics(predictions=kept)
    return figures | {name: float(value) for name, value in further.items()}


def dice_of(
    predicted: NDArray[Any],
    label: Labels,
    compared: Sequence[Region],
    weight: NDArray[np.float32] | None = None,
) -> list[float]:
    """Dice of each predicted or annotated class or region, over the annotated voxels.

    `weight` (*S) are the weights of the voxels.
    """
    known = label != IGNORE
    highest = 1 + int(max(label.max(), predicted.max(), *(max(region.labels) for region in compared)))
    pairs = label[known].astype(np.int64) * highest + predicted[known]
    counts = np.bincount(pairs, None if weight is None else weight[known], minlength=highest**2)
    table = counts.reshape(highest, highest)  # annotated, predicted
    found = []
    for region in compared:
        labels = list(region.labels)
        both = table[np.ix_(labels, labels)].sum()
        if all_ := table[labels].sum() + table[:, labels].sum():
            found.append(float(2 * both / all_))
    return found
