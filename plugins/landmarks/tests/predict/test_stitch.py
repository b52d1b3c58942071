import weakref

import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import Windows
from lannunet_landmarks import stitch
from lannunet_landmarks.predict.stitch import finest, tensors_of
from torch import nn

from lannunet_core import UserError

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
    # At the border of the image both have the same zeros, so they agree there too.
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
    """The comparisons above would detect a receptive field that is cut."""
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


def over_the_map(maps):
    return maps.flatten(2).softmax(-1).reshape(maps.shape)


def test_what_normalises_over_the_map_comes_after_stitching():
    network, image = convolutions(2), torch.randn(1, 1, 60, 70)
    windows = Windows.over((70, 60), (24, 24), (3, 3))
    with torch.no_grad():
        whole = over_the_map(network(image))
    torch.testing.assert_close(
        over_the_map(stitch(predicted(network, image, windows), windows)), whole, atol=1e-6, rtol=1e-4
    )


# Positions and weights of patches

sides = st.tuples(st.integers(1, 300), st.integers(1, 70), st.integers(0, 40), st.sampled_from([1, 2, 4, 8]))


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
                maps[..., :6] = 1e6  # the network's output for zeros instead of the image
            if corner[0] < 48:
                maps[..., -6:] = 1e6
            yield maps, [corner]

    torch.testing.assert_close(stitch(patches(), windows), torch.ones(1, 1, 32, 80))


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
    with pytest.raises(UserError, match=r"\(1, 5\) has no spatial axes of the image.*stitching hook"):
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


def test_finest_keeps_the_nest():
    fine, coarse = torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 3, 4)
    cut = finest({"maps": [fine, coarse], "pair": (fine, [coarse, fine])})
    assert cut["maps"] == [fine]
    assert cut["pair"][0] is fine
    assert cut["pair"][1] == [coarse]


def test_tensors_of_a_nest():
    fine, coarse = torch.zeros(1), torch.ones(1)
    assert [float(one) for one in tensors_of({"a": [fine, (coarse, "text")], "b": None})] == [0, 1]
