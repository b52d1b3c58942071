import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_phdnet.labels import generate_labels, log_transform, undo_log_transform
from numpy.typing import NDArray
from torch import Tensor

from lannunet_core import State

Sizes = st.one_of(st.tuples(*[st.integers(9, 60)] * 2), st.tuples(*[st.integers(9, 30)] * 3))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[int, ...], int, NDArray[np.float64]]:
    """A size (x, y[, z]), a patch size and one landmark anywhere in the image."""
    size = draw(Sizes)
    patch_size = draw(st.sampled_from([2, 4, 8]))
    landmark = [draw(st.floats(-0.5, side - 0.51)) for side in size]
    return size, patch_size, np.array(landmark)


def make(size: tuple[int, ...], patch_size: int, landmark: NDArray[np.float64], **options: object):  # type: ignore[no-untyped-def]
    return generate_labels(
        torch.tensor(landmark)[None, None],
        torch.zeros(1, 1, dtype=torch.long),
        size,
        torch.tensor([1.3], dtype=torch.float64),
        patch_size,
        **options,  # type: ignore[arg-type]
    )


def centres(size: tuple[int, ...], patch_size: int) -> list[tuple[tuple[int, ...], NDArray[np.float64]]]:
    """Tensor index ([z,] y, x) of every patch and the mean (x, y[, z]) of the pixels that it covers."""
    shape = [math.ceil(side / patch_size) for side in size]
    return [
        (
            index,
            np.array(
                [np.arange(i * patch_size, (i + 1) * patch_size).mean() for i in reversed(index)],
            ),
        )
        for index in np.ndindex(*shape[::-1])
    ]


