import math

import numpy as np
import pytest
import torch
from lannunet_images.geometry import affine_matrix, resize_affine, transform_points
from lannunet_landmarks.maps.decode import DECODERS, decode_peak
from lannunet_landmarks.maps.labels import gaussian_heatmaps
from scipy import ndimage
from scipy.interpolate import RectBivariateSpline

MODES = ["scale_heatmap_first", "scale_pred_coords", "use_input_size"]


def perfect(points, size, sigma, peak=1.0):
    """Heatmaps (B, N, *S) of points (B, N, D) in input pixels, in float64."""
    points = torch.as_tensor(points, dtype=torch.float64)
    sigmas = torch.full((1, 1), sigma, dtype=torch.float64)
    states = torch.zeros(points.shape[:2], dtype=torch.long)
    return gaussian_heatmaps(points, states, sigmas, size, [size], peak)[0]


def decode(heatmaps, mode, size, originals=None, resize="letterbox"):
    originals = [size] * len(heatmaps) if originals is None else originals
    matrices = np.stack([resize_affine(o, size, resize) for o in originals])
    return decode_peak(
        heatmaps=heatmaps,
        affine=torch.from_numpy(matrices),
        original_sizes=torch.tensor(np.array(originals)),
        evaluation_mode=mode,
    )


def vertex(values, index, strides=(1, 1)):
    """Vertex of the weighted fit to the logarithms around `index`, in array order; reference for 2D."""
    centre = [min(max(i, 2 * k), s - 1 - 2 * k) for i, s, k in zip(index, values.shape, strides, strict=True)]
    rows, columns = (c.ravel() for c in np.mgrid[-2:3, -2:3])
    box = values[centre[0] + strides[0] * rows, centre[1] + strides[1] * columns]
    design = np.stack([np.ones(25), rows, columns, rows**2, rows * columns, columns**2], 1)
    fit = np.linalg.lstsq(design * box[:, None], np.log(box) * box, rcond=None)[0]
    hessian = np.array([[2 * fit[3], fit[4]], [fit[4], 2 * fit[5]]])
    step = -np.linalg.solve(hessian, fit[1:3])
    if np.linalg.eigvalsh(hessian).max() >= 0:
        step = np.zeros(2)
    reach = [1.5 + (i - c) / k for i, c, k in zip(index, centre, strides, strict=True)]
    return np.array(centre) + np.array(strides) * np.clip(step, np.array(reach) - 3, reach)


def random_maps(rng, count, size, smoothness=2.5, noise=0.3):
    """One blob per map, away from the border, with smooth noise; (count, y, x), all positive."""
    shape = size[::-1]
    field = ndimage.gaussian_filter(rng.standard_normal((count, *shape)), (0, smoothness, smoothness))
    points = rng.uniform(np.array(size) * 0.15, np.array(size) * 0.85, (1, count, 2))
    blobs = perfect(points, size, 2.0)[0].numpy()
    return np.maximum(blobs + noise * (0.5 + field / field.std() / 6), 1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(64, 64), (128, 96), (512, 384)])
