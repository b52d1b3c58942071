"""Evaluation of predictions that a Python program has."""

from pathlib import Path

import numpy as np
import pytest
from lannunet_images import ImageFiles
from lannunet_landmarks.data.annotations import LandmarkDataset
from lannunet_landmarks.evaluation.given import evaluate_given
from lannunet_landmarks.evaluation.pooled import join
from lannunet_landmarks.predict.model import Landmarks
from lannunet_landmarks.types import Prediction, Sample

from lannunet_core import State, UserError

POINTS = np.array([[3.0, 4], [10, 20]])


MOVED = POINTS + np.array([2.0, 0])


def found(points, spacing=None):
    return Landmarks(points, np.full(len(points), 0.5), None, None, ("tip", "heel"), spacing=spacing)


def dataset(spacing, files=None):
    sample = Sample("0", Path("0.scan"), POINTS, np.full(2, int(State.VISIBLE)), spacing)
    samples = {"training": (), "validation": (), "testing": (sample,)}
    more = {} if files is None else {"files": files}
    return LandmarkDataset("made", "", 0, ("tip", "heel"), 2, samples, (), Path("made.json"), **more)


def test_errors_are_in_mm_by_the_spacing_of_the_data_set():
    moved = found(MOVED)
    assert evaluate_given([moved], dataset((0.5, 0.25)))["overall"]["mm"]["mean"] == 1
    assert evaluate_given([moved], dataset(None))["overall"]["mm"] is None
    assert evaluate_given([found(MOVED, (3.0, 1.0))], dataset(None))["overall"]["mm"]["mean"] == 6


def test_a_point_that_is_not_annotated():
    points = MOVED + np.array([[0], [100]])
    for nothing in (None, [np.nan, np.nan]):
        assert evaluate_given([found(points)], [[[3, 4], nothing]])["overall"]["px"]["mean"] == 2
    with pytest.raises(UserError, match=r"are no points\. Give numbers"):
        evaluate_given([found(POINTS)], [[[3, 4], [1]]])


def test_the_data_set_reads_its_images():
    """As those of a plugin's reader, or a folder of DICOM slices, which are no files of a known format."""
    files = ImageFiles({".scan": lambda path: (np.zeros((1, 30, 40)), (0.5, 0.5))})
    predicted = [Prediction("0", Path(), POINTS, np.ones(2))]
    (one,) = join(Path("p.csv"), predicted, ["tip", "heel"], dataset(None, files), "testing")
    assert one.spacing == (0.5, 0.5)
