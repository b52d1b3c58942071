"""Errors of a small network with default settings on volumes with thick slices, and with few."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tests.fixtures.projects import draw_project

THICK = 3.0  # mm, of a slice
SPLITS = {"training": 24, "validation": 2, "testing": 8}
PHANTOMS = {
    "thick slices": ((64, 64, 20), (24, 24, 32)),
    "few slices": ((96, 96, 7), (96, 96, 7)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "input_size"), PHANTOMS.values(), ids=PHANTOMS)
def test_landmarks_are_found_to_one_and_a_half_slices(tmp_path, size, input_size):
    """Voxels of 0.7×0.7×3 mm; training takes at most two minutes in one thread."""
    project = draw_project(tmp_path / "project", sizes=(size,), splits=SPLITS, input_size=input_size)
    for path in (project.folder / "images").iterdir():
        image = sitk.ReadImage(str(path))
        image.SetSpacing((0.7, 0.7, THICK))
        sitk.WriteImage(image, str(path))
    project.set(
        sampler={"data_aug": "None"},
        solver={"max_epochs": 4, "mini_batch_size": 50},
        trainer={"validate_every": 4},
    )
    project.config["model"]["unet"] = {"init_features": 8, "max_features": 64}
    assert project.train() == 0
    errors = [float(row["error_mm"]) for row in project.rows()]
    print(f"{size}: mean {np.mean(errors):.2f} mm, worst {max(errors):.2f} mm")
    assert np.mean(errors) <= 1.5 * THICK
    assert json.loads((project.out / "summary.json").read_text())