def test_perfect_heatmaps_come_back_without_error_or_bias(size, resize, mode):
    rng = np.random.default_rng(size)
    errors = []
    for sigma in (1.5, 2.0, 3.0, 4.0):
        originals = [(2400, 1935), (1935, 2400), *rng.integers(48, 1800, (3, 2)).tolist()]
        matrices = [resize_affine(original, size, resize) for original in originals]
        points = np.stack(
            [
                transform_points(np.linalg.inv(m), rng.uniform(-0.5, np.array(o) - 0.5, (19, 2)))
                for m, o in zip(matrices, originals, strict=True)
            ]
        )
        found = decode(perfect(points, size, sigma).float(), mode, size, originals, resize)
        errors.append(found.points.numpy() - points)
        assert found.confidence.min() > 0.9
    errors = np.concatenate(errors).reshape(-1, 2)
    assert np.linalg.norm(errors, axis=1).mean() < 0.02
    bias, standard_error = errors.mean(0), errors.std(0) / math.sqrt(len(errors))
    assert np.all(np.abs(bias) < 0.01)
    assert np.all(np.abs(bias) < 4 * standard_error + 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_perfect_volumes(mode):
    rng = np.random.default_rng(0)
    size, originals = (40, 32, 28), [(97, 80, 44), (40, 32, 28)]
    points = rng.uniform(3, np.array(size) - 4, (2, 5, 3))
    found = decode(perfect(points, size, 2.0).float(), mode, size, originals, "stretch")
    np.testing.assert_allclose(found.points.numpy(), points, atol=0.02)


@pytest.mark.parametrize("mode", MODES)
def test_gaussians_at_the_border(mode):
    size = (40, 30)
    points = np.array([[[-0.49, 10.2], [0.3, -0.4], [39.4, 29.45], [20.6, 29.49], [0.9, 0.2]]])
    found = decode(perfect(points, size, 2.0), mode, size)
    np.testing.assert_allclose(found.points.numpy(), points, atol=1e-6)
    finer = decode(perfect(points, size, 2.0), "scale_heatmap_first", size, [(160, 120)])
    np.testing.assert_allclose(finer.points.numpy(), points, atol=0.1)


def test_a_tilted_gaussian_is_exact():
    centre = np.array([12.37, 9.81])
    precision = np.linalg.inv(np.array([[6.0, 3.5], [3.5, 4.0]]))
    y, x = np.mgrid[:20, :25]
    d = np.stack([x, y], -1) - centre
    heatmap = 0.8 * np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", d, precision, d))
    found = decode(torch.from_numpy(heatmap)[None, None], "use_input_size", (25, 20))
    np.testing.assert_allclose(found.points[0, 0].numpy(), centre, atol=1e-9)
    assert found.confidence.item() == pytest.approx(0.8)  # the value of the peak, not of the nearest pixel


@pytest.mark.parametrize("mode", MODES)
def test_maps_without_a_peak_are_not_a_confident_prediction(mode):
    size = (32, 24)
    maps = torch.zeros(1, 7, 24, 32)
    maps[0, 1] = 0.7
    maps[0, 2] = -torch.rand(24, 32) - 0.1
    maps[0, 3] = math.nan
    maps[0, 4, 3, 5] = math.nan
    maps[0, 5, 3, 5] = math.inf
    maps[0, 6] = perfect([[[20.25, 7.5]]], size, 2.0)[0, 0]
    found = decode(maps, mode, size, [(128, 96)])
    assert torch.all(torch.isnan(found.points[0, :6]))
    assert torch.all(found.confidence[0, :6] == 0)
    np.testing.assert_allclose(found.points[0, 6].numpy(), [20.25, 7.5], atol=0.02)
    assert found.confidence[0, 6] > 0.9


def test_a_flat_map_of_one_block_and_one_that_is_nearly_flat():
    flat = torch.full((1, 2, 4, 4), 0.3)
    flat[0, 1, 2, 1] = 0.31
    found = decode(flat, "use_input_size", (4, 4))
    assert torch.all(torch.isnan(found.points[0, 0]))
    np.testing.assert_allclose(found.points[0, 1].numpy(), [1, 2], atol=1e-6)


@pytest.mark.parametrize(("smoothness", "noise"), [(2.5, 0.3), (1.0, 0.7)])
def test_scale_first_is_what_upsampling_the_whole_map_gives(smoothness, noise):
    """Reference: a bivariate spline of FITPACK over the whole map, on every original pixel."""
    rng = np.random.default_rng(7)
    size, original = (128, 96), (1935, 1452)
    maps = random_maps(rng, 19, size, smoothness, noise)
    heatmaps = torch.from_numpy(maps[None]).float()
    found = decode(heatmaps, "scale_heatmap_first", size, [original], "stretch").points[0].numpy()
    x, y = ((np.arange(o) + 0.5) * s / o - 0.5 for o, s in zip(original, size, strict=True))
    x, y = x[(x >= 0) & (x <= size[0] - 1)], y[(y >= 0) & (y <= size[1] - 1)]
    expected = []
    for heatmap in maps:
        spline = RectBivariateSpline(np.arange(size[1]), np.arange(size[0]), heatmap, s=0)
        upsampled = spline(y, x)
        highest = np.unravel_index(upsampled.argmax(), upsampled.shape)
        strides = [round(1 / (axis[1] - axis[0])) for axis in (y, x)]
        row, column = vertex(upsampled, highest, strides)
        expected.append([x[0] + column * (x[1] - x[0]), y[0] + row * (y[1] - y[0])])
    distance = np.linalg.norm(found - expected, axis=1)
    assert distance.max() < 0.005
    on_input = decode(heatmaps, "use_input_size", size, [original], "stretch").points[0].numpy()
    apart = np.linalg.norm(found - on_input, axis=1)
    assert apart.max() > 0.01  # otherwise the two grids are the same, and the test is empty


def test_scale_first_is_what_ndimage_gives_in_a_letterbox():
    rng = np.random.default_rng(3)
    size, original = (96, 96), (400, 340)
    maps = random_maps(rng, 19, size)
    found = decode(torch.from_numpy(maps[None]).float(), "scale_heatmap_first", size, [original])
    matrix = resize_affine(original, size)
    to_input = np.linalg.inv(matrix)
    axes = [np.arange(o) * to_input[i, i] + to_input[i, 2] for i, o in enumerate(original)]
    for n, heatmap in enumerate(maps):
        filtered = ndimage.spline_filter(heatmap, mode="mirror")
        where = np.meshgrid(axes[1], axes[0], indexing="ij")
        upsampled = ndimage.map_coordinates(filtered, where, prefilter=False, mode="mirror")
        highest = np.unravel_index(upsampled.argmax(), upsampled.shape)
        strides = [round(1 / (axis[1] - axis[0])) for axis in axes[::-1]]
        row, column = vertex(upsampled, highest, strides)
        expected = transform_points(to_input, np.array([[column, row]]))[0]
        np.testing.assert_allclose(found.points[0, n].numpy(), expected, atol=0.005)


def test_the_highest_peak_of_the_spline_wins_not_the_highest_pixel():
    size = (48, 48)
    on_a_pixel = perfect([[[10.0, 30.0]]], size, 1.5)
    between_pixels = perfect([[[33.5, 12.5]]], size, 1.5, peak=1.04)
    maps = on_a_pixel + between_pixels
    input_grid = decode(maps, "use_input_size", size)
    np.testing.assert_allclose(input_grid.points[0, 0].numpy(), [10, 30], atol=1e-3)
    finer = decode(maps, "scale_heatmap_first", size, [(480, 480)])
    np.testing.assert_allclose(finer.points[0, 0].numpy(), [33.5, 12.5], atol=0.01)


def test_a_batch_decodes_as_its_samples_do_alone():
    rng = np.random.default_rng(1)
    size, originals = (64, 48), [(640, 480), (64, 48), (30, 200), (700, 90)]
    maps = torch.from_numpy(np.stack([random_maps(rng, 3, size) for _ in originals]))
    together = decode(maps, "scale_heatmap_first", size, originals)
    for b, original in enumerate(originals):
        alone = decode(maps[b : b + 1], "scale_heatmap_first", size, [original])
        torch.testing.assert_close(together.points[b], alone.points[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(together.confidence[b], alone.confidence[0])


def test_a_rotated_sample_is_decoded_on_the_input_grid():
    rng = np.random.default_rng(2)
    size = (64, 48)
    maps = torch.from_numpy(np.stack([random_maps(rng, 3, size)] * 2))
    turn = np.array([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    matrices = torch.from_numpy(
        np.stack([affine_matrix(5 * turn, np.zeros(2)), resize_affine((320, 240), size)])
    )
    sizes = torch.tensor([[320, 240]] * 2)
    found = decode_peak(maps, matrices, sizes, "scale_heatmap_first")
    on_input = decode_peak(maps, matrices, sizes, "scale_pred_coords")
    torch.testing.assert_close(found.points[0], on_input.points[0])
    assert (found.points[1] - on_input.points[1]).abs().max() > 1e-3


def test_a_mirrored_affine_has_the_same_grid():
    rng = np.random.default_rng(4)
    maps = torch.from_numpy(random_maps(rng, 3, (64, 48)))[None]
    scale = np.diag([-5.0, 5.0])
    mirrored = torch.from_numpy(affine_matrix(scale, np.array([317.0, 2.0])))[None]
    sizes = torch.tensor([[320, 240]])
    found = decode_peak(maps, mirrored, sizes, "scale_heatmap_first")
    torch.testing.assert_close(
        found.points, decode(maps, "scale_heatmap_first", (64, 48), [(320, 240)]).points
    )


def test_a_peak_in_the_letterbox_margin_is_not_in_the_image():
    size = (64, 64)
    maps = perfect([[[30.0, 3.0]]], size, 2.0) + perfect([[[40.2, 33.6]]], size, 2.0, peak=0.5)
    found = decode(maps, "scale_heatmap_first", size, [(640, 320)])  # rows 16 to 47
    np.testing.assert_allclose(found.points[0, 0].numpy(), [40.2, 33.6], atol=0.01)
    assert found.confidence.item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_a_peak_without_positive_surroundings(mode):
    size = (32, 24)
    maps = torch.full((1, 1, 24, 32), -0.1)
    maps[0, 0, 7, 20] = 0.9
    maps[0, 0, 7, 21] = 0.4
    found = decode(maps, mode, size)
    x, y = found.points[0, 0].tolist()
    assert 20 < x < 20.5
    assert y == pytest.approx(7)
    assert found.confidence.item() == pytest.approx(0.9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("thin", [1, 2, 3])
def test_thin_volumes(mode, thin):
    size = (24, 20, thin)
    points = np.array([[[9.3, 7.6, thin - 1.0]]])
    found = decode(perfect(points, size, 2.0), mode, size, [(72, 60, thin)], "stretch")
    np.testing.assert_allclose(found.points[0, 0].numpy(), points[0, 0], atol=0.02)


def test_the_finest_of_several_maps_and_half_precision():
    size = (32, 24)
    maps = perfect([[[20.25, 7.5]]], size, 2.0)
    found = decode([maps.half(), torch.zeros(1, 1, 12, 16)], "use_input_size", size)
    np.testing.assert_allclose(found.points[0, 0].numpy(), [20.25, 7.5], atol=0.01)


def test_decoders_by_name():
    assert DECODERS["auto"]() is DECODERS["peak"]() is decode_peak
