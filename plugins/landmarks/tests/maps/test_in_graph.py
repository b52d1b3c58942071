"""The decoder of exported graphs returns the same points as the default decoder."""

import numpy as np
import pytest
import torch
from lannunet_images import resize_affine
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.maps.in_graph import decode_in_graph
from lannunet_landmarks.maps.solving import solve
from scipy import ndimage

MODES = ("scale_heatmap_first", "scale_pred_coords", "use_input_size")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "original"),
    [
        ((48, 64), (48, 64)),
        ((48, 64), (30, 171)),
        ((48, 64), (1000, 900)),
        ((19, 7), (38, 21)),
        ((16, 12, 20), (40, 12, 18)),
        ((16, 12, 20), (160, 110, 90)),
    ],
)
def test_it_finds_the_same_peaks(size, original, mode):
    rng = np.random.default_rng(0)
    # Without a shape, whichever maximum happens to be highest decides.
    smooth = [0, 0.5, 1, 1.5, 2, 2, 2.5, 3, *[0] * 12]
    maps = rng.normal(size=(1, len(smooth), *size[::-1]))
    maps = np.stack([[ndimage.gaussian_filter(one, s) for one, s in zip(maps[0], smooth, strict=True)]])
    maps[0, 0] = 0  # flat
    maps[0, 1] = -np.abs(maps[0, 1])  # nowhere positive
    given = {
        "heatmaps": torch.from_numpy(maps).float(),
        "affine": torch.from_numpy(resize_affine(original, size))[None],
        "original_sizes": torch.tensor([original]),
        "evaluation_mode": mode,
    }
    wanted, found = decode_peak(**given), decode_in_graph(**given)
    assert torch.isnan(wanted.points[0, :2]).all() and torch.isfinite(wanted.points[0, 2:]).all()
    torch.testing.assert_close(found.points, wanted.points, atol=1e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.confidence, wanted.confidence, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 6, 10])
def test_systems_are_solved_and_those_that_are_not_definite_are_told(side):
    rng = np.random.default_rng(side)
    root = rng.normal(size=(20, side, side + 2))
    matrix, right = root @ root.transpose(0, 2, 1), rng.normal(size=(20, side))
    matrix[::2] *= -1
    found, positive = solve(torch.from_numpy(matrix), torch.from_numpy(right))
    assert positive.tolist() == [False, True] * 10
    np.testing.assert_allclose(
        found[1::2], np.linalg.solve(matrix[1::2], right[1::2, :, None])[..., 0], rtol=1e-6
    )
