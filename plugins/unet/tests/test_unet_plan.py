"""The cost that U-Net reports to `lannunet plan`, against that of the network."""

import subprocess
import sys
from math import prod

import pytest
import torch
from lannunet_unet.network import UNet
from lannunet_unet.plan import Shape, choose_strides
from lannunet_unet.plugin import UNetPlugin
from torch.utils.flop_counter import FlopCounterMode

from lannunet_core import NetworkRequest


@pytest.mark.parametrize(
    ("size", "spacing", "strides"),
    [
        ((35, 50, 36), (1, 1, 1), [(2, 2, 2)] * 3),
        ((8, 8), (1, 1), [(2, 2)]),
        ((7, 7), (1, 1), []),
        ((64, 32, 8), (1, 1, 1), [(2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 1, 1)]),
        ((64, 64, 16), (1, 1, 4), [(2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)]),
        ((16, 16, 16), (1, 1, 8), [(2, 2, 1), (2, 2, 1), (1, 1, 2), (1, 1, 2)]),
        ((512, 512), (1, 1), [(2, 2)] * 7),
        ((512, 512, 512), (1, 1, 1), [(2, 2, 2)] * 5),
    ],
)
def test_strides(size, spacing, strides):
    assert choose_strides(size, spacing) == tuple(strides)


@pytest.mark.parametrize("sides", [(35, 50, 36), (7, 7), (300.5, 200), (64, 64, 16)])
def test_it_offers_networks_of_falling_width_on_what_their_strides_divide(sides):
    spacing = (*[1.0] * (len(sides) - 1), 4.0)
    offered = UNetPlugin.networks(NetworkRequest(sides, spacing, in_channels=2, outputs=3))
    assert [network.settings["init_features"][0] for network in offered] == [32, 16, 8]
    products = [network.products for network in offered]
    assert products == sorted(products, reverse=True)
    for network in offered:
        values = {key: value for key, (value, _) in network.settings.items()}
        UNetPlugin.Config.model_validate(values)
        assert all(reason for _, reason in network.settings.values())
        for axis, side in enumerate(network.size):
            whole = prod(stride[axis] for stride in values["strides"])
            assert side % whole == 0
            assert sides[axis] <= side < sides[axis] + whole


@pytest.mark.parametrize(
    ("patch", "width"), [((32, 48, 16), 8), ((64, 96), 16), ((16, 16, 16), 32), ((7, 7), 8)]
)
def test_cost_is_that_of_the_network(patch, width):
    strides = choose_strides(patch, (1.0,) * len(patch))
    planned = Shape(patch, strides, width, in_channels=2, outputs=3)
    built = UNet(2, 3, patch, width, planned.most, strides=strides, supervised_resolutions=9)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, 2, *reversed(patch)))
    assert planned.cost()[0] == pytest.approx(counter.get_total_flops() / 2, rel=1e-6)
    # What autograd keeps is at least the outputs of convolutions and norms.
    kept = []
    for module in built.modules():
        if hasattr(module, "weight"):
            module.register_forward_hook(lambda module, given, out: kept.append(out.numel()))
    built(torch.zeros(1, 2, *reversed(patch)))
    assert sum(kept) <= planned.cost()[1] * 1.01 <= 2 * sum(kept)


def test_planning_needs_no_torch():
    script = "import sys, lannunet_unet.plugin, lannunet_unet.plan\nprint('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
