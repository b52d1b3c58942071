"""Small runs in which plugins are tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lannunet_core import Floats, Sampling, Session, State
from lannunet_core.testing import (
    Bench,
    Broken,
    Conformance,
    Goal,
    Partial,
    Source,
    Tested,
    check_levels,
    draw_points,
)
from lannunet_landmarks.conformance.batches import landmark_batch
from lannunet_landmarks.conformance.points import check_heatmaps, compare_points, decode, has_own_decoder
from lannunet_landmarks.types import Sample


class LandmarkBench(Bench):
    """See `Bench`."""

    label_hooks = ("generate_labels",)
    goal = Goal("mean error", " px", 1.0)

    def config(self, size: tuple[int, ...]) -> dict[str, Any]:
        return {"dataset": {"src_targets": "annotations.json"}, "sampler": {"input_size": size}}

    def outputs(self, count: int) -> tuple[str, ...]:
        return tuple(f"landmark {n}" for n in range(count))

    def make_batch(self, session: Session, count: int, seed: int) -> dict[str, Any]:
        return landmark_batch(session, count, seed=seed)

    def check_outputs(self, session: Session, outputs: Any, batch: Any, where: str) -> None:
        check_levels(outputs, batch["image"], len(session.run.outputs), "landmark, (B, N, *S)", where)

    def check_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        landmarks = len(session.run.outputs)
        if not has_own_decoder(tested):
            check_heatmaps(maps, batch["image"], landmarks, where)
        found = tuple(decode(session, maps, batch).points.shape)
        wanted = (len(batch["image"]), landmarks, session.run.dimensions)
        if found != wanted:
            raise Broken(f"{where}, the decoded points are {found}, should be {wanted}")

    def check_perfect_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        if has_own_decoder(tested):
            return  # the values of these maps matter to the plugin's own decoder only
        check_heatmaps(maps, batch["image"], len(session.run.outputs), where)
        first = (maps if isinstance(maps, Tensor) else maps[0]).flatten(2)
        peak, background = first.amax(-1), first.median(-1).values
        if not ((peak > 0.7) & (peak < 1.3)).all():
            raise Broken(
                f"{where} the activated maps of perfect outputs peak at {peak.tolist()}, should be 1"
            )
        if background.abs().max() > 0.1 or first.min() < -0.2:
            raise Broken(
                f"{where} the background of the activated maps of perfect outputs is "
                f"{background.tolist()}, the lowest value {float(first.min()):.3g}; should be 0"
            )

    def check_found(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        found = decode(session, maps, batch).points
        compare_points(found, batch["landmarks"], tested.decoding_error, where)

    def figure(self, session: Session, batch: Mapping[str, Any]) -> float:
        points = decode(session, self.maps(session, batch), batch).points.cpu()
        distance = (points - batch["landmarks"]).norm(dim=-1)
        return float(distance.nan_to_num(nan=max(session.run.input_size)).mean())

    def unlabelled(self, session: Session) -> Sequence[Partial]:
        def second_landmark(gradient: Tensor) -> Tensor | None:
            return gradient[0, 1] if gradient.ndim > 1 and gradient.shape[1] == 2 else None

        states = torch.tensor([[0, State.UNLABELLED], [State.UNLABELLED, State.UNLABELLED]])
        batch = landmark_batch(session, states=states)
        return [Partial("the map of an unlabelled landmark", batch, second_landmark, {})]

    def weightless(self, session: Session) -> Sequence[Partial]:
        weight = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
        return [
            Partial("a landmark of weight 0", landmark_batch(session), lambda _: None, {"weight": weight})
        ]

    def empty(self, tested: Tested, session: Session) -> Mapping[str, dict[str, Any]]:
        return {
            f"all landmarks {state.name.lower()}": landmark_batch(
                session, states=torch.full((2, 2), int(state))
            )
            for state in (State.UNLABELLED, State.ABSENT)
        }

    def equal(self, session: Session) -> Sequence[tuple[str, dict[str, Any], dict[str, Any]]]:
        states = torch.tensor([[0, State.UNLABELLED], [State.UNLABELLED, 0]])
        batch = landmark_batch(session, states=states)
        somewhere = draw_points(session.run.input_size, 2, 2, seed=5)
        unlabelled = (states == State.UNLABELLED)[..., None]
        placed = {**batch, "landmarks": torch.where(unlabelled, somewhere, batch["landmarks"])}
        return [("an unlabelled landmark at NaN or at some place", batch, placed)]

    @contextmanager
    def sources(self, dimensions: int, sampling: Sampling) -> Iterator[Sequence[Source]]:
        factors = np.array([[7, 2, 3], [1, 3, 2]])[:, :dimensions]  # elongated and small images
        sizes = np.array(sampling.output_size) * factors + np.arange(dimensions)
        long, small = (tuple(size) for size in sizes.tolist())
        yield [_image(long), _image(small), _image(long, State.UNLABELLED), _image(long, State.ABSENT)]

    def suites(self) -> Mapping[str, type[Conformance]]:
        from lannunet_landmarks.conformance.suites import SUITES

        return SUITES

    def formats(self) -> Mapping[str, type[Any]]:
        from lannunet_landmarks.conformance.formats import FormatConformance

        return {"landmark_formats": FormatConformance}


def _image(size: tuple[int, ...], state: State = State.VISIBLE) -> Source:
    """An image with two landmarks, both in the same state."""
    landmarks: Floats = np.array(size) * np.array([[0.3], [0.6]]) + 0.25
    if state != State.VISIBLE:
        landmarks = np.full_like(landmarks, np.nan)
    states = np.full(2, int(state))
    sample = Sample("sample", Path("sample.png"), landmarks, states)
    offered = {"sample": sample, "landmarks": landmarks, "states": states}
    what = f"an image with all landmarks {state.name.lower()}"
    return Source(what, size, state == State.VISIBLE, offered)
