"""Debug pictures: their content is verified by their pixels."""

import numpy as np
import pytest
import torch
from lannunet_landmarks.evaluation.pictures import draw_predicted_maps, draw_training_batch, file_name
from lannunet_landmarks.types import Prediction
from PIL import Image

from lannunet_core.hookspecs import State

GREEN, ORANGE = (46, 230, 166), (255, 157, 46)


def count(path, colour):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).max(axis=-1) < 12).sum())


def batch_of(*size, landmarks):
    """Two samples of noise of `size` ([z,] y, x)."""
    dimensions = len(size)
    points = torch.tensor(landmarks, dtype=torch.float32)
    return {
        "id": ["case/0", "case 1"],
        "image": torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0)),
        "landmarks": points,
        "affine": torch.eye(dimensions + 1, dtype=torch.float64).repeat(2, 1, 1),
    }


@pytest.mark.parametrize("size", [(40, 64), (12, 40, 64)])
def test_training_pictures_show_landmarks_and_maps(tmp_path, size):
    where = [30.0, 20.0, 5.0][: len(size)]
    batch = batch_of(*size, landmarks=[[where, [np.nan] * len(size)], [[np.nan] * len(size)] * 2])
    maps = torch.zeros(2, 2, *size)
    maps[(0, 0, *[int(value) for value in reversed(where)])] = 100
    draw_training_batch(
        batch, {"state": torch.zeros(2, 2), "heatmaps": [maps, maps[..., ::2]]}, tmp_path / "new"
    )
    second, first = sorted((tmp_path / "new").iterdir())
    assert (first.name[:7], second.name) == ("case_0-", "case 1.png")
    assert count(first, GREEN) > 20
    assert count(second, GREEN) == 0


def test_pictures_need_no_maps(tmp_path):
    draw_training_batch(
        batch_of(40, 64, landmarks=[[[3, 4]], [[5, 6]]]), {"state": torch.zeros(2, 1)}, tmp_path
    )
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("size", [(40, 64), (12, 40, 64)])
def test_predictions_are_drawn_in_the_networks_frame(tmp_path, size):
    dimensions = len(size)
    batch = batch_of(*size, landmarks=[[[30.0] * dimensions], [[30.0] * dimensions]])
    batch["affine"][:, :dimensions, -1] = 1000  # original pixels are far away
    inside, outside = np.full((1, dimensions), 1006.0), np.full((1, dimensions), 30.0)

    def prediction(number, point):
        return Prediction(
            f"case{number}", tmp_path, point, np.ones(1), target=point, states=np.array([State.VISIBLE])
        )

    maps = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    draw_predicted_maps(batch, [maps], [prediction(0, inside), prediction(1, outside)], tmp_path / "new")
    # The legend shows each colour once; only the first picture contains the points.
    for colour in (GREEN, ORANGE):
        drawn, not_drawn = (count(tmp_path / "new" / f"case{number}.png", colour) for number in (0, 1))
        assert drawn > not_drawn + 10


def test_predictions_without_annotation_or_points(tmp_path):
    batch = batch_of(40, 64, landmarks=[[[np.nan] * 2]] * 2)
    flat = [Prediction(f"f{n}", tmp_path, np.full((1, 2), np.nan), np.zeros(1)) for n in range(2)]
    draw_predicted_maps(batch, torch.zeros(2, 1, 40, 64), flat, tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_no_name_leads_elsewhere():
    """Two different names remain different."""
    ids = [
        "a/b",
        "a_b",
        "a\\b",
        "../x",
        "..",
        ".",
        "",
        "a\0b",
        "\ud800",
        "C:x",
        "z" * 500,
        "z" * 501,
        "é" * 150,
    ]
    names = [file_name(one) for one in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert not {"/", "\\", "\0", ":"} & set(name)
        assert len(name.encode()) <= 200
        assert name.strip(".")
    assert file_name("first stage") == "first stage"
