from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lannunet_core.augment.schemes import (
    SCHEMES,
    Drawn,
    IntensityOp,
    SpatialTransform,
    make_scheme,
)
from lannunet_core.errors import UserError

SIZE = (200, 100)
DRAWS = 600
DOCS = Path(__file__).parents[2] / "docs" / "augmentation.md"


def draws(name: str, size: tuple[int, ...] = SIZE) -> list[Drawn]:
    scheme = make_scheme(name)
    return [scheme.draw(np.random.default_rng([7, number]), size) for number in range(DRAWS)]


def parts(drawn: Drawn) -> dict[str, float]:
    """Compute the parameters of a 2D draw from its map: flip · (shear · scale · rotation, then shift)."""
    forward = np.linalg.inv(drawn.spatial.linear)
    shift = -forward @ drawn.spatial.offset
    flipped = np.linalg.det(forward) < 0
    if flipped:
        forward, shift = np.diag([1, -1]) @ forward, shift * [1, -1]
    # forward = [[1, tan], [0, 1]] · diag(scale) · rotation: its last row is scale_y · (sin, cos).
    scale_y = np.hypot(*forward[1])
    angle = np.arctan2(forward[1, 0], forward[1, 1])
    turned = forward @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return {
        "flipped": flipped,
        "moved": not np.allclose(forward, np.eye(2)),
        "rotation": np.rad2deg(angle),
        "scale_x": turned[0, 0],
        "scale_y": scale_y,
        "shear": np.rad2deg(np.arctan(turned[0, 1] / scale_y)),
        "shift_x": shift[0],
        "shift_y": shift[1],
    }


def assert_uniform(values: list[float], low: float, high: float) -> None:
    assert low <= min(values)
    assert max(values) <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def assert_probability(hits: int, total: int, probability: float) -> None:
    assert stats.binomtest(hits, total, probability).pvalue > 1e-3


