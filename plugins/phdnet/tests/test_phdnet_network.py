import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_phdnet.network import PHDNet
from torch import nn


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_for_one_landmark() -> None:
    """Counted by hand: six 3×3 convolutions, two branches of 1×1 ones, scales and shifts of the norms."""
    backbone = (9 * 1 + 1) * 32 + 5 * (9 * 32 + 1) * 32
    branch = (32 + 1) * 64 + (64 + 1) * 96
    norms = 2 * (6 * 32 + 2 * (64 + 96))
    heads = (96 + 1) * (1 + 2)
    assert parameters(PHDNet(1, 1, 2)) == backbone + 2 * branch + norms + heads
    assert 0.055e6 < parameters(PHDNet(1, 1, 2)) < 0.065e6


def test_a_landmark_more_is_three_outputs_more() -> None:
    assert parameters(PHDNet(1, 12, 2)) - parameters(PHDNet(1, 11, 2)) == (96 + 1) * 3


def test_layers_are_as_published() -> None:
    kinds = [
        type(layer) for layer in PHDNet(1, 1, 2).backbone.modules() if not isinstance(layer, nn.Sequential)
    ]
    one = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*one, nn.MaxPool2d] * 3 + one * 3


@settings(max_examples=12, deadline=None)
@given(
    size=st.one_of(st.tuples(*[st.integers(17, 60)] * 2), st.tuples(*[st.integers(9, 21)] * 3)),
    channels=st.integers(1, 3),
    landmarks=st.integers(1, 4),
    halvings=st.integers(1, 3),
    residual=st.booleans(),
)
def test_an_output_for_every_patch(
    size: tuple[int, ...], channels: int, landmarks: int, halvings: int, residual: bool
) -> None:
    network = PHDNet(channels, landmarks, len(size), halvings, residual)
    outputs = network(torch.randn(2, channels, *size))
    patches = [math.ceil(side / 2**halvings) for side in size]
    assert outputs["heatmap"].shape == (2, landmarks, *patches)
    assert outputs["displacement"].shape == (2, landmarks * len(size), *patches)


def test_single_branches() -> None:
    image = torch.randn(2, 1, 32, 40)
    assert PHDNet(1, 3, 2, displacement=False)(image).keys() == {"heatmap"}
    assert PHDNet(1, 3, 2, heatmap=False)(image).keys() == {"displacement"}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_has_a_gradient(residual: bool, dimensions: int) -> None:
    torch.manual_seed(0)
    network = PHDNet(2, 2, dimensions, residual=residual)
    outputs = network(torch.randn(3, 2, *[24] * dimensions))
    sum(output.square().mean() for output in outputs.values()).backward()
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


@pytest.mark.parametrize(("residual", "reach"), [(False, 70), (True, 132)])
def test_receptive_field(residual: bool, reach: int) -> None:
    """A patch's output follows exactly those pixels that its layers reach; pooling and strides by hand."""
    torch.manual_seed(0)
    network = PHDNet(1, 1, 2, residual=residual).eval()
    image = torch.randn(1, 1, 8, 320, requires_grad=True)
    middle = 20
    network(image)["heatmap"][0, 0, 0, middle].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].abs().sum(0).nonzero().flatten()
    centre = (middle + 0.5) * 8 - 0.5
    # Max pooling passes on one pixel of two, so that the outermost ones need not be seen.
    assert reach - 24 < seen.max() - seen.min() + 1 <= reach
    assert seen.min() >= centre - reach / 2
    assert seen.max() <= centre + reach / 2


def test_displacements_in_patches_become_pixels() -> None:
    torch.manual_seed(0)
    network = PHDNet(1, 1, 2, displacement_unit=8.0).eval()
    image = torch.randn(1, 1, 32, 32)
    pixels = network(image)["displacement"]
    network.displacement_unit = 1.0
    torch.testing.assert_close(pixels, 8 * network(image)["displacement"])
