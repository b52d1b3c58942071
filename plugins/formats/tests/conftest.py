"""Images, and annotations of them, that the tests of all formats share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_landmarks import Annotated, Annotations, Mark
from PIL import Image

NAMES = ("tip", "left eye", "right eye")
OBLIQUE = (  # a rotation, whose third axis runs the other way
    (0.8, -0.6, 0.0),
    (0.48, 0.64, -0.6),
    (-0.36, -0.48, -0.8),
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of six PNG of 60 × 40 pixels, called a0.png to a5.png."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).save(folder / f"a{n}.png")
    return folder


@pytest.fixture(scope="session")
def volumes(tmp_path_factory) -> Path:
    """A folder of six oblique volumes of 20 × 16 × 12 voxels, v0.nii.gz to v5.nii.gz."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for n in range(6):
        image = sitk.GetImageFromArray(rng.integers(0, 255, (12, 16, 20)).astype(np.int16))
        image.SetSpacing((0.7, 0.9, 2.5))
        image.SetOrigin((-30.0 - n, 12.5, 40.0))
        image.SetDirection(np.ravel(OBLIQUE).tolist())
        sitk.WriteImage(image, str(folder / f"v{n}.nii.gz"))
    return folder


@pytest.fixture
def annotated():
    """Makes annotations of the images of a folder from arrays (images, N, D) in pixels."""

    def make(folder, points, names=NAMES, **more) -> Annotations:
        files = sorted(folder.glob("*.png")) + sorted(folder.glob("*.nii.gz"))
        images = tuple(
            Annotated(
                file,
                {
                    name: Mark(tuple(map(float, point)))
                    for name, point in zip(names, of_image, strict=True)
                    if not np.isnan(point).any()
                },
                id=file.name.partition(".")[0],
            )
            for file, of_image in zip(files, points, strict=False)
        )
        return replace(Annotations(tuple(names), images), **more)

    return make
