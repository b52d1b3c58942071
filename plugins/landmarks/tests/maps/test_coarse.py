"""Decoding maps that are coarser than the image."""

import math

import pytest
import torch
from lannunet_images.geometry import resize_affine
from lannunet_landmarks.maps.coarse import decode_coarse
from lannunet_landmarks.maps.decode import DECODERS, decode_peak
from lannunet_landmarks.maps.labels import gaussian_heatmaps, level_sigmas

SIZE = (64, 48)
POINTS = torch.tensor([[[21.3, 17.8], [44.6, 30.1]]])


def maps_of(stride, sigma=6.0):
    size = tuple(math.ceil(side / stride) for side in SIZE)
    sigmas = level_sigmas(sigma, [stride]).expand(1, 2)
    return gaussian_heatmaps(POINTS, torch.zeros(1, 2, dtype=torch.long), sigmas, SIZE, [size], 1.0)


def found(decoder, maps, mode, original=SIZE):
    matrix = torch.as_tensor(resize_affine(original, SIZE, "stretch"), dtype=torch.float64)[None]
    return decode_coarse(decoder, maps, matrix, torch.tensor([original]), mode, SIZE)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("name", ["peak", "quadratic", "dark", "gaussian_fit"])
@pytest.mark.parametrize("mode", ["scale_heatmap_first", "scale_pred_coords", "use_input_size"])
@pytest.mark.parametrize("original", [SIZE, (128, 96)])
def test_points_are_in_pixels_of_the_image(stride, name, mode, original):
    where = found(DECODERS[name](), maps_of(stride), mode, original)
    torch.testing.assert_close(where.points.float(), POINTS, atol=0.15, rtol=0)


def test_at_the_images_own_resolution_nothing_is_changed():
    maps, affine, sizes = maps_of(1), torch.eye(3, dtype=torch.float64)[None], torch.tensor([SIZE])
    mode = "scale_pred_coords"
    plain = decode_peak(maps, affine, sizes, mode)
    coarse = decode_coarse(decode_peak, maps, affine, sizes, mode, SIZE)
    assert torch.equal(coarse.points, plain.points)
    assert torch.equal(coarse.confidence, plain.confidence)


def test_covariances_are_in_pixels_of_the_image():
    fine, coarse = (
        found(DECODERS["gaussian_fit"](), maps_of(stride), "use_input_size").covariance for stride in (1, 4)
    )
    assert fine is not None and coarse is not None
    torch.testing.assert_close(coarse, fine, rtol=0.1, atol=0.5)


def test_a_flat_map_stays_unfound():
    where = found(decode_peak, [torch.zeros(1, 2, 12, 16)], "use_input_size")
    assert where.points.isnan().all()
    assert (where.confidence == 0).all()
