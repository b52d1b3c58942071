import subprocess
import sys

import pytest
import torch
from lannunet_landmarks.predict.patchwise import cut_patch, output_strides, receptive_radius
from torch import nn

from lannunet_core.errors import UserError


def stack(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def three(inputs=1, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=options.get("dilation", 1), **options)


@pytest.mark.parametrize(
    ("network", "radius"),
    [
        (stack(nn.Conv2d(1, 2, 1)), (0, 0)),
        (stack(three()), (1, 1)),
        (stack(three(), nn.ReLU(), three(3), nn.ReLU(), three(3)), (3, 3)),
        (stack(three(dilation=4), nn.ReLU(), nn.Conv2d(3, 2, (1, 5), padding=(0, 2))), (6, 4)),
        # A window of 2 pixels, then one on the coarse grid on either side.
        (stack(nn.MaxPool2d(2), three()), (2, 2)),
        # Everything depends on everything.
        (stack(three(), nn.InstanceNorm2d(3)), (20, 16)),
        (stack(nn.Dropout(0.5), three(), nn.BatchNorm2d(3)), (1, 1)),
    ],
)
def test_the_receptive_field_is_measured(network, radius):
    before = torch.get_rng_state()
    assert receptive_radius(network, 1, (40, 32)) == radius
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_measured_in_volumes_and_of_the_finest_output():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = nn.Conv3d(2, 1, (1, 3, 5), padding=(0, 1, 2))

        def forward(self, image):
            fine = self.fine(image)
            return [fine, nn.functional.avg_pool3d(fine, 4)]

    network = Two()
    with torch.inference_mode():  # as in prediction
        assert receptive_radius(network, 2, (16, 12, 8)) == (2, 1, 0)
    assert output_strides(network, 2, (16, 12, 8)) == (4, 4, 4)


def test_strides_of_outputs():
    assert output_strides(stack(three()), 1, (33, 20)) == (1, 1)
    assert output_strides(stack(nn.MaxPool2d((2, 3)), three()), 1, (33, 20)) == (3, 2)
    assert output_strides(stack(nn.MaxPool2d(8, ceil_mode=True)), 1, (100, 36)) == (8, 8)
    for size, output in (((100, 96), "12×12"), ((36, 32), "4×4")):
        with pytest.raises(UserError, match=f"an output of {output} is not a whole fraction"):
            output_strides(stack(nn.MaxPool2d(8)), 1, size)


def test_patches_are_cut_with_zeros_beyond_the_border():
    image = torch.arange(1.0, 31).reshape(1, 5, 6)
    inside = cut_patch(image, torch.tensor([2, 1]), (3, 4))
    assert torch.equal(inside, image[:, 1:5, 2:5])
    over = cut_patch(image, torch.tensor([-1, 3]), (3, 4))
    assert torch.equal(over[:, :2, 1:], image[:, 3:, :2])
    assert over.sum() == image[:, 3:, :2].sum()


# Memory

MEASURE = """
import re, sys
from pathlib import Path
import torch
from torch import nn
from lannunet_landmarks import stitch
from lannunet_landmarks import SoftmaxCrossEntropy
from lannunet_landmarks.learner import LandmarkLearner
from lannunet_landmarks.predict.patchwise import stitched_maps

class Hooks:
    network = staticmethod(lambda: nn.Conv2d(1, 19, 3, padding=1))
    loss = staticmethod(lambda: SoftmaxCrossEntropy(2.0, 2))
    network_inputs = staticmethod(lambda batch: {})
    stitch_heatmap = staticmethod(stitch)

learner = LandmarkLearner(Hooks)

def peak():  # getrusage's would begin with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def predict(side):
    batch = {"image": torch.zeros(1, 1, side, side), "affine": torch.eye(3).double()[None]}
    before = peak()
    with torch.inference_mode():
        maps = stitched_maps(learner, Hooks, (256, 256), 2, 1)(batch)
    grown = (peak() - before) * 1024
    return grown / (4 * maps.numel())

predict(300)  # what torch takes once
print(predict(int(sys.argv[1])))
"""


@pytest.mark.parametrize("side", [1024, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_memory_is_under_three_output_maps(side):
    """Memory for 19 landmarks and patches of 256², including the softmax over the whole map."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(side)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 3
