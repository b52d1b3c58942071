"""The cost that ResEnc reports to `lannunet plan`, against that of the network."""

import subprocess
import sys
from math import prod

import pytest
import torch
from lannunet_resenc.config import ResEncConfig
from lannunet_resenc.plugin import ResEncPlugin
from torch.utils.flop_counter import FlopCounterMode

from lannunet_core import NetworkRequest, RunInfo


@pytest.mark.parametrize(
    ("sides", "spacing"),
    [((30, 43, 15), (1.0, 1.0, 1.0)), ((60.5, 90), (1.0, 1.0)), ((33, 48, 8), (1.0, 1.0, 4.0))],
)
def test_cost_is_that_of_the_network(sides, spacing):
    offered = ResEncPlugin.networks(NetworkRequest(sides, spacing, in_channels=2, outputs=3))
    assert [network.settings["init_features"][0] for network in offered] == [32, 16, 8]
    assert all(reason for network in offered for _, reason in network.settings.values())
    planned = offered[-1]
    values = {key: value for key, (value, _) in planned.settings.items()}
    for axis, side in enumerate(planned.size):
        whole = prod(stride[axis] for stride in values["strides"])
        assert side % whole == 0
        assert sides[axis] <= side < sides[axis] + whole
    run = RunInfo("landmarks", len(sides), 2, ("a", "b", "c"), planned.size, None, 9, "cpu", 0)
    network = ResEncPlugin(ResEncConfig(**values), run).network()
    image = torch.zeros(1, 2, *reversed(planned.size))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert planned.products == pytest.approx(counter.get_total_flops() / 2, rel=1e-6)
    kept = {}  # of the tensors that autograd saves, each once

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    numbers = sum(count for place, count in kept.items() if place not in weights)
    assert numbers <= planned.numbers <= 1.5 * numbers
    assert len(outputs) == len(values["strides"])


def test_planning_needs_no_torch():
    script = "import sys, lannunet_resenc.plugin\nprint('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
