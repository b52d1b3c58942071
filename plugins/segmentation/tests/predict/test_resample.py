import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from lannunet_images.geometry import affine_matrix, resize_affine
from lannunet_segmentation.predict import resample
from lannunet_segmentation.predict.resample import label_map
from lannunet_segmentation.predict.slabs import in_slabs
from scipy.ndimage import map_coordinates

from lannunet_core.errors import UserError

SWITCH = "DIAG_NNUNET_ALT_RESAMPLING"


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)


def stored(classes, size, seed=0):
    """Scores (K, *S) as a prediction stores them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(classes, *reversed(size), generator=generator).mul(3).softmax(0).half()


def decided_in(scores, matrix, size):
    """The labels, and the resampled scores of each slab."""
    slabs = []

    def decide(slab):
        slabs.append(slab.clone())
        return slab.argmax(0)

    return label_map(scores, matrix, size, decide), slabs


# Slabs and all at once


@given(
    st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=2, max_size=3),
    st.integers(2, 5),
    st.integers(1, 4000),
)
@example([(7, 7), (9, 9), (12, 12)], 3, 1)
@example([(1, 9), (1, 1), (14, 3)], 3, 1)
@settings(max_examples=80, deadline=None)
def test_slabs_change_no_bit(axes, classes, slab_bytes):
    size, original = zip(*axes, strict=True)
    scores, matrix = stored(classes, size), resize_affine(original, size, "stretch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "SLAB_BYTES", slab_bytes)
        labels, slabs = decided_in(scores, matrix, original)
        patch.setenv(SWITCH, "0")
        labels_at_once, (at_once,) = decided_in(scores, matrix, original)
    plane = 4 * classes * int(np.prod(original[:-1]))
    assert max(4 * slab.numel() for slab in slabs) <= max(slab_bytes, plane)
    assert torch.equal(torch.cat(slabs, 1), at_once)
    np.testing.assert_array_equal(labels, labels_at_once)


@pytest.mark.parametrize("value", ["1", "true", "YES", " on ", ""])
def test_the_switch_is_on(monkeypatch, value):
    monkeypatch.setenv(SWITCH, value)
    assert in_slabs()


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_the_switch_is_off(monkeypatch, value):
    monkeypatch.setenv(SWITCH, value)
    monkeypatch.setattr(resample, "SLAB_BYTES", 1)
    assert not in_slabs()
    _, slabs = decided_in(stored(2, (5, 6)), np.eye(3), (5, 6))
    assert len(slabs) == 1


def test_unset_means_slabs(monkeypatch):
    monkeypatch.setattr(resample, "SLAB_BYTES", 1)
    _, slabs = decided_in(stored(2, (5, 6)), np.eye(3), (5, 6))
    assert len(slabs) == 6


@pytest.mark.parametrize("value", ["2", "maybe", "-1"])
def test_a_switch_that_says_neither_is_an_error(monkeypatch, value):
    monkeypatch.setenv(SWITCH, value)
    with pytest.raises(UserError, match=rf"{SWITCH} is '{value}'. Set it to 1, true, yes or on"):
        label_map(stored(2, (5, 6)), np.eye(3), (5, 6))


# The labels


@pytest.mark.parametrize(
    ("size", "original"),
    [((13, 9), (31, 9)), ((13, 9, 7), (19, 9, 23)), ((10, 11, 5), (10, 11, 17)), ((6, 1, 8), (6, 4, 8))],
)
def test_enlarged_scores_equal_linear_interpolation_in_float64(size, original):
    scores = stored(4, size)
    labels, slabs = decided_in(scores, resize_affine(original, size, "stretch"), original)
    places = np.meshgrid(
        *((np.arange(o) + 0.5) * s / o - 0.5 for s, o in zip(size[::-1], original[::-1], strict=True)),
        indexing="ij",
    )
    expected = np.stack(
        [map_coordinates(one.double().numpy(), places, order=1, mode="nearest") for one in scores]
    )
    np.testing.assert_allclose(torch.cat(slabs, 1).numpy(), expected, atol=1e-6)
    second, first = np.sort(expected, axis=0)[-2:]
    clear = first - second > 1e-5
    assert clear.mean() > 0.99
    assert labels.dtype == np.int16
    assert labels.shape == original[::-1]
    np.testing.assert_array_equal(labels[clear], expected.argmax(0)[clear])


def test_a_shift_moves_the_labels():
    """The image was cropped: prepared pixel 0 is original pixel (3, 2); pixels beyond are background."""
    scores = stored(3, (6, 5))
    labels = label_map(scores, affine_matrix(np.eye(2), np.array([3.0, 2.0])), (12, 10))
    np.testing.assert_array_equal(labels[2:7, 3:9], scores.float().argmax(0))
    labels[2:7, 3:9] = 0
    assert not labels.any()
    moved = label_map(scores, affine_matrix(np.eye(2), np.array([0.0, 1.0])), (6, 5))  # of the same size
    np.testing.assert_array_equal(moved[1:], scores.float().argmax(0)[:-1])


def test_turned_axes_are_turned_back():
    """The image of size (4, 5, 6) had x moved to the front: its axes z, y, x are now x, z, y."""
    scores = stored(3, (5, 6, 4))  # (K, 4, 6, 5)
    affine = np.zeros((4, 4))
    affine[0, 2] = affine[2, 1] = affine[1, 0] = affine[3, 3] = 1
    labels = label_map(scores, affine, (4, 5, 6))
    np.testing.assert_array_equal(labels, scores.float().argmax(0).permute(1, 2, 0))


def test_at_the_same_size_labels_are_the_highest_scores():
    scores = stored(5, (7, 8, 9))
    np.testing.assert_array_equal(label_map(scores, np.eye(4), (7, 8, 9)), scores.float().argmax(0))


def test_a_coarser_original_averages_what_its_voxels_hold():
    scores = torch.zeros(2, 8, 64)
    scores[1, :, :] = 1
    scores[:, :, ::4] = torch.tensor([1.0, 0.0])[:, None, None]  # the result of picking every fourth voxel
    scores = scores.roll(2, 2).half()
    labels = label_map(scores, resize_affine((16, 8), (64, 8), "stretch"), (16, 8))
    assert (labels[:, 1:-1] == 1).all()


def test_of_equal_scores_the_first_wins():
    scores = torch.full((3, 4, 4), 0.25).half()
    scores[0] = 0
    assert (label_map(scores, np.eye(3), (4, 4)) == 1).all()


def test_decide_may_be_anything_that_looks_at_each_voxel():
    scores = stored(3, (6, 5))
    labels = label_map(scores, np.eye(3), (6, 5), lambda slab: (slab[1] > 0.2).long())
    np.testing.assert_array_equal(labels, scores[1].float() > 0.2)


# Memory

MEASURE = """
import re
from pathlib import Path
import torch
from lannunet_images.geometry import resize_affine
from lannunet_segmentation.predict import resample

torch.set_num_threads(1)
resample.SLAB_BYTES = 16 << 20
def peak():  # getrusage's would begin with that of the process that started this one
    return 1024 * int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])

def labels(classes):
    scores = torch.zeros(classes, 24, 64, 64, dtype=torch.float16)
    return resample.label_map(scores, resize_affine((128, 128, 48), (64, 64, 24), "stretch"), (128, 128, 48))

labels(2)  # what torch takes once
before = peak()
labels(100)
print((peak() - before) / (4 * 100 * 128 * 128 * 48))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_one_slab():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Of the 315 MB of all classes at once: the stored scores are 0.06, a slab is 0.05.
    assert float(done.stdout) < 0.2
