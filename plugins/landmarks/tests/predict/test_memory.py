"""Prediction if an allocator refuses: fewer images, then windows, and the same maps."""

import pytest
import torch
from lannunet_images import Room
from lannunet_landmarks import SoftmaxCrossEntropy, stitch
from lannunet_landmarks.learner import LandmarkLearner
from lannunet_landmarks.predict.patchwise import stitched_maps, whole_maps
from torch import nn


class Refusing(nn.Module):
    """A network with memory for images of at most this many numbers."""

    def __init__(self, layers, most):
        super().__init__()
        self.layers, self.most, self.seen = layers, most, []

    def forward(self, image):
        if image.numel() > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append(tuple(image.shape))
        return self.layers(image)


def learner_of(dimensions, most):
    torch.manual_seed(0)
    conv = getattr(nn, f"Conv{dimensions}d")
    layers = nn.Sequential(conv(1, 4, 5, padding=2), nn.ReLU(), conv(4, 3, 5, padding=2))

    class Hooks:
        network = staticmethod(lambda: Refusing(layers, most))
        loss = staticmethod(lambda: SoftmaxCrossEntropy(2.0, dimensions))
        network_inputs = staticmethod(lambda batch: {})
        stitch_heatmap = staticmethod(stitch)

    return LandmarkLearner(Hooks), Hooks


def batch_of(count, size):
    torch.manual_seed(1)
    dimensions = len(size)
    return {
        "image": torch.randn(count, 1, *reversed(size)),
        "affine": torch.eye(dimensions + 1).double().repeat(count, 1, 1),
        "id": [str(number) for number in range(count)],
        "extra": {"age": torch.arange(count)},
    }


@pytest.mark.parametrize("size", [(150, 100), (64, 70, 40)])
@pytest.mark.parametrize("share", [1 / 2, 1 / 4, 1 / 10])
def test_the_maps_are_the_same(capsys, size, share):
    """The maps of a network with a limited receptive field are the same everywhere, up to rounding."""
    batch = batch_of(2, size)
    most = int(share * batch["image"].numel())
    free, hooks = learner_of(len(size), 10**9)
    short, _ = learner_of(len(size), most)
    with torch.inference_mode():
        expected = whole_maps(free, hooks, 4, 1, Room())(batch)
        room = Room()
        found = whole_maps(short, hooks, 4, 1, room)(batch)
        again = whole_maps(short, hooks, 4, 1, room)(batch)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found, again)
    assert max(torch.Size(shape).numel() for shape in short.network.seen) <= most
    said = capsys.readouterr().out.splitlines()
    assert said and all(line.startswith("memory is short: ") for line in said)
    assert len(said) <= (1 if share == 1 / 2 else 2)
    assert any("windows" in line for line in said) is (share < 1 / 2)


def test_smaller_patches_give_the_same_maps():
    batch = batch_of(1, (150, 100))
    free, hooks = learner_of(2, 10**9)
    short, _ = learner_of(2, 40 * 64)
    with torch.inference_mode():
        expected = stitched_maps(free, hooks, (96, 96), 4, 1)(batch)
        found = stitched_maps(short, hooks, (96, 96), 4, 1)(batch)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
