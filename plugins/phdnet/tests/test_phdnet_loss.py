import math
from typing import Any

import numpy as np
import pytest
import torch
from lannunet_phdnet.labels import generate_labels, log_transform
from lannunet_phdnet.loss import PatchLoss
from torch import Tensor

from lannunet_core import State

SIZE, SIGMA, PATCH = (60, 44), 1.4, 8


def labels_of(landmarks: Tensor, states: Tensor, **options: Any) -> dict[str, Any]:
    return generate_labels(landmarks, states, SIZE, torch.tensor([SIGMA]), PATCH, **options)


def noise(labels: dict[str, Any]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(labels[name].shape, generator=generator).requires_grad_()
        for name in ("heatmap", "displacement")
        if name in labels
    }


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@pytest.fixture
def landmarks() -> Tensor:
    return torch.tensor([[[20.3, 10.9], [40.0, 30.2]], [[3.0, 3.0], [57.0, 1.5]]])


@pytest.mark.parametrize("by_distance", [True, False])
def test_terms_landmark_by_landmark(landmarks: Tensor, by_distance: bool) -> None:
    """Against sums in float64 over patches, each from its centre."""
    states = torch.tensor([[State.VISIBLE, State.ABSENT], [State.UNLABELLED, State.VISIBLE]])
    weight = torch.tensor([[1.0, 0.5], [1.0, 2.0]])
    labels = labels_of(landmarks, states, weight_by_distance=by_distance, log_displacement=False)
    labels["weight"] = weight
    outputs = noise(labels)
    terms = PatchLoss(log_displacement=False, displacement_unit=8.0)(outputs, labels)

    heatmap, displacement = (outputs[name].detach().double().numpy() for name in ("heatmap", "displacement"))
    costs: dict[str, list[tuple[float, float]]] = {"heatmap": [], "displacement": []}
    for b, n in np.ndindex(2, 2):
        if states[b, n] == State.UNLABELLED:
            continue
        visible = states[b, n].item() == State.VISIBLE
        landmark = landmarks[b, n].double().numpy()
        error, way_error, way_weight = 0.0, 0.0, 0.0
        for i, j in np.ndindex(*heatmap.shape[2:]):
            way = landmark - (np.array([j, i]) * 8 + 3.5)
            gaussian = math.exp(-0.5 * (way**2).sum() / (8 * SIGMA) ** 2)
            error += (heatmap[b, n, i, j] - gaussian * visible) ** 2
            share = gaussian if by_distance else 1
            found = displacement[b, 2 * n : 2 * n + 2, i, j]
            way_error += share * (((found - way) / 8) ** 2).mean()
            way_weight += share
        costs["heatmap"].append((error / (math.pi * SIGMA**2), weight[b, n].item()))
        if visible:
            costs["displacement"].append((way_error / way_weight, weight[b, n].item()))
    for name, pairs in costs.items():
        expected = sum(cost * w for cost, w in pairs) / sum(w for _, w in pairs)
        assert terms[name].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", ["gaussian", "binary", "binary_weighted"])
def test_perfect_outputs_cost_nothing(landmarks: Tensor, scheme: str) -> None:
    labels = labels_of(landmarks, torch.zeros(2, 2, dtype=torch.long), class_labels=scheme)
    terms = PatchLoss(log_displacement=True, displacement_unit=1.0)(labels, labels)
    assert {name: value.item() for name, value in terms.items()} == {"heatmap": 0, "displacement": 0}


def test_errors_cost_and_never_pay(landmarks: Tensor) -> None:
    """Wrong displacements cost wherever they are: a weight below zero would reward them."""
    labels = labels_of(landmarks, torch.zeros(2, 2, dtype=torch.long))
    loss = PatchLoss(log_displacement=True, displacement_unit=1.0)
    for index in np.ndindex(*labels["displacement"].shape):
        wrong = labels["displacement"].clone()
        wrong[index] += 1
        assert loss({"displacement": wrong}, labels)["displacement"] >= 0
    near = labels["displacement"].clone()
    near[0, 0, 1, 2] += 1  # the patch of the first landmark
    far = labels["displacement"].clone()
    far[0, 0, 5, 7] += 1
    costs = [loss({"displacement": wrong}, labels)["displacement"].item() for wrong in (near, far)]
    assert costs[0] > 10 * costs[1] > 0


@pytest.mark.parametrize("state", [State.OUTSIDE, State.ABSENT])
def test_known_negatives_teach_the_heatmap_only(landmarks: Tensor, state: State) -> None:
    states = torch.full((2, 2), int(state))
    outputs = noise(labels := labels_of(landmarks, states))
    terms = PatchLoss(log_displacement=True, displacement_unit=1.0)(outputs, labels)
    total(terms).backward()
    assert terms["displacement"].item() == 0
    assert outputs["heatmap"].grad is not None and (outputs["heatmap"].grad != 0).all()
    assert outputs["displacement"].grad is not None and not outputs["displacement"].grad.any()


def test_unlabelled_and_weightless_landmarks_contribute_nothing(landmarks: Tensor) -> None:
    states = torch.tensor([[State.VISIBLE, State.UNLABELLED], [State.VISIBLE, State.VISIBLE]])
    labels = labels_of(landmarks, states) | {"weight": torch.tensor([[1.0, 1.0], [0.0, 1.0]])}
    outputs = noise(labels)
    total(PatchLoss(log_displacement=True, displacement_unit=1.0)(outputs, labels)).backward()
    for b, n, counts in ((0, 0, True), (0, 1, False), (1, 0, False), (1, 1, True)):
        for name, channels in (("heatmap", slice(n, n + 1)), ("displacement", slice(2 * n, 2 * n + 2))):
            gradient = outputs[name].grad
            assert gradient is not None
            assert bool(gradient[b, channels].any()) == counts


def test_nothing_labelled_is_zero_and_not_nan(landmarks: Tensor) -> None:
    outputs = noise(labels := labels_of(landmarks, torch.full((2, 2), int(State.UNLABELLED))))
    terms = PatchLoss(log_displacement=True, displacement_unit=1.0)(outputs, labels)
    total(terms).backward()
    assert total(terms).item() == 0
    assert all(output.grad is not None and not output.grad.any() for output in outputs.values())


def test_loss_in_half_precision_is_computed_in_single(landmarks: Tensor) -> None:
    outputs = noise(labels := labels_of(landmarks, torch.zeros(2, 2, dtype=torch.long)))
    terms = PatchLoss(log_displacement=True, displacement_unit=1.0)(
        {name: output.half() for name, output in outputs.items()}, labels
    )
    assert all(value.dtype == torch.float32 for value in terms.values())


def test_activation() -> None:
    pixels = torch.tensor([-300.0, -0.3, 0.0, 1e-3, 7.5]).reshape(1, 1, 1, -1)
    logarithms = PatchLoss(log_displacement=True, displacement_unit=1.0)
    maps = logarithms.activation(
        {"heatmap": torch.tensor([[[[-0.2, 0.4, 1.3]]]]), "displacement": log_transform(pixels)}
    )
    torch.testing.assert_close(maps["displacement"], pixels)
    torch.testing.assert_close(maps["heatmap"], torch.tensor([[[[0.0, 0.4, 1.0]]]]))
    plain = PatchLoss(log_displacement=False, displacement_unit=8.0)
    assert torch.equal(plain.activation({"displacement": pixels})["displacement"], pixels)
