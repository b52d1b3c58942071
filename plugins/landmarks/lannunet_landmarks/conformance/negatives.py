"""Checks of a loss on landmarks that are known to be missing. Each docstring states the contract."""

from __future__ import annotations

import torch

from lannunet_core import State
from lannunet_core.testing import (
    Broken,
    Subject,
    activate,
    free_batch,
    gradient_of,
    perfect_outputs,
)
from lannunet_landmarks.conformance.batches import landmark_batch, start
from lannunet_landmarks.conformance.points import decode


def known_negatives_are_learned(subject: Subject) -> None:
    """Absent and outside landmarks are trained on: a perfect network is less confident of them."""
    for kind in subject.kinds():
        for state in (State.ABSENT, State.OUTSIDE):
            session = start(subject, kind)
            batch = landmark_batch(session, states=torch.tensor([[0, 0], [state, state]]))
            labels, outputs = free_batch(session, batch)
            if not any(bool(tensor[1].any()) for tensor in gradient_of(session, outputs, labels) or []):
                raise Broken(f"in {kind} a sample with all landmarks {state.name.lower()} has no gradient")
        session = start(subject, kind, 3)
        states = torch.tensor([[0, State.ABSENT, State.OUTSIDE], [State.OUTSIDE, 0, State.ABSENT]])
        batch = landmark_batch(session, states=states)
        maps = activate(session, perfect_outputs(subject, session, batch), batch)
        confidence = decode(session, maps, batch).confidence.cpu()
        visible = states == State.VISIBLE
        if not confidence[~visible].max() < 0.5 * confidence[visible].min():
            raise Broken(
                f"in {kind} the confidences are {confidence.tolist()} for the states "
                f"{states.tolist()} (0 visible, 1 outside, 2 absent); negatives have to be used in training"
            )
