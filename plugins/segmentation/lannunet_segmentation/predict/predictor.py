"""Predict cases with a learner: class scores, and label maps as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lannunet_core import (
    Floats,
    UserError,
    collate,
    from_first,
    gathered,
    is_first,
    note,
    progress_bar,
    share,
    to_device,
)
from lannunet_segmentation.data.cascade import PREVIOUS, with_classes
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.cutting import cut_box
from lannunet_segmentation.data.label_files import write_label
from lannunet_segmentation.data.normalise import prepare_image
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.predict.postprocessing import keep_largest
from lannunet_segmentation.predict.probabilities import probability_paths, writing_probabilities
from lannunet_segmentation.predict.resample import Keep, Part, mean_label_map
from lannunet_segmentation.predict.sliding import Inputs, patch_scores, stitched_scores
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

SCORES_IN_MEMORY = 2 << 30  # bytes of all scores in memory; larger ones are in files
Previous = Callable[[Case, CaseImage, SegmentationDataset, Sequence[int], Path], NDArray[Any]]
"""The labels (*S) that an earlier stage finds in a case as it is stored, on a grid of a size (x, y[, z]); the
path is a folder for large files meanwhile."""


@dataclass(frozen=True)
class Place:
    """The position of a prepared image, for additional inputs of the network.

    Attributes:
        id: The case's id.
        affine: (D + 1, D + 1) from its pixels to original pixels.
        spacing: mm per pixel (x, y[, z]).
        extra: Additional fields of the case.
    """

    id: str
    affine: Floats
    spacing: Sequence[float]
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A model that predicts alone or in an ensemble.

    Attributes:
        session: Session of the model.
        settings: Preparation of its images.
        previous: Provides the first stage's segmentation for a second stage; members share it.
    """

    session: SegmentationSession
    settings: Settings
    previous: Previous | None = None


@torch.inference_mode()
def scores_of(
    sessions: Sequence[SegmentationSession],
    image: NDArray[np.float32],
    place: Place,
    mirrored: bool = True,
    *,
    previous: NDArray[Any] | None = None,
    scratch: Path | None,
    held: int = 1,
) -> Tensor:
    """The activated maps (K, *S) of a prepared image (C, *S), averaged over models with patches of one size.

    Each patch is averaged before it is stored, so that several models need the memory of one.

    Args:
        sessions: Sessions of the models; the hooks of each provide its additional inputs.
        image: The image, prepared as for all of them.
        place: Position of the image.
        mirrored: Whether models whose `inference.tta` is true also predict mirrored images.
        previous: The labels (*S) of the first stage, for second stages.
        scratch: Folder for a file with the maps if these are large; None: in memory.
        held: Number of such maps in memory at a time.
    """
    first = sessions[0]
    run, config = first.run, first.config
    size = 2 * len(run.outputs) * int(np.prod(image.shape[1:]))
    members = [
        partial(
            patch_scores,
            session.learner.eval().run_network,
            activation=session.learner.loss.activation,
            mirror=mirrored and session.config.inference.tta,
            inputs=further_inputs(session, place),
        )
        for session in sessions
    ]

    def of_patches(patches: Tensor, firsts: Sequence[Sequence[int]]) -> Tensor:
        if previous is not None:
            cuts = [cut_box(previous, corner, patches.shape[:1:-1], PREVIOUS.fill) for corner in firsts]
            found = torch.from_numpy(np.stack(cuts)).to(patches.device)
            patches = with_classes(patches, found, first.seen_classes)
        total = members[0](patches, firsts=firsts)
        for member in members[1:]:
            total += member(patches, firsts=firsts)
        return total / len(members)

    def of_size(patch_size: tuple[int, ...]) -> Tensor:
        return stitched_scores(
            of_patches,
            image,
            patch_size,
            first.fabric.device,
            classes=len(run.outputs),
            batch_size=config.solver.data_loader_batch_size_eval,
            scratch=scratch if held * size > SCORES_IN_MEMORY else None,
            room=first.room,
        )

    return first.room.in_windows(run.input_size, of_size)


def further_inputs(session: SegmentationSession, place: Place) -> Inputs:
    """The inputs that a session's plugins provide for the patches of an image."""
    device = session.fabric.device
    of_case = {
        "id": place.id,
        "spacing": torch.tensor(place.spacing, dtype=torch.float64),
        "extra": session.extra.item(place.extra),
    }

    def inputs(patches: Tensor, affines: Tensor) -> Mapping[str, Any]:
        batch = to_device(collate([of_case] * len(patches)), device)
        affine = to_device({"affine": torch.from_numpy(place.affine) @ affines}, device)
        return session.hooks.network_inputs(batch={**batch, **affine, "image": patches})

    return inputs


