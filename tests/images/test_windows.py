import itertools
import math
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lannunet_landmarks.maps.losses import SoftmaxCrossEntropy
from torch import nn

from lannunet_core.errors import UserError
from lannunet_core.images.nests import finest
from lannunet_core.images.windows import Windows, stitch

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


def cut(image, windows, corner):
    """The patch of an image (1, C, *S) at a corner, with zeros beyond the border."""
    patch = torch.zeros(image.shape[1], *reversed(windows.patch_size))
    inside = [
        slice(first, min(first + length, side))
        for first, length, side in zip(corner, windows.patch_size, image.shape[:1:-1], strict=True)
    ][::-1]
    patch[(slice(None), *(slice(s.stop - s.start) for s in inside))] = image[(0, slice(None), *inside)]
    return patch


def predicted(network, image, windows, batch=3):
    corners = list(windows.corners())
    for first in range(0, len(corners), batch):
        chosen = corners[first : first + batch]
        with torch.no_grad():
            yield network(torch.stack([cut(image, windows, corner) for corner in chosen])), chosen


def convolutions(dimensions, count=3, outputs=2, **options):
    torch.manual_seed(0)
    layers = []
    for number in range(count):
        layers += [
            CONVOLUTION[dimensions](
                1 if number == 0 else 3, outputs if number == count - 1 else 3, 3, padding=1
            ),
            nn.LeakyReLU(0.3),
        ]
    return nn.Sequential(*layers[:-1])


def away_from_border(maps, margin):
    return maps[(..., *(slice(margin, side - margin) for side in maps.shape[2:]))]


# Against the whole image


@pytest.mark.parametrize("size", [(100, 77), (64, 32), (33, 90), (32, 32)])
def test_stitched_and_whole_image_agree_for_a_network_that_is_equivariant_to_shifts(size):
    network, image = convolutions(2), torch.randn(1, 1, *reversed(size))
    windows = Windows.over(size, (32, 32), (3, 3))
    stitched = stitch(predicted(network, image, windows), windows)
    with torch.no_grad():
        whole = network(image)
    # At the image's border both see the same zeros, so they agree there too.
    torch.testing.assert_close(stitched, whole, atol=1e-5, rtol=0)


def test_an_image_smaller_than_a_patch_is_padded():
    network, image = convolutions(2), torch.randn(1, 1, 20, 50)
    windows = Windows.over((50, 20), (32, 32), (3, 3))
    stitched = stitch(predicted(network, image, windows), windows)
    with torch.no_grad():
        whole = network(image)
    assert stitched.shape == whole.shape
    inner, expected = away_from_border(stitched, 3), away_from_border(whole, 3)
    torch.testing.assert_close(inner, expected, atol=1e-5, rtol=0)


def test_volumes_are_stitched_alike():
    network, image = convolutions(3, count=2), torch.randn(1, 1, 14, 20, 27)
    windows = Windows.over((27, 20, 14), (12, 10, 8), (2, 2, 2))
    with torch.no_grad():
        whole = network(image)
    torch.testing.assert_close(stitch(predicted(network, image, windows), windows), whole, atol=1e-5, rtol=0)


def test_a_margin_that_is_too_narrow_shows():
    """The comparisons above would see a receptive field that is cut."""
    network, image = convolutions(2), torch.randn(1, 1, 77, 100)
    windows = Windows.over((100, 77), (32, 32), (0, 0))
    with torch.no_grad():
        difference = stitch(predicted(network, image, windows), windows) - network(image)
    assert away_from_border(difference, 3).abs().max() > 1e-3