@settings(deadline=None, max_examples=40)
@given(scenes())
def test_patch_by_patch(scene: tuple[tuple[int, ...], int, NDArray[np.float64]]) -> None:
    size, patch_size, landmark = scene
    labels = make(size, patch_size, landmark, log_displacement=False)
    dimensions = len(size)
    patches = centres(size, patch_size)
    assert labels["heatmap"].numel() == len(patches)
    for index, centre in patches:
        way = landmark - centre
        gaussian = math.exp(-0.5 * ((way / patch_size) ** 2).sum() / 1.3**2)
        assert labels["heatmap"][(0, 0, *index)].item() == pytest.approx(gaussian, abs=1e-9)
        assert labels["displacement_weight"][(0, 0, *index)].item() == pytest.approx(gaussian, abs=1e-9)
        for axis in range(dimensions):
            found = labels["displacement"][(0, axis, *index)].item()
            assert found == pytest.approx(way[axis], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(scenes())
def test_binary_labels_are_one_in_the_patch_that_holds_the_landmark(
    scene: tuple[tuple[int, ...], int, NDArray[np.float64]],
) -> None:
    size, patch_size, landmark = scene
    heatmap = make(size, patch_size, landmark, class_labels="binary")["heatmap"][0, 0]
    assert heatmap.sum() == 1
    holder = tuple(torch.nonzero(heatmap)[0].tolist())
    first = np.array(holder[::-1]) * patch_size - 0.5  # edges of its pixels
    assert np.all(first <= landmark + 1e-9) and np.all(landmark <= first + patch_size + 1e-9)


@settings(deadline=None, max_examples=40)
@given(scenes())
def test_a_cut_out_patch_has_the_labels_of_that_part(
    scene: tuple[tuple[int, ...], int, NDArray[np.float64]],
) -> None:
    size, patch_size, landmark = scene
    whole = make(size, patch_size, landmark)
    corner = [patch_size * (side // patch_size // 2) for side in size]
    rest = tuple(side - first for side, first in zip(size, corner, strict=True))
    part = make(rest, patch_size, landmark - corner)
    kept = (..., *(slice(first // patch_size, None) for first in corner[::-1]))
    for name in ("heatmap", "displacement", "displacement_weight"):
        torch.testing.assert_close(part[name], whole[name][kept])


@settings(deadline=None, max_examples=40)
@given(scenes(), st.floats(8, 40))
def test_clamped_displacements_keep_their_direction(
    scene: tuple[tuple[int, ...], int, NDArray[np.float64]], longest: float
) -> None:
    size, patch_size, landmark = scene
    whole = make(size, patch_size, landmark, log_displacement=False)["displacement"]
    short = make(size, patch_size, landmark, log_displacement=False, longest=longest)["displacement"]
    length = torch.linalg.vector_norm(whole, dim=1, keepdim=True)
    torch.testing.assert_close(short, whole * (length.clamp(max=longest) / length.clamp(min=1e-300)))


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, allow_subnormal=False), min_size=2, max_size=20, unique=True))
def test_log_transform(values: list[float]) -> None:
    plain = torch.tensor(sorted(values), dtype=torch.float64)
    transformed = log_transform(plain)
    torch.testing.assert_close(undo_log_transform(transformed), plain)  # an inverse, below 1 and through 0
    assert torch.equal(transformed.sign(), plain.sign())
    apart = plain.diff() > 1e-6
    assert (transformed.diff()[apart] > 0).all()
    torch.testing.assert_close(log_transform(-plain), -transformed)


def test_states() -> None:
    states = torch.tensor([[State.VISIBLE, State.OUTSIDE, State.ABSENT, State.UNLABELLED]])
    landmarks = torch.tensor([[[9.0, 5.0], [-4.0, 5.0], [math.nan, math.nan], [math.nan, math.nan]]])
    for scheme in ("gaussian", "binary", "binary_weighted"):
        for by_distance in (True, False):
            labels = generate_labels(
                landmarks, states, (33, 20), torch.ones(4), 8, scheme, weight_by_distance=by_distance
            )  # type: ignore[arg-type]
            assert torch.equal(labels["state"], states)
            for name in ("heatmap", "displacement_weight"):
                assert labels[name][0, 0].max() > 0
                assert (labels[name][0, 1:] == 0).all()
            assert all(torch.isfinite(value).all() for value in labels.values() if value.is_floating_point())


@pytest.mark.parametrize("scheme", ["gaussian", "binary"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_heatmap_of_zeros_costs_one(scheme: str, dimensions: int) -> None:
    landmarks = torch.full((1, 1, dimensions), 63.5)
    labels = generate_labels(
        landmarks,
        torch.zeros(1, 1, dtype=torch.long),
        (128,) * dimensions,
        torch.tensor([1.5]),
        8,
        scheme,  # type: ignore[arg-type]
    )
    assert (labels["heatmap_weight"] * labels["heatmap"] ** 2).sum().item() == pytest.approx(1, rel=1e-3)


def test_weighted_binary_labels_are_in_balance() -> None:
    labels = make((64, 40), 8, np.array([12.0, 30.0]), class_labels="binary_weighted")
    weight, heatmap = labels["heatmap_weight"], labels["heatmap"]
    assert weight[heatmap == 1].sum() == pytest.approx(1)
    assert weight[heatmap == 0].sum().item() == pytest.approx(1)


def test_sigmas_learn() -> None:
    sigma = torch.tensor([1.5], requires_grad=True)
    labels = generate_labels(
        torch.tensor([[[20.0, 12.0]]]), torch.zeros(1, 1, dtype=torch.long), (64, 40), sigma, 8
    )
    (labels["heatmap"].sum()).backward()
    assert sigma.grad is not None and sigma.grad.item() > 0


def test_labels_of_one_branch_only() -> None:
    def keys(labels: dict[str, Tensor]) -> set[str]:
        return set(labels)

    point = np.array([3.0, 4.0])
    assert keys(make((16, 16), 8, point, with_displacement=False)) == {"state", "heatmap", "heatmap_weight"}
    only = make((16, 16), 8, point, class_labels=None)
    assert keys(only) == {"state", "displacement", "displacement_weight"}