def postprocessed(hooks: SegmentationHooks, made: SegmentedImage) -> SegmentedImage:
    """The result of the hook for a prediction, checked."""
    found: SegmentedImage = hooks.postprocess(prediction=made)
    if found is made:
        return made
    labels, classes = found.labels, len(made.class_names)
    if labels.shape != made.labels.shape or not 0 <= labels.min() <= labels.max() < classes:
        wanted = f"labels of shape {made.labels.shape} in 0 … {classes - 1}"
        raise hooks.wrong("postprocess", wanted, labels)
    return found


def segment_case(
    members: Sequence[Member],
    case: Case,
    stored: CaseImage,
    dataset: SegmentationDataset,
    keep: Keep | None = None,
    largest: Sequence[int] = (),
    *,
    scratch: Path,
) -> Labels:
    """The label map (*S) of a `stored` case, by the mean of the members' class maps.

    The first member's plugins decide on the classes and post-process, after the largest components of the
    classes `largest` were kept. For `keep` see `mean_label_map`, for `scratch` see `scores_of`.
    """
    hooks, geometry = members[0].session.hooks, stored.geometry
    alike: dict[Any, list[Member]] = {}  # members with the same patches of the same prepared image
    for member in members:
        alike.setdefault((member.settings, member.session.run.input_size, member.previous), []).append(member)
    parts = []
    for group in alike.values():
        image, affine = prepare_image(stored, group[0].settings, dataset)
        spacing = np.abs(affine[:-1, :-1]).T @ geometry.spacing  # its axes may be permuted
        place = Place(case.id, affine, spacing.tolist(), case.extra)
        earlier = group[0].previous
        found = None if earlier is None else earlier(case, stored, dataset, image.shape[:0:-1], scratch)
        sessions = [member.session for member in group]
        scores = scores_of(sessions, image, place, previous=found, scratch=scratch, held=len(alike))
        parts.append(Part(scores, affine, len(group) / len(members)))
    size = stored.pixels.shape[:0:-1]
    outside = None if members[0].session.run.regions else 0
    labels = mean_label_map(parts, size, lambda maps: hooks.get_segmentation(maps=maps), keep, outside)
    labels = keep_largest(labels, largest)
    made = SegmentedImage(
        case.id,
        labels,
        stored.label,
        geometry.spacing,
        dataset.class_names,
        case.extra,
        dataset.regions,
        case.annotated,
    )
    return np.asarray(postprocessed(hooks, made).labels, np.int16)


def segment(
    members: Sequence[Member],
    cases: Sequence[Case],
    dataset: SegmentationDataset,
    folder: Path,
    title: str,
    largest: Sequence[int] = (),
    probabilities: bool = False,
    damaged: list[UserError] | None = None,
) -> list[SegmentedCase]:
    """Predict cases, post-process them, and write label files, with the geometry of their images.

    Cases that cannot be read are left out, and their errors appended to `damaged`; None: the first is raised.

    Several members predict together; for this and `largest` see `segment_case`. With `probabilities` these
    are written too (see `writing_probabilities`), before post-processing.
    Each process of a run does so for its share.
    """
    folder.mkdir(exist_ok=True)
    done = []
    targets, besides = label_paths(cases, dataset, folder), probability_paths(cases, folder)
    for path in targets:
        note(path)
    from_first(None)  # the files are in the folder's record now
    own = share(list(zip(cases, targets, besides, strict=True)))
    with progress_bar(f"segmenting {title} cases", len(own)) as bar:
        for case, path, beside in own:
            try:
                stored = read_case(case, dataset)
            except UserError as error:
                if damaged is None:
                    raise
                damaged.append(error)
                bar.advance()
                continue
            geometry = stored.geometry
            shape = (len(dataset.outputs), *stored.pixels.shape[1:])
            writing = writing_probabilities(beside, shape) if probabilities else nullcontext()
            with writing as keep:
                labels = segment_case(members, case, stored, dataset, keep, largest, scratch=folder)
            write_label(path, labels, geometry)
            done.append(
                SegmentedCase(case.id, case.images, path, case.label, case.extra, geometry, case.annotated)
            )
            bar.advance()
    every = gathered(done)  # their files exist now
    return list(members[0].session.hooks.postprocess_all(predictions=every)) if is_first() else every
