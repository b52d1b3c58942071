"""The preprocessed image that the network gets."""

from dataclasses import replace

import numpy as np
import pytest
from lannunet_images.geometry import transform_points
from lannunet_segmentation.data.as_nnunet import resized
from lannunet_segmentation.data.normalise import prepare_image
from lannunet_segmentation.data.regrid import resample_label
from lannunet_segmentation.types import CaseImage, Geometry, Settings
from scipy import ndimage

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
    """A voxel of 1e6 next to soft tissue is clipped before it is resampled to another grid."""
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


def image_of(pixels, spacing):
    size = pixels.shape[:0:-1]
    zero, straight = (0.0,) * len(size), tuple(np.eye(len(size)).ravel())
    return CaseImage(pixels.astype(np.float32), None, Geometry(size, spacing, zero, straight, len(size)))


@pytest.mark.parametrize(
    ("size", "spacing", "target", "thick"),
    [
        ((20, 24), (1.0, 1.0), (0.7, 0.6), None),
        ((20, 24, 12), (1.0, 1.0, 1.0), (0.7, 0.6, 0.8), None),
        ((20, 24, 12), (0.7, 0.7, 3.0), (0.5, 0.5, 2.2), 2),
        ((12, 24, 20), (1.0, 0.3, 0.3), (0.8, 0.2, 0.2), 0),
    ],
)
def test_images_are_resampled_as_nnunet_does(tmp_path, size, spacing, target, thick):
    """Cubic splines at the places where the new voxels lie; along a thick axis the slice that holds them."""
    dataset = blocks(tmp_path / "Dataset001_blocks", 1)
    pixels = np.random.default_rng(0).normal(0, 1, (1, *size[::-1]))
    settings = Settings(target, ("none",), (None,), interpolation="cubic")
    found, affine = prepare_image(image_of(pixels, spacing), settings, dataset)
    new = [round(side * old / step) for side, old, step in zip(size, spacing, target, strict=True)]
    assert found.shape == (1, *new[::-1])
    grid = np.stack(np.meshgrid(*map(np.arange, new), indexing="ij"), -1).reshape(-1, len(size))
    places = transform_points(affine, grid.astype(float))
    values = pixels[0].transpose()  # (x, y[, z])
    if thick is None:
        expected = ndimage.map_coordinates(values, places.T, order=3, mode="nearest")
    else:
        others = [axis for axis in range(3) if axis != thick]
        nearest = np.floor(places[:, thick] + 0.5).astype(int)
        expected = np.empty(len(places))
        for slice_ in np.unique(nearest):
            here = nearest == slice_
            plane = values.take(slice_, thick)
            expected[here] = ndimage.map_coordinates(
                plane, places[here][:, others].T, order=3, mode="nearest"
            ).clip(plane.min(), plane.max())
    expected = expected.clip(values.min(), values.max()).reshape(new).transpose()
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_labels_are_those_of_the_slices_that_images_are_taken_from(tmp_path):
    """Along a thick axis a label changes where the image does."""
    label = np.zeros((4, 16, 16), np.int16)
    label[2:, 4:12, 4:12] = 1
    found = resample_label(label, (24, 24, 10), thick=0)
    image = resized((label > 0).astype(np.float32), np.array([10, 24, 24]), apart=0, order=3)
    np.testing.assert_array_equal(found, image > 0.5)


def test_what_is_not_zero_is_normalised_before_it_is_resampled(tmp_path):
    """In a skull-stripped image the background stays 0 and is not part of the statistics."""
    dataset = blocks(tmp_path / "Dataset001_blocks", 1)
    pixels = np.zeros((1, 20, 20, 20))
    pixels[0, 6:14, 5:15, 5:15] = np.random.default_rng(0).normal(700, 100, (8, 10, 10))
    settings = Settings((1.0,) * 3, ("nonzero",), (None,), interpolation="cubic")
    found, _ = prepare_image(image_of(pixels, (1.0,) * 3), settings, dataset)
    brain = found[0, 6:14, 5:15, 5:15]
    assert (brain.mean(), brain.std()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert np.count_nonzero(found) == brain.size