class Coarse(nn.Module):
    """Two kinds of maps at a stride of 4, of images of any size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(1, 3, 3, padding=1)
        self.heads = nn.ModuleDict({"a": nn.Conv2d(3, 2, 3, padding=1), "b": nn.Conv2d(3, 4, 1)})

    def forward(self, image):
        height, width = image.shape[2:]
        image = nn.functional.pad(image, (0, -width % 4, 0, -height % 4))
        x = nn.functional.max_pool2d(torch.relu(self.body(image)), 4)
        return {name: head(x) for name, head in self.heads.items()}


@pytest.mark.parametrize("size", [(100, 77), (65, 40)])
def test_coarse_maps_are_stitched_on_their_own_grid(size):
    network, image = Coarse(), torch.randn(1, 1, *reversed(size))
    windows = Windows.over(size, (32, 32), (5, 5), (4, 4))
    assert all(start % 4 == 0 for starts in windows.starts for start in starts)
    stitched = stitch(predicted(network, image, windows), windows)
    with torch.no_grad():
        whole = network(image)
    assert stitched.keys() == whole.keys()
    for name, maps in whole.items():
        torch.testing.assert_close(stitched[name], maps, atol=1e-5, rtol=0)


def test_what_normalises_over_the_map_comes_after_stitching():
    network, image = convolutions(2), torch.randn(1, 1, 60, 70)
    loss = SoftmaxCrossEntropy(2.0, 2)
    windows = Windows.over((70, 60), (24, 24), (3, 3))
    with torch.no_grad():
        whole = loss.activation(network(image))
    torch.testing.assert_close(
        loss.activation(stitch(predicted(network, image, windows), windows)), whole, atol=1e-6, rtol=1e-4
    )


# Where patches lie, and what they weigh

sides = st.tuples(st.integers(1, 300), st.integers(1, 70), st.integers(0, 40), st.sampled_from([1, 2, 4, 8]))


@given(sides)
@example((1, 1, 0, 1))
@example((7, 8, 40, 8))
@settings(deadline=None)
def test_weights_sum_to_one_at_every_pixel(side):
    image, patch, margin, stride = side
    if stride > patch:
        return
    windows = Windows.over((image,), (patch,), (margin,), (stride,))
    (starts,) = windows.starts
    assert starts[0] == 0
    # The last patch ends at the border, and beyond it only for the stride's sake.
    assert max(image, patch) <= windows.covered_size[0] < max(image, patch) + stride
    assert all(b - a <= max(patch // 2, stride) for a, b in itertools.pairwise(starts))
    for level in (1, stride):
        total = np.zeros(windows.covered_size[0] + patch)
        for start, weight in windows.weights(0, level).items():
            assert (weight >= 0).all()
            assert len(weight) == math.ceil(patch / level)
            total[start // level : start // level + len(weight)] += weight.numpy()
        covered = math.ceil(image / level)
        np.testing.assert_allclose(total[:covered], 1, atol=1e-12)
        np.testing.assert_array_equal(total[covered:], 0)


@given(st.lists(sides, min_size=2, max_size=3))
@settings(deadline=None, max_examples=40)
def test_no_pixel_is_left_uncovered(axes):
    if any(stride > patch for _, patch, _, stride in axes) or len(axes) == 3:
        axes = [
            (min(image, 24), max(patch, stride, 6), margin, stride) for image, patch, margin, stride in axes
        ]
    image, patch, margin, strides = zip(*axes, strict=True)
    windows = Windows.over(image, patch, margin, strides)
    ones = torch.ones(1, 1, *reversed(patch))
    maps = stitch(((ones, [corner]) for corner in windows.corners()), windows)
    assert maps.shape == (1, 1, *reversed(image))
    torch.testing.assert_close(maps, torch.ones_like(maps), atol=1e-5, rtol=0)


def test_a_margin_counts_at_the_image_border_only():
    windows = Windows.over((80, 32), (32, 32), (6, 6))

    def patches():
        for corner in windows.corners():
            maps = torch.ones(1, 1, 32, 32)
            if corner[0] > 0:
                maps[..., :6] = 1e6  # what the network makes of zeros instead of the image
            if corner[0] < 48:
                maps[..., -6:] = 1e6
            yield maps, [corner]

    torch.testing.assert_close(stitch(patches(), windows), torch.ones(1, 1, 32, 80))


def test_the_middle_of_a_patch_weighs_most():
    weights = Windows.over((160,), (32,), (0,)).weights(0)
    inner = weights[64]
    assert inner.argmax() in (15, 16)
    assert inner[16] > 5 * inner[4]
    torch.testing.assert_close(inner, inner.flip(0))


# Nests


def test_of_a_list_of_resolutions_only_the_finest_is_stitched():
    maps = [torch.ones(1, 2, 8, 8), torch.ones(1, 2, 4, 4)]
    windows = Windows.over((20, 10), (8, 8), (1, 1), (2, 2))
    stitched = stitch(((maps, [corner]) for corner in windows.corners()), windows)
    assert isinstance(stitched, list)
    assert [tuple(level.shape) for level in stitched] == [(1, 2, 10, 20)]
    nest = {"pair": (torch.ones(1), [torch.zeros(1), torch.ones(2)])}
    assert finest(nest) == {"pair": (torch.ones(1), [torch.zeros(1)])}


def test_what_has_no_place_in_the_image_cannot_be_stitched():
    windows = Windows.over((20, 10), (8, 8), (1, 1))
    with pytest.raises(UserError, match=r"\(1, 5\) has no place in the image.*hook stitch_heatmap"):
        stitch([({"presence": torch.ones(1, 5)}, [(0, 0)])], windows)
    with pytest.raises(UserError, match="one pixel for 16 of the image, more than the 8 of a patch"):
        Windows.over((20, 10), (8, 8), (1, 1), (1, 16))


# Memory


def test_the_outputs_of_patches_are_not_kept():
    windows = Windows.over((400, 300), (32, 32), (1, 1))
    alive = []

    def patches():
        for corner in windows.corners():
            maps = torch.ones(1, 2, 32, 32)
            alive.append(weakref.ref(maps))
            yield maps, [corner]
            assert sum(one() is not None for one in alive) <= 2

    stitch(patches(), windows)
    assert len(alive) > 300


MEASURE = """
import re, sys
from pathlib import Path
import torch
from torch import nn
from lannunet_landmarks.maps.losses import SoftmaxCrossEntropy
from lannunet_core.images.windows import stitch
from lannunet_landmarks.predict.patchwise import stitched_maps

class Learner:
    network = nn.Conv2d(1, 19, 3, padding=1)
    loss = SoftmaxCrossEntropy(2.0, 2)

class Hooks:
    stitch_heatmap = staticmethod(stitch)

def peak():  # getrusage's would begin with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def predict(side):
    image = torch.zeros(1, 1, side, side)
    before = peak()
    with torch.inference_mode():
        maps = stitched_maps(Learner, Hooks, (256, 256), 2, 1)(image)
    grown = (peak() - before) * 1024
    return grown / (4 * maps.numel())

predict(300)  # what torch takes once
print(predict(int(sys.argv[1])))
"""


@pytest.mark.parametrize("side", [1024, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_memory_is_under_three_output_maps(side):
    """Of 19 landmarks and patches of 256², the softmax over the whole map included."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(side)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 3
