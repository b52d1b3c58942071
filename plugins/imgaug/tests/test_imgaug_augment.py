from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lannunet_images import intensity
from lannunet_imgaug import augment as with_imgaug
from scipy import ndimage

from lannunet_core.augment.schemes import Drawn, IntensityOp, SpatialTransform, make_scheme
from lannunet_core.errors import UserError

CENTRE = np.array([29.5, 19.5])
SIZE = (60, 40)


@pytest.fixture
def imgaug_loads() -> None:
    try:
        with_imgaug.load()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def image() -> np.ndarray:
    """float64, as a reader may give it, and two channels, which OpenCV's median refuses together."""
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(2, 40, 60)), (0, 1, 1)) * 3


OPERATIONS = [
    IntensityOp("gaussian_blur", {"sigma": 0.2}),
    IntensityOp("mean_blur", {"size": 3}),
    IntensityOp("mean_blur", {"size": 5}),
    IntensityOp("median_blur", {"size": 3}),
    IntensityOp("median_blur", {"size": 5}),
    IntensityOp("average_pooling", {"size": 2}),
    IntensityOp("sharpen", {"alpha": 0.6, "lightness": 0.3}),
    IntensityOp("emboss", {"alpha": 0.4, "strength": 0.7}),
    IntensityOp("contrast", {"factor": 0.5}),
    IntensityOp("contrast", {"factor": 1.6}),
]


@pytest.mark.parametrize("shape", [(40, 60), (39, 57)])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_intensity_operations_do_what_torch_does(imgaug_loads, image, operation, shape):
    image = image[:, : shape[0], : shape[1]]
    size = shape[::-1]
    still = Drawn(SpatialTransform.identity(2), (operation,))
    changed = with_imgaug.augment(image, still, (np.array(size) - 1) / 2, size)
    expected = intensity.apply_intensity(torch.as_tensor(image, dtype=torch.float32), operation).numpy()
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, expected, atol=2e-3)


@pytest.mark.parametrize(("name", "noise_free"), [("add", 0.0), ("multiply", 1.0)])
def test_noise_follows_from_its_seed(imgaug_loads, name, noise_free):
    image = np.full((2, 40, 60), noise_free)

    def noise(seed: int) -> np.ndarray:
        drawn = Drawn(SpatialTransform.identity(2), (IntensityOp(name, {"amplitude": 0.25}, seed),))
        return with_imgaug.augment(image, drawn, CENTRE, SIZE) - noise_free

    first = noise(1)
    assert -0.2501 < first.min() < -0.24
    assert 0.24 < first.max() < 0.2501
    assert abs(first.mean()) < 0.02
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(noise(1), first)
    assert (noise(2) != first).mean() > 0.9


@pytest.mark.parametrize("name", ["AffineComplex", "payer19"])
def test_the_geometry_is_the_drawn_transform(imgaug_loads, image, name):
    for seed in range(4):
        drawn = make_scheme(name).draw(np.random.default_rng(seed), SIZE)
        x, y = np.meshgrid(np.arange(60.0), np.arange(40.0))
        source = drawn.spatial.to_source(np.stack([x, y], -1), CENTRE, SIZE)
        moved = with_imgaug.warp(image, drawn, CENTRE, SIZE)
        for channel, found in zip(image, moved, strict=True):
            expected = ndimage.map_coordinates(
                channel, [source[..., 1], source[..., 0]], order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(found, expected, atol=0.05)  # OpenCV rounds to 1/32 px


def test_labels_take_the_value_of_the_nearest_pixel(imgaug_loads):
    labels = np.random.default_rng(0).integers(1, 4, (1, 40, 60))
    drawn = make_scheme("payer19").draw(np.random.default_rng(0), SIZE)
    moved = with_imgaug.warp(labels, drawn, CENTRE, SIZE, interpolation="nearest", fill=-1)
    assert set(np.unique(moved)) <= {-1, 1, 2, 3}


def test_volumes_are_refused(imgaug_loads):
    still = Drawn(SpatialTransform.identity(3))
    with pytest.raises(UserError, match=r"2D images only.*data_aug_package: torch"):
        with_imgaug.augment(np.zeros((1, 8, 8, 8)), still, np.full(3, 3.5), (8, 8, 8))


def test_an_opencv_that_cannot_load_is_named(tmp_path: Path):
    """On a minimal system, importing cv2 fails because libGL is missing."""
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({message!r})\n")
    code = (
        "from lannunet_imgaug import augment as with_imgaug\n"
        "from lannunet_core.errors import UserError\n"
        "try:\n    with_imgaug.load()\n"
        "except UserError as error:\n    print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert message in told
    assert "apt-get install libgl1" in told
    assert "data_aug_package: torch" in told
