"""The public API that plugins import."""

import subprocess
import sys

import lannunet_images
import lannunet_landmarks
import pytest

import lannunet_core


@pytest.mark.parametrize("name", lannunet_landmarks.__all__)
def test_every_name_is_there(name):
    assert getattr(lannunet_landmarks, name) is not None


def test_what_is_the_engines_too_is_the_same():
    assert lannunet_landmarks.State is lannunet_core.State
    assert lannunet_landmarks.FullImage is lannunet_images.FullImage


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    script = (
        "import sys, lannunet_landmarks\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)))\n"
        "import lannunet_landmarks.task\n"
        "from lannunet_landmarks import LandmarkDataset, PatchBias, Prediction, Sample, radial_errors\n"
        "print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["[]", "False"]
