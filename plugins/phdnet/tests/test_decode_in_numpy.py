"""The NumPy decoder of an exported network returns the same points as the plugin's decoder."""

import numpy as np
import pytest
import torch
from lannunet_images import resize_affine
from lannunet_phdnet import decode, decode_in_numpy

PATCH = 8


def drawn(size, branches, seed):
    """Votes for a place with errors that grow with the distance, and a heatmap around it: (1, K, *P) each."""
    rng = np.random.default_rng(seed)
    patches = [-(-side // PATCH) for side in size]
    grid = np.stack(np.indices(patches[::-1])[::-1]) * PATCH + (PATCH - 1) / 2  # (D, *P)
    maps = {"heatmap": [], "displacement": []}
    for _ in range(3):
        place = rng.uniform(0.1, 0.9, len(size)) * size
        away = place.reshape(-1, *[1] * len(size)) - grid
        far = np.linalg.norm(away, axis=0)
        maps["heatmap"].append(np.exp(-0.5 * (far / 10) ** 2) + rng.normal(0, 0.02, far.shape))
        maps["displacement"].append(away + rng.normal(0, 1, away.shape) * (0.5 + far / 8))
    maps["heatmap"] = np.clip(maps["heatmap"], 0, 1)[None]
    maps["displacement"] = np.concatenate(maps["displacement"])[None]
    return {name: one.astype(np.float32) for name, one in maps.items() if name in branches}


@pytest.mark.parametrize(("mode", "every"), [("scale_heatmap_first", True), ("scale_pred_coords", False)])
@pytest.mark.parametrize("branches", ["heatmap displacement", "heatmap", "displacement"])
@pytest.mark.parametrize(
    ("size", "original"), [((64, 88), (200, 180)), ((40, 33), (20, 18)), ((24, 32, 40), (20, 60, 40))]
)
def test_numpy_alone_finds_the_same(size, original, branches, mode, every):
    affine = resize_affine(original, size)
    for seed in range(2):
        maps = drawn(np.array(size), branches, seed)
        wanted = decode.decode(
            {name: torch.from_numpy(one) for name, one in maps.items()},
            torch.from_numpy(affine)[None],
            torch.tensor([original]),
            mode,
            PATCH,
            every,
        )
        answers = {**maps, "affine": affine, "size": np.array(original, float)}
        given = {"patch_size": PATCH, "every_patch_votes": every, "evaluation_mode": mode}
        points, confidence = decode_in_numpy.decode(answers, given)
        np.testing.assert_allclose(points, wanted.points[0], atol=1e-3)
        np.testing.assert_allclose(confidence, wanted.confidence[0], atol=1e-4)


def test_where_nothing_stands_out_there_is_no_point():
    flat = {"displacement": np.zeros((1, 4, 5, 6), np.float32), "heatmap": np.zeros((1, 2, 5, 6), np.float32)}
    given = {"patch_size": PATCH, "every_patch_votes": True, "evaluation_mode": "use_input_size"}
    for branch in (["displacement"], ["heatmap"], ["displacement", "heatmap"]):
        answers = {name: flat[name] for name in branch} | {
            "affine": np.eye(3),
            "size": np.array([48.0, 40.0]),
        }
        points, confidence = decode_in_numpy.decode(answers, given)
        assert np.isnan(points).all() and points.shape == (2, 2) and (confidence == 0).all()
