"""Predictions are matched to samples by id, or by the name of the image file."""

from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.matching import match
from lannunet_landmarks.types import Prediction, Sample

from lannunet_core import UserError

POINT = np.zeros((1, 2))


def matched(names, samples):
    """The prediction that is matched to each sample, by id."""
    entries = [Sample(name, Path(image), POINT, np.zeros(1, np.int64)) for name, image in samples.items()]
    predicted = [Prediction(name, Path(), POINT, np.ones(1)) for name in names]
    return {name: one.id for name, one in match(Path("p.csv"), predicted, entries, "testing").items()}


SAMPLES = {"7": "/data/a/7.png", "8": "/data/a/8.png"}


@pytest.mark.parametrize(
    ("names", "samples", "way"),
    [
        (["7", "8"], SAMPLES, None),
        (["/data/a/7.png", "/data/a/8.png"], SAMPLES, "image path"),
        (["7.png", "8.png"], SAMPLES, "file name"),
        (["scan1.png", "scan2.png"], {"7": "/data/scan1.png", "8": "/data/scan2.png"}, "file name"),
        (
            ["elsewhere/a/1.png", "elsewhere/b/1.png"],
            {"7": "/data/a/1.png", "8": "/data/b/1.png"},
            "file name in 1 folder",
        ),
        ([r"D:\scans\a\1.png", r"D:\scans\b\1.png"], {"7": "/x/a/1.png", "8": "/x/b/1.png"}, "in 1 folder"),
        (["7.nii.gz", "8.nii.gz"], {"7": "/data/x1.mha", "8": "/data/x2.mha"}, "suffix, as id"),
        (["s.7.nii.gz", "s.8.nii.gz"], {"7": "/data/s.7.mha", "8": "/data/s.8.mha"}, "its suffix"),
    ],
)
def test_ways(capsys, names, samples, way):
    assert matched(names, samples) == dict(zip("78", names, strict=True))
    said = capsys.readouterr().out
    assert ("matched to samples by their" in said and way in said) if way else not said


def test_the_id_comes_first(capsys):
    """This holds even if files have the ids of other samples as names."""
    crossed = {"7.png": "/data/8.png", "8.png": "/data/7.png"}
    assert matched(["7.png", "8.png"], crossed) == {"7.png": "7.png", "8.png": "8.png"}
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["7.png", "9.png"], r"'9\.png' is not a sample of testing \(by their file name\)"),
        (["7", "9"], r"'9' is not a sample of testing\. Choose"),
        (["a/1.png", "b/1.png"], r"'a/1\.png' is not a sample of testing"),
    ],
)
def test_what_is_of_none(names, message):
    with pytest.raises(UserError, match=message):
        matched(names, SAMPLES)
