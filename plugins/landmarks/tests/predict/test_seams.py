"""Errors of stitched maps near seams of patches: a trained network on real images at native resolution."""

import json
from pathlib import Path

import numpy as np
import pytest
from lannunet_images import Windows
from lannunet_landmarks.predict.models import open_model
from lannunet_landmarks.predict.patchwise import receptive_radius
from PIL import Image

from tests.fixtures.projects import Project

WINGS = Path(__file__).parents[4] / "../shared/data/wings"
SIZE, PATCH = (632, 480), 256
SEAM = PATCH // 4  # pixels from the centre of the nearest patch
FARTHEST = 20.0  # px; a larger error is at the crossing of another vein, and counts as this
CONFIG = {
    "dataset": {"src_targets": "points.json"},
    "sampler": {
        "sample_mode": "patch_bias",
        "data_aug": "None",
        "patch": {
            "sample_patch_size": [PATCH, PATCH],
            "resolution_to_sample_from": "full",
            "inference_mode": "patchify_and_stitch",
        },
    },
    "solver": {"max_epochs": 4, "mini_batch_size": 100, "data_loader_batch_size_train": 4},
    "trainer": {"validate_every": 2},
    "model": {"architecture": "unet", "gauss_sigma": 4.0, "unet": {"init_features": 8, "max_features": 128}},
    "output": {"output_dir": "out"},
}


@pytest.mark.slow
@pytest.mark.skipif(not WINGS.exists(), reason="needs shared/data/wings")
def test_the_error_at_seams_is_that_inside(tmp_path):
    """400 batches, three minutes of one quiet core.

    Measured: 70 landmarks, median 2.9 px near seams and 3.1 inside; means 4.8 and 6.4. Cut in
    the middle of the overlap, as before, the median near seams was 3.5.
    """
    annotations = json.loads((WINGS / "dataset.json").read_text())
    for split in ("training", "validation", "testing"):
        for sample in annotations[split]:
            sample["image"] = str((WINGS / sample["image"]).resolve())
    project = Project(tmp_path, annotations, json.loads(json.dumps(CONFIG)))
    assert project.train() == 0
    model = open_model(project.out)
    assert receptive_radius(model.learner.network.eval(), 1, (PATCH, PATCH)) == (PATCH // 2,) * 2

    near, inside = compared(project, project.out, [*annotations["validation"], *annotations["testing"]])
    print(f"{len(near)} landmarks: mean error near seams {near.mean():.2f} px, inside {inside.mean():.2f} px")
    print(f"medians {np.median(near):.2f} and {np.median(inside):.2f} px")
    assert len(near) > 25, "the network has learned too little to show anything"
    draws = np.random.default_rng(0).choice(near - inside, (2000, len(near))).mean(1)
    assert np.quantile(draws, 0.025) <= 0, "larger near seams"


def compared(project, model, samples):
    """The errors of the same landmarks near a seam of one grid of patches, and well inside one of another.

    The grids differ by the part cropped at the images' near sides. Landmarks that were learned are compared.
    """
    near, inside = [], []
    for shift in ((0, 0), (0, SEAM), (SEAM, 0), (SEAM, SEAM)):
        found, truth = predicted(project, model, samples, shift)
        errors = np.minimum(np.linalg.norm(found - truth, axis=-1), FARTHEST)
        starts = Windows.over(
            [a - b for a, b in zip(SIZE, shift, strict=True)], (PATCH, PATCH), (0, 0)
        ).starts
        middles = [np.array(along) + (PATCH - 1) / 2 for along in starts]
        each = [np.abs(truth[..., axis, None] - middles[axis]).min(-1) for axis in range(2)]
        distance = np.maximum(*each)
        near.append(np.where(np.abs(distance - SEAM) < SEAM / 4, errors, np.nan))
        inside.append(np.where(distance < SEAM / 2, errors, np.nan))
    learned = np.nanmedian(np.array(near + inside), (0, 1)) < FARTHEST / 2
    known = np.isfinite(near).any(0) & np.isfinite(inside).any(0) & learned
    return np.nanmean(np.array(near)[:, known], 0), np.nanmean(np.array(inside)[:, known], 0)


def predicted(project, model, samples, shift):
    """Predictions in images that are cropped by `shift` at their near sides, and the truth (n, N, D)."""
    folder = project.folder / f"shifted{shift[0]}_{shift[1]}"
    folder.mkdir()
    for sample in samples:
        pixels = np.asarray(Image.open(sample["image"]))[shift[1] :, shift[0] :]
        Image.fromarray(pixels).save(folder / f"{sample['id']}.png")
    out = project.folder / f"found{shift[0]}_{shift[1]}"
    assert project.lannunet("predict", model, folder, "-o", out) == 0
    rows = {(row["id"], row["landmark"]): (float(row["x"]), float(row["y"])) for row in project.rows(out)}
    names = list(dict.fromkeys(name for _, name in rows))
    found = np.array([[rows[f"{sample['id']}.png", name] for name in names] for sample in samples])
    used = [sample["coordinates"] for sample in samples]
    truth = np.array(used, float)[:, [int(name) for name in names]] - shift
    return found, np.where((truth >= 0).all(-1, keepdims=True), truth, np.nan)
