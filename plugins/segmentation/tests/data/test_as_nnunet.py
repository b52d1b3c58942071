"""Raw images, prepared as in nnU-Net version 1."""

import numpy as np
import pytest
from lannunet_images.geometry import transform_points
from lannunet_segmentation.data import nnunet_v1
from lannunet_segmentation.data.as_nnunet import prepare_as_nnunet
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.types import CaseImage, Geometry, NnunetChannel, NnunetRecipe

from tests.fixtures.nnunet import REPOSITORY

MADE_BY_NNUNET = REPOSITORY / "../shared/data/nnunet_v1"
MRI = NnunetChannel("zscore", inside=True)


def stored(pixels, spacing=(1.0, 1.0, 1.0), thickness=1.0):
    size = pixels.shape[:0:-1]
    axes = len(size)
    identity = tuple(np.eye(axes).ravel())
    return CaseImage(pixels, None, Geometry(size, spacing[:axes], (0.0,) * axes, identity, axes, thickness))


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


@pytest.mark.skipif(not MADE_BY_NNUNET.exists(), reason="needs folders that nnU-Net made")
@pytest.mark.parametrize("task", ["Task500_Blobs", "Task700_Aniso"])
def test_the_same_as_nnunet_made(task):
    """nnU-Net's arrays, of both plans, from its raw images: cropped, transposed, resampled, masked."""
    raw = read_dataset(MADE_BY_NNUNET / "raw/nnUNet_raw_data" / task)
    cases = {case.id: case for case in raw.training}
    stages = nnunet_v1.stages(MADE_BY_NNUNET / "pre" / task)
    assert len(stages) == 2
    for stage in stages:
        recipe = nnunet_v1.preparation(stage, 3)
        for name, path in nnunet_v1.stage_cases(stage).items():
            made, _ = prepare_as_nnunet(read_case(cases[name], raw, with_label=False), recipe)
            np.testing.assert_allclose(made, nnunet_v1.read_preprocessed(path)[:-1], atol=1e-5)


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_cropped_turned_and_normalised_within_the_nonzero_region(turn):
    pixels = np.zeros((1, 7, 8, 9), np.float32)
    inner = drawn((4, 5, 6))
    pixels[0, 2:6, 1:6, 3:9] = inner
    pixels[0, 2, 1] = 0  # in the box, and no part of the region
    pixels[0, 4, 3, 5] = 0  # a hole belongs to it
    recipe = NnunetRecipe("plan", (1.0, 1.0, 1.0), turn, (MRI,))
    made, affine = prepare_as_nnunet(stored(pixels), recipe)
    box = pixels[0, 2:6, 1:6, 3:9]
    region = box != 0
    region[2, 2, 2] = True
    expected = np.where(region, (box - box[region].mean()) / box[region].std(), 0)
    np.testing.assert_allclose(made[0], expected.transpose(turn), atol=1e-4)
    for place in [(0, 0, 0), (1, 2, 3), (3, 4, 2)]:
        where = [place[turn.index(axis)] for axis in range(3)] + np.array([2, 1, 3])  # z, y, x
        found = transform_points(affine, np.array([place[::-1]], float))[0]
        np.testing.assert_allclose(found, where[::-1])


def test_another_spacing_keeps_places():
    """A blob's centre of mass, through crop, turn and two spacings, back in the original image."""
    size, spacing, centre = (40, 36, 20), (0.7, 0.9, 2.1), np.array([17.3, 21.8, 8.4])
    grid = np.stack(np.indices(size[::-1])[::-1], -1)
    blob = np.exp(-(((grid - centre) * spacing) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    blob[:, :5] = 0
    plain = NnunetChannel("none", inside=False)
    for target in [(1.5, 1.2, 0.6), (5.0, 0.5, 0.5)]:
        recipe = NnunetRecipe("plan", target, (1, 0, 2), (plain,))
        made, affine = prepare_as_nnunet(stored(blob[None], spacing), recipe)
        assert made.shape[1:] == tuple(
            round(side * own / new)
            for side, own, new in zip((31, 20, 40), (0.9, 2.1, 0.7), target, strict=True)
        )
        grid = np.stack(np.indices(made.shape[1:])[::-1], -1)
        found = (grid * made[0][..., None]).sum((0, 1, 2)) / made.sum()
        np.testing.assert_allclose(transform_points(affine, found[None])[0], centre, atol=0.3)


def test_each_scheme():
    pixels = np.stack([drawn((6, 7, 8), seed) for seed in range(3)])
    clip = (80.0, 130.0, 95.0, 15.0)
    channels = (
        NnunetChannel("ct", inside=False, clip=clip),
        NnunetChannel("ct2", inside=False, clip=clip),
        NnunetChannel("none", inside=False),
    )
    made, _ = prepare_as_nnunet(stored(pixels), NnunetRecipe("plan", (1.0,) * 3, (0, 1, 2), channels))
    np.testing.assert_allclose(made[0], (pixels[0].clip(80, 130) - 95) / 15, atol=1e-5)
    within = pixels[1][(pixels[1] > 80) & (pixels[1] < 130)]
    np.testing.assert_allclose(made[1], (pixels[1].clip(80, 130) - within.mean()) / within.std(), atol=1e-4)
    np.testing.assert_array_equal(made[2], pixels[2])


def test_pictures():
    pixels = drawn((1, 20, 30))
    recipe = NnunetRecipe("plan", (None, 2.0, 1.0), (0, 1, 2), (NnunetChannel("zscore", inside=False),))
    made, affine = prepare_as_nnunet(stored(pixels, (1.0, 1.0), thickness=999.0), recipe)
    assert made.shape == (1, 10, 30)
    np.testing.assert_allclose(affine, [[1, 0, 0], [0, 2, 0.5], [0, 0, 1]])


def test_an_empty_image():
    made, _ = prepare_as_nnunet(stored(np.zeros((1, 4, 5, 6), np.float32)), recipe_of(MRI))
    assert made.shape == (1, 4, 5, 6)
    assert not made.any()


def recipe_of(*channels):
    return NnunetRecipe("plan", (1.0, 1.0, 1.0), (0, 1, 2), channels)