# rotation, (scale), translation in pixels of SIZE, shear; probability of the map and of the flip
AFFINE = {
    "Upright": (15, None, (10, 5), 0, 1, 0),
    "UprightElastic": (15, None, (10, 5), 0, 1, 0),
    "Turned": (45, None, (10, 5), 0, 1, 0),
    "AnyRotation": (180, None, (10, 5), 0, 1, 0),
    "AffineSimple": (45, (0.8, 1.2), (0, 0), 0, 0.75, 0.5),
    "AffineComplex": (45, (0.8, 1.2), (14, 7), 16, 0.5, 0.5),
    "AffineComplexElastic": (45, (0.8, 1.2), (14, 7), 16, 0.5, 0.5),
    "AffineComplexElasticLight": (45, (0.8, 1.2), (14, 7), 16, 0.5, 0.5),
    "AffineComplexElasticBlur": (45, (0.8, 1.2), (14, 7), 16, 0.5, 0.5),
    "AffineComplexElasticBlurSharp": (45, (0.8, 1.2), (14, 7), 16, 0.5, 0.5),
    "payer19": (15, (0.6, 1.4), (20, 20), 0, 1, 0),
    "thaler21": (15, None, (10, 10), 0, 1, 0),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_parameters_follow_the_table(name):
    rotation, scale, translation, shear, probability, flip = AFFINE[name]
    all_parts = [parts(drawn) for drawn in draws(name)]
    moved = [one for one in all_parts if one["moved"]]
    assert_probability(len(moved), DRAWS, probability)
    assert_probability(sum(one["flipped"] for one in all_parts), DRAWS, flip)
    assert_uniform([one["rotation"] for one in moved], -rotation, rotation)
    for axis, reach in zip(("x", "y"), translation, strict=True):
        shifts = [one[f"shift_{axis}"] for one in moved]
        if reach:
            assert_uniform(shifts, -reach, reach)
        else:
            np.testing.assert_allclose(shifts, 0, atol=1e-12)
        if scale:
            assert_uniform([one[f"scale_{axis}"] for one in moved], *scale)
    shears = [one["shear"] for one in moved]
    if shear:
        assert_uniform(shears, -shear, shear)
    else:
        np.testing.assert_allclose(shears, 0, atol=1e-9)
    together = np.array([one["scale_x"] == pytest.approx(one["scale_y"]) for one in moved])
    assert together.all() == (name in ("AffineSimple", "payer19"))


@pytest.mark.parametrize(
    ("name", "together", "each"),
    [
        ("Upright", (0.85, 1.15), (0.9, 1.1)),
        ("Turned", (0.85, 1.15), (0.9, 1.1)),
        ("AnyRotation", (0.85, 1.15), (0.9, 1.1)),
        ("thaler21", (0.8, 1.2), (0.8, 1.2)),
    ],
)
def test_both_axes_are_scaled_and_then_each(name, together, each):
    moved = [parts(drawn) for drawn in draws(name)]
    log_x, log_y = (np.log([one[f"scale_{axis}"] for one in moved]) for axis in "xy")
    rng = np.random.default_rng(0)
    of_both, of_one = (np.var(np.log(rng.uniform(*scales, 100_000))) for scales in (together, each))
    assert np.var(log_x) == pytest.approx(of_both + of_one, rel=0.15)
    assert np.cov(log_x, log_y)[0, 1] == pytest.approx(of_both, rel=0.3)


# (alpha), (sigma), probability
ELASTIC = {
    "AffineComplexElastic": ((0, 200), (9, 13), 0.5),
    "AffineComplexElasticLight": ((0, 50), (5, 10), 0.5),
    "AffineComplexElasticBlur": ((0, 50), (2, 5), 0.5),
    "AffineComplexElasticBlurSharp": ((0, 50), (2, 5), 0.5),
    "UprightElastic": ((0, 50), (2, 5), 1),
    "payer19": ((0, 50), (2, 5), 1),
    "thaler21": ((0, 50), (2, 5), 1),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_elastic_parameters_follow_the_table(name):
    fields = [drawn.spatial.elastic for drawn in draws(name)]
    drawn_fields = [field for field in fields if field]
    if name not in ELASTIC:
        assert not drawn_fields
        return
    (low_alpha, high_alpha), (low, high), probability = ELASTIC[name]
    assert_probability(len(drawn_fields), DRAWS, probability)
    sigmas = np.array([field.spacing for field in drawn_fields]) / np.sqrt(2 * (2 / 3) / (151 / 315))
    assert_uniform(list(sigmas), low, high)
    # The strength of a field is alpha, limited to 0.554 sigma²; this share of draws is below the limit.
    strongest = np.array([np.abs(field.control).max() for field in drawn_fields])
    alphas = strongest * 2 * np.sqrt(np.pi) * sigmas * (151 / 315)
    cut = 0.5542 * sigmas**2
    assert (alphas <= cut * 1.001).all()
    uncut = alphas < cut * 0.99
    assert_probability(
        int(uncut.sum()), len(uncut), float(np.mean((cut - low_alpha) / (high_alpha - low_alpha)))
    )


def operations(name: str) -> list[tuple[IntensityOp, ...]]:
    return [drawn.intensity for drawn in draws(name)]


def values(drawn: list[tuple[IntensityOp, ...]], name: str, parameter: str) -> list[float]:
    return [one.parameters[parameter] for some in drawn for one in some if one.name == name]


def test_blur_follows_the_table():
    drawn = operations("AffineComplexElasticBlur")
    assert {len(some) for some in drawn} == {0, 1}
    assert_probability(sum(len(some) for some in drawn), DRAWS, 0.5)
    names = ["gaussian_blur", "mean_blur", "median_blur", "average_pooling"]
    counts = [sum(one.name == name for some in drawn for one in some) for name in names]
    assert sum(counts) == sum(len(some) for some in drawn)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert_uniform(values(drawn, "gaussian_blur", "sigma"), 0, 0.2)
    assert set(values(drawn, "mean_blur", "size")) == {3, 5}
    assert set(values(drawn, "median_blur", "size")) == {3, 5}
    assert set(values(drawn, "average_pooling", "size")) == {2}


def test_sharpening_follows_the_table():
    sharpening = ["sharpen", "emboss", "contrast"]
    everything = operations("AffineComplexElasticBlurSharp")
    drawn = [tuple(one for one in some if one.name in sharpening) for some in everything]
    assert any(len(some) == 4 for some in everything)  # a blur, and all three
    counts = [sum(len(some) == count for some in drawn) for count in range(4)]
    expected = np.array([0.5 + 0.125, 0.125, 0.125, 0.125]) * DRAWS
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    assert_uniform(values(drawn, "sharpen", "alpha"), 0, 0.75)
    assert_uniform(values(drawn, "sharpen", "lightness"), 0, 0.5)
    assert_uniform(values(drawn, "emboss", "alpha"), 0, 0.5)
    assert_uniform(values(drawn, "emboss", "strength"), 0, 1)
    assert_uniform(values(drawn, "contrast", "factor"), 0.4, 1.6)


@pytest.mark.parametrize("name", ["payer19", "thaler21"])
def test_noise_follows_the_table(name):
    drawn = operations(name)
    assert all([one.name for one in some] == ["add", "multiply"] for some in drawn)
    assert set(values(drawn, "add", "amplitude")) == set(values(drawn, "multiply", "amplitude")) == {0.25}
    assert len({one.seed for some in drawn for one in some}) > 1.9 * DRAWS


@pytest.mark.parametrize("name", ["Upright", "Turned", "AnyRotation"])
def test_contrast_and_noise_follow_the_table(name):
    drawn = operations(name)
    assert all([one.name for one in some] == ["contrast", "add"] for some in drawn)
    assert_uniform(values(drawn, "contrast", "factor"), 0.8, 1.2)
    assert_uniform(values(drawn, "add", "amplitude"), 0, 0.1)


@pytest.mark.parametrize(
    "name", ["AffineSimple", "AffineComplex", "AffineComplexElastic", "CenterCropOnly", "None"]
)
def test_other_schemes_leave_the_values_alone(name):
    assert not any(operations(name))


@pytest.mark.parametrize("name", ["CenterCropOnly", "None"])
@pytest.mark.parametrize("size", [SIZE, (20, 30, 40)])
def test_schemes_of_nothing_draw_the_identity(name, size):
    assert all(drawn.spatial.is_identity for drawn in draws(name, size))


def test_in_3d_every_plane_turns_and_y_flips():
    linear = np.array([np.linalg.inv(d.spatial.linear) for d in draws("AffineSimple", (40, 30, 20))])
    turned = np.array([not np.allclose(np.abs(one), np.eye(3)) for one in linear])
    assert_probability(int(turned.sum()), DRAWS, 0.75)
    for one in linear[turned]:
        scale = np.cbrt(abs(np.linalg.det(one)))
        np.testing.assert_allclose(one @ one.T, scale**2 * np.eye(3), atol=1e-9)
    off_diagonal = np.abs(linear[turned])[:, [0, 0, 1], [1, 2, 2]]
    assert (off_diagonal.mean(0) > 0.1).all()
    flipped = np.linalg.det(linear) < 0
    assert_probability(int(flipped.sum()), DRAWS, 0.5)
    only_flipped = linear[flipped & ~turned]
    np.testing.assert_array_equal(
        only_flipped, np.broadcast_to(np.diag([1.0, -1.0, 1.0]), only_flipped.shape)
    )


@pytest.mark.parametrize("name", SCHEMES)
def test_a_draw_is_a_function_of_its_generator(name):
    first, again = (make_scheme(name).draw(np.random.default_rng(3), SIZE) for _ in range(2))
    np.testing.assert_array_equal(first.spatial.linear, again.spatial.linear)
    assert first.intensity == again.intensity
    sent = pickle.loads(pickle.dumps(make_scheme(name)))
    np.testing.assert_array_equal(
        first.spatial.offset, sent.draw(np.random.default_rng(3), SIZE).spatial.offset
    )


@pytest.mark.parametrize("name", ["affinecomplex", "AFFINECOMPLEX", "affine_complex", "Affine-Complex"])
def test_names_are_found_whatever_their_case(name):
    assert make_scheme(name) == make_scheme("AffineComplex")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'AfineComplx'.*payer19.*Did you mean 'AffineComplex'\?"):
        make_scheme("AfineComplx")


def test_a_plugin_adds_a_scheme():
    class Shift:
        def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> Drawn:
            return Drawn(SpatialTransform(np.eye(2), np.array([3.0, 0.0])))

    drawn = make_scheme("shift", {"Shift": Shift}).draw(np.random.default_rng(0), SIZE)
    assert drawn.spatial.offset.tolist() == [3, 0]
    with pytest.raises(UserError, match="Did you mean 'Shift'"):
        make_scheme("shft", {"Shift": Shift})


def test_the_documentation_lists_the_schemes():
    listed = DOCS.read_text(encoding="utf-8").partition("## What a scheme draws")[2]
    listed = listed.partition("**Units.**")[0]
    assert re.findall(r"^\| `([^`]+)`", listed, re.M) == [*SCHEMES, "nnunet", "nnunet_upright"]


def test_drawing_needs_neither_torch_nor_imgaug():
    code = (
        "import sys; from lannunet_core.augment.schemes import make_scheme; make_scheme('None');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'imgaug', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
