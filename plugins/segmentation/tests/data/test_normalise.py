"""An image as the network sees it."""

from dataclasses import replace

import numpy as np
from lannunet_segmentation.data.normalise import prepare_image
from lannunet_segmentation.types import CaseImage, Geometry, Settings

from lannunet_core.images.geometry import transform_points
from tests.fixtures.nnunet import PLAIN_SPACING, blocks

FINER = Settings((0.75, 0.75, 1.0), ("zscore",), (None,))


def test_the_affine_leads_to_the_same_place_of_the_original(tmp_path):
    """A blob's centre of mass, at another spacing, back in the original file."""
    size, spacing, centre = (40, 36, 20), (0.7, 0.9, 2.1), np.array([17.3, 21.8, 8.4])
    grid = np.stack(np.indices(size[::-1])[::-1], -1)
    blob = np.exp(-(((grid - centre) * spacing) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    image = CaseImage(blob[None], None, Geometry(size, spacing, (0.0,) * 3, tuple(np.eye(3).ravel()), 3))
    dataset = replace(blocks(tmp_path / "Dataset001_blob", 1), channel_names=("MRI",))
    pixels, affine = prepare_image(image, Settings((1.2, 0.6, 1.5), ("none",), (None,)), dataset)
    assert pixels.shape == (1, 28, 54, 23)
    grid = np.stack(np.indices(pixels.shape[1:])[::-1], -1)
    found = (grid * pixels[0][..., None]).sum((0, 1, 2)) / pixels.sum()
    np.testing.assert_allclose(transform_points(affine, found[None])[0], centre, atol=0.02)


def test_metal_is_clipped_before_it_spreads(tmp_path):
    """A voxel of 1e6 beside soft tissue, resampled to another grid, stays what the clip makes of it."""
    pixels = np.zeros((1, 8, 8, 8), np.float32)
    pixels[0, 4, 4, 4] = 1e6
    image = CaseImage(pixels, None, Geometry((8, 8, 8), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()), 3))
    dataset = blocks(tmp_path / "Dataset002_ct", 1)
    settings = Settings((0.8,) * 3, ("ct",), ((-100.0, 100.0, 0.0, 1.0),))
    assert prepare_image(image, settings, dataset)[0].max() <= 100


def test_a_flat_channel_becomes_zeros(tmp_path):
    dataset = blocks(tmp_path / "Dataset002_flat", 1)
    pixels = np.full((1, 5, 6, 7), 1234.567, np.float32)
    image = CaseImage(
        pixels, None, Geometry((7, 6, 5), PLAIN_SPACING, (0.0,) * 3, tuple(np.eye(3).ravel()), 3)
    )
    assert not prepare_image(image, FINER, dataset)[0].any()
