"""What a second stage sees of the first, and how it is corrupted in training."""

import numpy as np
import pytest
import torch
from lannunet_segmentation.data import cascade
from lannunet_segmentation.data.cascade import corrupted, grown, morph, remove_component, shrunk, with_classes
from scipy import ndimage


def ball(dimensions, radius):
    grid = np.indices((2 * radius + 1,) * dimensions) - radius
    return (grid**2).sum(0) <= radius**2


@pytest.mark.parametrize("shape", [(23, 31), (15, 18, 13)])
@pytest.mark.parametrize("radius", [1, 2, 4])
def test_balls_as_scipy_has_them(shape, radius):
    mask = ndimage.gaussian_filter(np.random.default_rng(radius).normal(size=shape), 2) > 0.03
    structure = ball(len(shape), radius)
    np.testing.assert_array_equal(grown(mask, radius), ndimage.binary_dilation(mask, structure))
    np.testing.assert_array_equal(
        shrunk(mask, radius), ndimage.binary_erosion(mask, structure, border_value=1)
    )


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_and_all(whole):
    mask = np.full((7, 9), whole)
    np.testing.assert_array_equal(grown(mask, 2), mask)
    np.testing.assert_array_equal(shrunk(mask, 2), mask)


class Chosen:
    """Draws what a test says."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def integers(self, *_):
        return self.numbers.pop(0)


@pytest.mark.parametrize("shape", [(40, 48), (24, 32, 28)])
@pytest.mark.parametrize("operation", range(4))
def test_a_class_is_changed_as_in_the_whole_patch(shape, operation):
    """Though only the box around it is computed. It covers others; what it loses is background."""
    noise = ndimage.gaussian_filter(np.random.default_rng(operation).normal(size=shape), 3)
    labels = np.zeros(shape, np.float32)
    middle = tuple(slice(side // 4, side // 4 + side // 3) for side in shape)
    labels[middle] = 1.0 * (noise[middle] > 0)
    labels[-5:] = 2
    before, structure = labels == 1, ball(len(shape), 3)
    steps = {
        0: lambda: ndimage.binary_dilation(before, structure),
        1: lambda: ndimage.binary_erosion(before, structure, border_value=1),
        2: lambda: ndimage.binary_opening(before, structure),
        3: lambda: ndimage.binary_closing(before, structure),
    }
    expected = np.where(before, 0, labels)
    expected[steps[operation]()] = 1
    morph(labels, 1, Chosen(3, operation))
    np.testing.assert_array_equal(labels, expected)


def test_one_component_is_left_out_but_no_large_one():
    labels = np.zeros((20, 20), np.float32)
    labels[:10, :10] = 1  # a quarter
    labels[12, 12] = labels[13, 13] = 1  # connected by their corners
    labels[18, 2] = 2
    before = labels.copy()
    remove_component(labels, 1, np.random.default_rng(0))
    before[12, 12] = before[13, 13] = 0
    np.testing.assert_array_equal(labels, before)


def test_how_often(monkeypatch):
    """In the shares that nnU-Net has; equal draws corrupt equally, and what is given stays as it is."""
    asked = []
    monkeypatch.setattr(cascade, "morph", lambda labels, value, rng: asked.append(("morph", value)))
    monkeypatch.setattr(
        cascade, "remove_component", lambda labels, value, rng: asked.append(("leave", value))
    )
    labels = np.array([[0, 1, 2]], np.float32)
    for seed in range(2000):
        corrupted(labels, np.random.default_rng(seed))
    counts = {(what, value): asked.count((what, value)) for what in ("morph", "leave") for value in (1, 2)}
    assert counts["morph", 1] == counts["morph", 2] == pytest.approx(800, abs=90)
    assert counts["leave", 1] == counts["leave", 2] == pytest.approx(400, abs=75)
    monkeypatch.undo()
    drawn = np.random.default_rng(1).integers(0, 3, (24, 32)).astype(np.float32)
    given = drawn.copy()
    changed = [corrupted(drawn, np.random.default_rng(seed)) for seed in range(20)]
    np.testing.assert_array_equal(drawn, given)
    assert 5 < sum(not np.array_equal(one, drawn) for one in changed) < 20
    np.testing.assert_array_equal(changed[3], corrupted(drawn, np.random.default_rng(3)))


def test_classes_are_channels_after_the_image():
    images = torch.rand(2, 1, 4, 5)
    labels = torch.randint(0, 4, (2, 4, 5)).float()
    seen = with_classes(images, labels, 3)
    assert seen.dtype == images.dtype
    torch.testing.assert_close(seen[:, :1], images)
    onehot = torch.nn.functional.one_hot(labels.long(), 4).permute(0, 3, 1, 2)[:, 1:].float()
    torch.testing.assert_close(seen[:, 1:], onehot)
