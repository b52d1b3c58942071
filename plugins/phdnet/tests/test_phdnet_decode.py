import itertools
import math
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import resize_affine
from lannunet_phdnet import decode as module
from lannunet_phdnet.decode import BLOB, POINTS, Candidates, decode, smooth_candidates
from lannunet_phdnet.labels import ClassLabels, generate_labels
from lannunet_phdnet.loss import PatchLoss
from numpy.typing import NDArray
from scipy import ndimage, optimize
from torch import Tensor
from torch.nn import functional

from lannunet_core import Coordinates, EvaluationMode

Floats = NDArray[np.float64]
Branches = Literal["multi", "heatmap", "displacement"]


def reference_votes(displacement: Floats, places: list[Floats]) -> Floats:
    """A sum over patches, one after the other, in float64, at places along x, y[, z]: (*T)."""
    total = np.zeros([len(along) for along in reversed(places)])
    for index in np.ndindex(*displacement.shape[1:]):
        vote = np.array(index[::-1]) + displacement[(slice(None), *index)]
        gaussians = [np.exp(-0.5 * ((p - v) / BLOB) ** 2) for p, v in zip(places, vote, strict=True)]
        total += math.prod(np.meshgrid(*reversed(gaussians), indexing="ij"))
    return total


def reference_map(displacement: Floats, heatmap: Floats | None) -> Floats:
    """The whole map, `POINTS` to a patch's axis."""
    shape = displacement.shape[1:]
    places = [(np.arange(side * POINTS) + 0.5) / POINTS - 0.5 for side in reversed(shape)]
    votes = reference_votes(displacement, places)
    if heatmap is None:
        return votes
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    upsampled = functional.interpolate(torch.from_numpy(heatmap)[None, None], scale_factor=POINTS, mode=mode)
    return votes * upsampled[0, 0].numpy()


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Displacements (M, D, *P) in patches and heatmaps (M, *P): of trained networks, of noise, of neither."""
    shape = draw(st.sampled_from([(9, 13), (12, 5), (1, 7), (3, 4, 5)]))
    maps = draw(st.integers(1, 3))
    noise = draw(st.sampled_from([0.0, 0.02, 0.3, 2.0, 20.0]))
    known = draw(st.floats(0, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    sides = torch.tensor(shape[::-1])
    landmark = (torch.rand(maps, len(shape), generator=generator) * sides - 0.5).reshape(
        maps, -1, *[1] * len(shape)
    )
    axes = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    way = landmark - torch.stack(axes[::-1])
    distance = way.square().sum(1).sqrt()
    spread = noise * torch.randn(way.shape, generator=generator)
    displacement = torch.where(distance[:, None] <= known, way, 0) + spread
    heatmap = torch.exp(-0.5 * (distance / draw(st.floats(0.5, 4))) ** 2)
    floor = draw(st.sampled_from([0.0, 0.05, 1.0]))
    heatmap = torch.maximum(heatmap, floor * torch.rand(heatmap.shape, generator=generator))
    return displacement, heatmap


@settings(max_examples=60, deadline=None)
@given(outputs(), st.booleans())
def test_search_finds_the_peak_of_the_whole_map(nets: tuple[Tensor, Tensor], with_heatmap: bool) -> None:
    displacement, heatmap = nets
    place, height = Candidates(displacement, heatmap if with_heatmap else None, None).peaks()
    for m in range(len(displacement)):
        ways = displacement[m].double().numpy()
        whole = reference_map(ways, heatmap[m].double().numpy() if with_heatmap else None)
        peak = whole.max()
        tolerance = 1e-4 * max(peak, 0.1)  # less than a tenth of one vote is ignored
        assert height[m].item() >= peak - tolerance
        here = reference_votes(ways, [np.array([p]) for p in place[m].double().numpy()]).item()
        if with_heatmap:
            at = place[m].double().numpy()[::-1, None]
            here *= ndimage.map_coordinates(heatmap[m].double().numpy(), at, order=1, mode="nearest").item()
        assert height[m].item() == pytest.approx(here, abs=tolerance)


@settings(max_examples=40, deadline=None)
@given(outputs())
def test_refinement_climbs_from_the_peak(nets: tuple[Tensor, Tensor]) -> None:
    displacement, heatmap = nets
    place, votes, certain = smooth_candidates(displacement, heatmap)
    start, height = Candidates(displacement, heatmap, None).peaks()
    for m in range(len(displacement)):
        ways = displacement[m].double().numpy()
        if place[m].isnan().any():
            assert height[m] == 0 or np.ptp(ways.reshape(len(ways), -1), axis=1).max() == 0
            assert votes[m] == certain[m] == 0
            continue
        found, before = place[m].double().numpy(), start[m].double().numpy()
        here, there = (reference_votes(ways, [np.array([p]) for p in at]).item() for at in (found, before))
        assert votes[m].item() == pytest.approx(here, rel=1e-4, abs=1e-5)
        assert here >= there * (1 - 1e-4) - 1e-5
        at = found[::-1, None]
        expected = ndimage.map_coordinates(heatmap[m].double().numpy(), at, order=1, mode="nearest")
        assert certain[m].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("shape", [(9, 13), (4, 6, 5)])
def test_refinement_reaches_the_most_votes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    centres = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")[::-1])
    for _ in range(5):
        landmark = rng.uniform(0, np.array(shape[::-1]) - 1)
        ways = landmark.reshape(-1, *[1] * len(shape)) - centres
        ways = ways + rng.normal(0, 0.15, ways.shape)
        displacement = torch.from_numpy(ways).float()[None]

        def at(point: Floats, ways: Floats = ways) -> float:
            return -reference_votes(ways, [np.array([p]) for p in point]).item()

        best = optimize.minimize(at, landmark, tol=1e-10)
        place, votes, _ = smooth_candidates(displacement, None)
        np.testing.assert_allclose(place[0].numpy(), best.x, atol=0.02)
        assert votes.item() == pytest.approx(-best.fun, rel=1e-2)


def test_maps_of_a_batch_and_parts_of_it_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    displacement = 3 * torch.randn(7, 2, 11, 14, generator=generator)
    heatmap = torch.rand(7, 11, 14, generator=generator)
    whole = smooth_candidates(displacement, heatmap)
    for m in range(7):
        alone = smooth_candidates(displacement[m : m + 1], heatmap[m : m + 1])
        for one, other in zip(whole, alone, strict=True):
            torch.testing.assert_close(one[m : m + 1], other, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(module, "NUMBERS", 1000)
    monkeypatch.setattr(module, "MOST", 5000)
    for one, other in zip(whole, smooth_candidates(displacement, heatmap), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def perfect(
    points: Tensor, size: tuple[int, ...], branches: Branches = "multi", patch_size: int = 8, **options: Any
) -> dict[str, Tensor]:
    """Activated outputs of a perfect network for points (B, N, D)."""
    log = options.pop("log_displacement", True)
    class_labels = options.pop("class_labels", "gaussian")
    labels = generate_labels(
        points,
        torch.zeros(points.shape[:2], dtype=torch.long),
        size,
        torch.tensor([options.pop("sigma", 1.0)]),
        patch_size,
        class_labels=None if branches == "displacement" else class_labels,
        with_displacement=branches != "heatmap",
        log_displacement=log,
        **options,
    )
    return PatchLoss(log, 1.0).activation(labels)


def decode_input(maps: dict[str, Tensor], size: tuple[int, ...], mode: EvaluationMode) -> Coordinates:
    """Decoding where the original image is the input."""
    batch, dimensions = next(iter(maps.values())).shape[0], len(size)
    matrix = torch.eye(dimensions + 1, dtype=torch.float64).expand(batch, -1, -1)
    return decode(maps, matrix, torch.tensor(size).expand(batch, -1), mode, 8)


def all_over(size: tuple[int, ...], count: int, seed: int = 0) -> Tensor:
    """Points (1, N, D) in every part of an image: its corners, its edges, and drawn ones."""
    rng = np.random.default_rng(seed)
    corners = list(itertools.product(*[(-0.5, side - 0.51) for side in size]))
    drawn = rng.uniform(-0.5, np.array(size) - 0.51, (count, len(size)))
    edges = drawn.copy()
    for n, point in enumerate(edges):
        axis = n % len(size)
        point[axis] = (-0.5, size[axis] - 0.51)[n // len(size) % 2]
    return torch.from_numpy(np.concatenate([corners, drawn, edges])).float()[None]


@pytest.mark.parametrize("size", [(171, 92), (64, 128), (53, 30, 41)])
@pytest.mark.parametrize("mode", get_args(EvaluationMode))
@pytest.mark.parametrize("branches", get_args(Branches))
@pytest.mark.parametrize("log", [True, False])
def test_perfect_outputs_decode_to_the_landmark(
    size: tuple[int, ...], mode: EvaluationMode, branches: Branches, log: bool
) -> None:
    points = all_over(size, 60 if len(size) == 2 else 20)
    for sigma, scheme in itertools.product((1.0, 2.5), get_args(ClassLabels)):
        maps = perfect(points, size, branches, log_displacement=log, sigma=sigma, class_labels=scheme)
        found = decode_input(maps, size, mode)
        error = (found.points - points).abs()
        if branches == "heatmap" and scheme != "gaussian":
            assert error.max() <= 4 + 1e-4  # half a patch along each axis
        else:
            assert error.norm(dim=-1).max() < 0.3
        assert found.confidence.min() > (0.2 if scheme != "gaussian" else 0.6) ** (len(size) / 2)


@pytest.mark.parametrize("patch_size", [2, 16])
def test_other_patch_sizes(patch_size: int) -> None:
    size = (70, 101)
    points = all_over(size, 40)
    maps = perfect(points, size, patch_size=patch_size)
    found = decode(maps, torch.eye(3)[None], torch.tensor([size]), "scale_heatmap_first", patch_size)
    assert (found.points - points).norm(dim=-1).max() < 0.3


def test_clamped_displacements_still_lead_there() -> None:
    size = (171, 92)
    points = all_over(size, 60)
    for branches in ("multi", "displacement"):
        maps = perfect(points, size, branches, longest=16.0)  # type: ignore[arg-type]
        found = decode_input(maps, size, "use_input_size")
        # Patches a little too far away vote a little short of it, all of them from one side at a border.
        assert (found.points - points).norm(dim=-1).max() < 0.5


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_evaluation_modes_agree_on_a_resized_image(resize: Literal["letterbox", "stretch"]) -> None:
    original, size = (632, 300), (256, 192)
    matrix = torch.from_numpy(resize_affine(original, size, resize))
    inside = all_over(original, 40).double()
    inverse = torch.linalg.inv(matrix)
    points = (inside @ inverse[:2, :2].T + inverse[:2, 2]).float()
    for branches in get_args(Branches):
        maps = perfect(points, size, branches)
        for mode in get_args(EvaluationMode):
            found = decode(maps, matrix[None], torch.tensor([original]), mode, 8)
            assert (found.points - points).norm(dim=-1).max() < 0.3


def test_only_the_original_image_is_searched() -> None:
    """A peak in the padding of a letterboxed image is passed over for the best one in the image."""
    size, original = (128, 128), (128, 64)
    matrix = torch.from_numpy(resize_affine(original, size))
    points = torch.tensor([[[60.0, 12.0]]])
    maps = perfect(points, size)
    maps["heatmap"] = maps["heatmap"].clamp(min=0.3)
    maps["displacement"][0, :, 5, 5] = torch.tensor([2.0, -3.0])
    maps["displacement"][0, :, 5, 6] = torch.tensor([-6.0, -3.0])
    sizes = torch.tensor([original])
    anywhere = decode(maps, matrix[None], sizes, "scale_pred_coords", 8)
    torch.testing.assert_close(anywhere.points, points, atol=1e-2, rtol=0)
    image_only = decode(maps, matrix[None], sizes, "scale_heatmap_first", 8)
    place = torch.tensor([[[5 * 8 + 3.5 + 2, 5 * 8 + 3.5 - 3]]])
    torch.testing.assert_close(image_only.points, place, atol=0.2, rtol=0)
    assert image_only.confidence < anywhere.confidence


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("value", [0.0, 0.7, math.nan, math.inf, -math.inf])
def test_flat_maps_have_no_point(dimensions: int, value: float) -> None:
    shape = (5, 9, 4)[:dimensions]
    maps = {
        "heatmap": torch.full((2, 3, *shape), value),
        "displacement": torch.full((2, 3 * dimensions, *shape), value),
    }
    for names in (("heatmap", "displacement"), ("heatmap",), ("displacement",)):
        size = tuple(8 * side for side in reversed(shape))
        found = decode_input({name: maps[name] for name in names}, size, "scale_heatmap_first")
        assert found.points.isnan().all() and found.points.shape == (2, 3, dimensions)
        assert (found.confidence == 0).all()


def test_one_broken_map_does_not_touch_the_others() -> None:
    size = (96, 64)
    points = all_over(size, 10)
    whole = decode_input(perfect(points, size), size, "use_input_size")
    maps = perfect(points, size)
    maps["heatmap"][0, 3] = math.nan
    maps["displacement"][0, 10:12] = math.nan
    found = decode_input(maps, size, "use_input_size")
    assert found.points[0, [3, 5]].isnan().all() and (found.confidence[0, [3, 5]] == 0).all()
    others = [n for n in range(points.shape[1]) if n not in (3, 5)]
    torch.testing.assert_close(found.points[:, others], whole.points[:, others])


def test_a_vote_that_is_not_a_number_is_no_vote() -> None:
    size = (96, 64)
    points = torch.tensor([[[40.3, 20.8]]])
    maps = perfect(points, size)
    maps["displacement"][0, 0, 2, 4] = math.nan
    maps["displacement"][0, 1, 3, 5] = math.inf
    found = decode_input(maps, size, "use_input_size")
    torch.testing.assert_close(found.points, points, atol=1e-2, rtol=0)


def test_confidence_follows_heatmap_and_agreement() -> None:
    size = (160, 96)
    points = torch.tensor([[[70.3, 50.8]]])
    generator = torch.Generator().manual_seed(0)

    def confidence(height: float, noise: float, *names: str) -> float:
        maps = perfect(points, size)
        maps["heatmap"] = height * maps["heatmap"]
        maps["displacement"] += noise * torch.randn(maps["displacement"].shape, generator=generator)
        chosen = {name: maps[name] for name in names or maps}
        return decode_input(chosen, size, "use_input_size").confidence.item()

    assert confidence(1, 0) > 0.75  # linear interpolation cuts off a peak between patches
    assert confidence(0.5, 0) == pytest.approx(confidence(1, 0) / 2, rel=1e-3)
    assert confidence(1, 0) > confidence(1, 12) > confidence(1, 30) > 0
    assert confidence(1, 0, "displacement") > confidence(1, 6, "displacement")
    assert confidence(1, 6, "displacement") > confidence(1, 30, "displacement") > 0
    assert confidence(1, 0, "heatmap") == pytest.approx(1, abs=0.01)
