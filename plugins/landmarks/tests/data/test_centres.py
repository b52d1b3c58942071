from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.data.centres import annotated_centres, check_centres, read_centres
from lannunet_landmarks.evaluation.predictions import write_predictions
from lannunet_landmarks.types import Prediction, Sample
from PIL import Image

from lannunet_core.errors import UserError

NAMES = ("tip", "base", "knee")


@pytest.fixture
def samples(tmp_path):
    Image.new("L", (80, 60)).save(tmp_path / "image.png")
    points = np.array([[10.5, 20.25], [70.0, 5.0], [40.0, 30.0]])
    return [Sample(name, tmp_path / "image.png", points, np.zeros(3, np.int64)) for name in ("a", "b")]


def test_an_earlier_runs_predictions_by_landmark_name(tmp_path, samples):
    found = np.array([[10.5, 20.25], [np.nan, np.nan], [40.0, 30.0]])
    path = tmp_path / "predictions.csv"
    write_predictions(path, [Prediction(s.id, s.image, found, np.ones(3)) for s in samples], NAMES)
    centres = read_centres(path, ("knee", "tip", "base"))
    assert list(centres) == ["a", "b"]
    np.testing.assert_array_equal(centres["b"], found[[2, 0, 1]])
    check_centres(centres, samples, (16, 16), NAMES)
    with pytest.raises(UserError, match=r"predictions\.csv has no landmark 'toe'; it has tip, base, knee"):
        read_centres(path, ("tip", "toe"))


def test_a_patch_around_each_point_has_to_show_something(samples):
    points = np.array([[-8.0, 20.0], [87.0, 67.0], [np.nan, np.nan]])
    centres = {"a": points, "b": points}
    check_centres(centres, samples, (16, 16), NAMES)
    for axis, beyond in ((0, -8.2), (1, 67.2)):
        moved = points.copy()
        moved[1, axis] = beyond
        with pytest.raises(UserError, match=r"landmark 'base' of sample .b. at .* of 80×60 pixels"):
            check_centres(centres | {"b": moved}, samples, (16, 16), NAMES)
    with pytest.raises(UserError, match='has no sample "b"'):
        check_centres({"a": points}, samples, (16, 16), NAMES)
    volume = {"a": np.zeros((3, 3)), "b": np.zeros((3, 3))}
    with pytest.raises(UserError, match=r"points have 3 dimensions, .*image\.png has 2"):
        check_centres(volume, samples, (16, 16), NAMES)


def test_annotations_are_moved_alike_every_time(samples):
    centres = annotated_centres(samples, None, "letterbox", 5.0, seed=1)
    moved = np.concatenate([centres[s.id] - s.coordinates for s in samples])
    assert 1 < np.abs(moved).max() <= 5
    assert len(np.unique(moved)) == moved.size
    again = annotated_centres(samples, None, "letterbox", 5.0, seed=1)
    np.testing.assert_array_equal(again["a"], centres["a"])
    other = annotated_centres(samples, None, "letterbox", 5.0, seed=2)
    assert not np.array_equal(other["a"], centres["a"])
    # Jitter is in pixels of the resized image, and 2 of these are 5 original pixels.
    resized = annotated_centres(samples, (32, 24), "letterbox", 5.0, seed=1)
    np.testing.assert_allclose(resized["a"], (samples[0].coordinates + moved[:3] * 2.5).clip(0))


def test_annotations_are_not_moved_out_of_their_image(samples):
    """A patch around such a centre could show nothing of it."""
    centres = annotated_centres(samples, None, "letterbox", 500.0, seed=1)
    every = np.concatenate(list(centres.values()))
    assert (every >= 0).all() and (every <= [79, 59]).all()


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match="there is no such file"):
        read_centres(Path("nowhere.csv"), NAMES)
