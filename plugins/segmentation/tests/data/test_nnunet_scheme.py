"""The schemes `nnunet` and `nnunet_upright` against the table in docs/augmentation.md, and their changes
against NumPy and SciPy."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lannunet_segmentation import NnunetScheme, NnunetUprightScheme
from lannunet_segmentation.data.nnunet_intensity import change_channels
from lannunet_segmentation.data.nnunet_scheme import Noise, PerChannel
from scipy import ndimage, stats

from lannunet_core import Drawn, Scheme, make_scheme

DRAWS = 600
SIZE = (200, 100)
VOLUME = (40, 36, 30)


def sample(spacing: tuple[float, ...], channels: int = 2) -> SimpleNamespace:
    return SimpleNamespace(spacing=spacing, channels=channels)


def draws(
    size: tuple[int, ...], case: SimpleNamespace | None = None, scheme: Scheme | None = None
) -> list[Drawn]:
    scheme = scheme or NnunetScheme()
    return [scheme.draw(np.random.default_rng([7, number]), size, sample=case) for number in range(DRAWS)]


def assert_uniform(values: list[float], low: float, high: float) -> None:
    assert low <= min(values)
    assert max(values) <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def assert_probability(count: int, total: int, probability: float) -> None:
    assert stats.binomtest(count, total, probability).pvalue > 1e-3


# Source positions ---------------------------------------------------------------------------------------


def parts(drawn: Drawn) -> dict[str, np.ndarray]:
    """The mirror (D,) of each axis, the zoom and the rotation that make up `linear` = zoom · turn · mirror.

    The angles in use are so small that a turn leaves each axis on its own side.
    """
    linear = drawn.spatial.linear
    mirror = np.sign(np.diag(linear))
    zoom = np.abs(np.linalg.det(linear)) ** (1 / len(linear))
    return {"mirror": mirror, "zoom": zoom, "turn": linear @ np.diag(mirror) / zoom}


@pytest.mark.parametrize("size", [SIZE, VOLUME])
def test_it_mirrors_each_axis_scales_all_together_and_deforms_nothing(size):
    all_parts = [parts(drawn) for drawn in draws(size)]
    mirrored = np.array([one["mirror"] < 0 for one in all_parts])
    counts = np.unique(mirrored @ 2 ** np.arange(len(size)), return_counts=True)[1]
    assert len(counts) == 2 ** len(size)
    assert stats.chisquare(counts).pvalue > 1e-3
    zooms = np.array([one["zoom"] for one in all_parts])
    zoomed = zooms[~np.isclose(zooms, 1)]
    assert_probability(len(zoomed), DRAWS, 0.2)
    assert_uniform(list(zoomed), 0.7, 1.4)
    for one in all_parts:
        np.testing.assert_allclose(one["turn"] @ one["turn"].T, np.eye(len(size)), atol=1e-9)
    assert not any(drawn.spatial.offset.any() or drawn.spatial.elastic for drawn in draws(size))


@pytest.mark.parametrize(
    ("size", "angle"), [((64, 64), 180), ((64, 44), 180), ((64, 42), 15), ((42, 64), 15)]
)
def test_long_images_turn_little(size, angle):
    linear = np.array([drawn.spatial.linear for drawn in draws(size)])
    turned = ~np.isclose(linear[:, 0, 1], 0)
    assert_probability(int(turned.sum()), DRAWS, 0.2)
    x, y = np.abs(linear[turned, 0]).T
    angles = np.rad2deg(np.arctan2(y, x))  # folded to the first quarter
    assert_uniform(list(angles), 0, min(angle, 90))


def test_volumes_turn_about_every_axis():
    turns = np.array([parts(drawn)["turn"] for drawn in draws(VOLUME)])
    turned = turns[~np.isclose(turns, np.eye(3)).all((1, 2))]
    assert_probability(len(turned), DRAWS, 0.2)
    # Content turns about z, then y, then x; the map from the output to the source is the inverse of that.
    about_y = np.rad2deg(np.arcsin(turned[:, 2, 0]))
    about_x = np.rad2deg(np.arctan2(turned[:, 2, 1], turned[:, 2, 2]))
    about_z = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    for angles in (about_x, about_y, about_z):
        assert_uniform(list(angles), -30, 30)


@pytest.mark.parametrize(
    ("size", "spacing", "thick"),
    [
        ((64, 50, 20), (0.7, 0.7, 3), 2),
        ((64, 50, 22), (0.7, 0.7, 3), None),
        ((20, 64, 50), (3, 0.7, 0.7), 0),
        ((64, 20, 50), (0.7, 3, 0.7), 1),
        ((50, 64, 20), None, 2),
        ((20, 64, 50), None, 0),
        ((64, 20, 50), (1, 1, 2), None),  # few voxels, but z has the thick slices
    ],
)
def test_thick_slices_are_left_in_their_plane_whatever_their_axis(size, spacing, thick):
    drawn = draws(size, spacing and sample(spacing))
    linear = np.array([one.spatial.linear for one in drawn])
    low = [one for some in drawn for one in some.intensity if getattr(one, "name", "") == "low_resolution"]
    assert {parameters["kept"] for one in low for parameters in one.channels if parameters} == {thick}
    if thick is None:
        assert np.abs(linear[:, [0, 0, 1], [1, 2, 2]]).max(0).min() > 0
        return
    first, second = (axis for axis in range(3) if axis != thick)
    assert not linear[:, thick, [first, second]].any()
    assert not linear[:, [first, second], thick].any()
    assert set(linear[:, thick, thick]) == {-1, 1}
    assert np.ptp(np.abs(linear[:, first, second])) > 0.9  # by any angle


@pytest.mark.parametrize("size", [SIZE, VOLUME])
def test_upright_moves_as_upright_elastic_and_mirrors_nothing(size):
    elastic = make_scheme("UprightElastic")
    for number, drawn in enumerate(draws(size, sample((1.0,) * len(size)), NnunetUprightScheme())):
        moved = elastic.draw(rng=np.random.default_rng([7, number]), size=size).spatial
        np.testing.assert_array_equal(drawn.spatial.linear, moved.linear)
        np.testing.assert_array_equal(drawn.spatial.offset, moved.offset)
        np.testing.assert_array_equal(drawn.spatial.elastic.control, moved.elastic.control)
        assert not drawn.spatial.mirrored


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_upright_leaves_thick_slices_in_their_plane(thick):
    size, spacing = [64, 50], [0.7, 0.7]
    size.insert(thick, 16)
    spacing.insert(thick, 3.0)
    drawn = draws(tuple(size), sample(tuple(spacing)), NnunetUprightScheme())
    first, second = (axis for axis in range(3) if axis != thick)
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    for one in drawn[:50]:
        spatial = one.spatial
        source = points + spatial.elastic.at(points)
        source = source @ spatial.linear.T + spatial.offset
        np.testing.assert_allclose(source[:, thick], points[:, thick], atol=1e-9)
        assert np.ptp(source[:, [first, second]] - points[:, [first, second]], axis=0).min() > 0
    low = [one for some in drawn for one in some.intensity if getattr(one, "name", "") == "low_resolution"]
    assert {parameters["kept"] for one in low for parameters in one.channels if parameters} == {thick}


# Intensities ----------------------------------------------------------------------------------------------

ORDER = ["noise", "blur", "brightness", "contrast", "low_resolution", "gamma"]
CHANGES = {  # probability, of each channel, parameters
    "blur": (0.2, 0.5, {"sigmas": (0.5, 1)}),
    "brightness": (0.15, 1, {"factor": (0.75, 1.25)}),
    "contrast": (0.15, 1, {"factor": (0.75, 1.25)}),
    "low_resolution": (0.25, 0.5, {"scale": (0.5, 1)}),
}


@pytest.mark.parametrize("scheme", [NnunetScheme(), NnunetUprightScheme()])
def test_intensities_follow_the_table_channel_by_channel(scheme):
    drawn = [one.intensity for one in draws(VOLUME, sample((1, 1, 1), channels=2), scheme)]
    for some in drawn:
        places = [ORDER.index(getattr(one, "name", "noise")) for one in some]
        assert places == sorted(places)
    noises = [one for some in drawn for one in some if isinstance(one, Noise)]
    assert_probability(len(noises), DRAWS, 0.1)
    assert_uniform([one.deviation for one in noises], 0, 0.1)
    changes = [one for some in drawn for one in some if isinstance(one, PerChannel)]
    for name, (probability, each, ranges) in CHANGES.items():
        channels = [one.channels for one in changes if one.name == name]
        assert_probability(len(channels), DRAWS, probability)
        first, second = (np.array([bool(one[channel]) for one in channels]) for channel in (0, 1))
        assert_probability(int(first.sum() + second.sum()), 2 * len(channels), each)
        both = [one for one in channels if all(one)]
        assert all(one[0] != one[1] for one in both)
        for key, (low, high) in ranges.items():
            found = [np.ravel(one[key]) for some in channels for one in some if one]
            assert_uniform(list(np.concatenate(found)), low, high)
    for inverted, probability in ((True, 0.1), (False, 0.3)):
        channels = [
            one.channels for one in changes if one.name == "gamma" and one.channels[0]["inverted"] == inverted
        ]
        assert_probability(len(channels), DRAWS, probability)
        powers = np.array([one["gamma"] for some in channels for one in some])
        assert_probability(int((powers < 1).sum()), len(powers), 0.5)
        assert_uniform(list(powers[powers < 1]), 0.7, 1)
        assert_uniform(list(powers[powers > 1]), 1, 1.5)


def test_a_draw_pickles_and_is_a_function_of_its_generator():
    scheme, case = pickle.loads(pickle.dumps(NnunetScheme())), sample((1, 1))
    for seed in range(20):
        first, again = (scheme.draw(np.random.default_rng(seed), SIZE, sample=case) for _ in range(2))
        np.testing.assert_array_equal(first.spatial.linear, again.spatial.linear)
        assert first.intensity == pickle.loads(pickle.dumps(again.intensity))


def test_a_draw_without_a_sample_changes_all_channels_or_none():
    image = torch.as_tensor(IMAGES["2D"]).float()
    differs = [
        (operation(image) != image).flatten(1).any(1)
        for seed in range(40)
        for operation in NnunetScheme().draw(np.random.default_rng(seed), (30, 21)).intensity
    ]
    assert sum(one.all().item() for one in differs) > 20
    assert all(one.all() or not one.any() for one in differs)


IMAGES = {
    "2D": np.random.default_rng(0).normal(size=(2, 21, 30)),
    "3D": np.random.default_rng(1).normal(size=(2, 5, 12, 17)),
}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> np.ndarray:
    return IMAGES[request.param]


def apply(image: np.ndarray, name: str, **parameters: object) -> np.ndarray:
    return change_channels(torch.as_tensor(image, dtype=torch.float32), name, [parameters]).numpy()


def test_noise_is_of_its_own_in_each_channel_and_follows_from_its_seed():
    image = torch.zeros(2, 90, 80)
    noise = Noise(0.1, seed=3)(image)
    for channel in noise.numpy():
        assert stats.kstest(channel.ravel(), stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise.flatten(1).numpy())[0, 1]) < 0.05
    torch.manual_seed(0)
    assert torch.equal(Noise(0.1, seed=3)(image), noise)
    assert (Noise(0.1, seed=4)(image) != noise).float().mean() > 0.9


def test_a_channel_without_parameters_stays(image):
    both = torch.as_tensor(image, dtype=torch.float32)
    changed = change_channels(both, "brightness", [None, {"factor": 0.8}])
    np.testing.assert_allclose(changed[0], image[0], atol=1e-6)
    np.testing.assert_allclose(changed[1], 0.8 * image[1], atol=1e-5)


@pytest.mark.parametrize("sigmas", [(0.5, 1.0, 0.7), (1.0, 0.6, 2.5)])
def test_blur_has_a_sigma_of_its_own_for_each_axis(image, sigmas):
    axes = sigmas[: image.ndim - 1]
    expected = ndimage.gaussian_filter(image, (0, *axes[::-1]), mode="mirror", truncate=4.0)
    np.testing.assert_allclose(apply(image, "blur", sigmas=sigmas), expected, atol=2e-3)


def test_blur_of_an_axis_of_few_voxels():
    image = np.random.default_rng(0).normal(size=(1, 1, 2, 3))
    expected = ndimage.gaussian_filter(image, (0, 1, 1, 1), mode="mirror")
    np.testing.assert_allclose(apply(image, "blur", sigmas=(1.0, 1.0, 1.0)), expected, atol=1e-3)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_about_the_mean_stays_in_the_range_of_the_values(image, factor):
    shifted = image + 3 * np.arange(2).reshape(2, *[1] * (image.ndim - 1))
    for channel, changed in zip(shifted, apply(shifted, "contrast", factor=factor), strict=True):
        expected = (channel - channel.mean()) * factor + channel.mean()
        np.testing.assert_allclose(changed, expected.clip(channel.min(), channel.max()), atol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("power", [0.7, 1.0, 1.5])
def test_gamma_keeps_mean_and_deviation(image, power, inverted):
    found = apply(image, "gamma", gamma=power, inverted=inverted)
    for channel, changed in zip(image, found, strict=True):
        values = -channel if inverted else channel
        powers = ((values - values.min()) / np.ptp(values)) ** power
        powers = (powers - powers.mean()) / powers.std() * values.std() + values.mean()
        np.testing.assert_allclose(changed, -powers if inverted else powers, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 4, 5, 6)])
def test_one_value_everywhere_stays(shape):
    image = np.full(shape, -1.5)
    for name, parameters in [
        ("gamma", {"gamma": 0.7, "inverted": True}),
        ("contrast", {"factor": 1.2}),
        ("low_resolution", {"scale": 0.6, "kept": None}),
        ("blur", {"sigmas": (1.0, 0.5, 0.7)}),
    ]:
        np.testing.assert_allclose(apply(image, name, **parameters), image, atol=1e-5)


def test_half_the_resolution_is_the_mean_of_pairs():
    line = np.array([1.0, 3, 5, 9, 2, 4, 8, 0])
    pairs = np.array([2.0, 7, 3, 4])  # at 0.5, 2.5, 4.5 and 6.5
    expected = np.interp(np.arange(8), [0.5, 2.5, 4.5, 6.5], pairs)
    found = apply(np.tile(line, (1, 4, 1)), "low_resolution", scale=0.5, kept=None)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (1, 4, 8)), atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_low_resolution_leaves_thick_slices_alone(axis):
    line = np.random.default_rng(0).normal(size=9)
    across = line.reshape([-1 if one == axis else 1 for one in (2, 1, 0)]) + np.zeros((1, 9, 9, 9))
    assert np.allclose(apply(across, "low_resolution", scale=0.5, kept=axis), across, atol=1e-6)
    assert not np.allclose(apply(across, "low_resolution", scale=0.5, kept=(axis + 1) % 3), across, atol=0.1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("blur", {"sigmas": (1.0, 0.5)}),
        ("contrast", {"factor": 0.75}),
        ("contrast", {"factor": 1.25}),
        ("low_resolution", {"scale": 0.5, "kept": None}),
        ("low_resolution", {"scale": 0.77, "kept": None}),
        ("gamma", {"gamma": 0.7, "inverted": False}),
        ("gamma", {"gamma": 1.5, "inverted": True}),
    ],
)
def test_changes_stay_in_place(name, parameters):
    """The centroid of a spot."""
    point, lines = (41.3, 33.8), np.ogrid[:81, :95]
    spot = np.exp(-((lines[1] - point[0]) ** 2 + (lines[0] - point[1]) ** 2) / (2 * 1.5**2))
    changed = apply(spot[None], name, **parameters)[0].astype(np.float64)
    changed -= np.median(changed)  # contrast and gamma lift the background
    found = [changed.sum(axis) @ np.arange(changed.shape[1 - axis]) / changed.sum() for axis in (0, 1)]
    limit = 0.1 if name == "low_resolution" else 0.05  # a spot is few pixels of it
    assert np.linalg.norm(np.subtract(found, point)) < limit
