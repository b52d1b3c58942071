import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lannunet_unet.network import UNet, count_downsamplings


@pytest.mark.parametrize(
    ("size", "smallest", "count"),
    [
        ((512, 512), 4, 7),
        ((256, 192), 4, 5),
        ((192, 256), 4, 5),
        ((48, 48, 48), 4, 3),
        ((9, 64), 4, 1),
        ((512, 512), 8, 6),
    ],
)
def test_depth_looks_at_the_smaller_side(size: tuple[int, ...], smallest: int, count: int) -> None:
    assert count_downsamplings(size, smallest) == count
    assert min(size) / 2**count >= smallest > min(size) / 2 ** (count + 1)


@settings(max_examples=15, deadline=None)
@given(
    size=st.one_of(st.tuples(*[st.integers(9, 70)] * 2), st.tuples(*[st.integers(8, 21)] * 3)),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 4),
    batch=st.integers(1, 2),
    levels=st.integers(1, 5),
)
def test_output_sizes(size: tuple[int, ...], channels: int, outputs: int, batch: int, levels: int) -> None:
    network = UNet(channels, outputs, size, 4, 16, 4, levels)
    heads = network(torch.randn(batch, channels, *reversed(size)))
    assert len(heads) == min(levels, network.downsamplings + 1)
    for level, head in enumerate(heads):
        assert head.shape == (batch, outputs, *(-(-side // 2**level) for side in reversed(size)))


def test_features_start_double_and_stop() -> None:
    network = UNet(1, 2, (128, 128), init_features=8, max_features=32)
    widths = [
        next(m for m in stage.modules() if isinstance(m, nn.Conv2d)).out_channels for stage in network.encoder
    ]
    assert widths == [8, 16, 32, 32, 32, 32]


def test_every_parameter_has_a_gradient_and_the_output_follows_the_input() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, (32, 24), 4, 16)
    sum(head.square().mean() for head in network(torch.randn(2, 1, 24, 32))).backward()
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


def test_another_size_than_it_was_made_for() -> None:
    network = UNet(1, 2, (64, 64), 4, 16)
    assert network(torch.randn(1, 1, 100, 37))[0].shape == (1, 2, 100, 37)


def test_kaiming_initialisation_keeps_the_scale() -> None:
    torch.manual_seed(0)
    network = UNet(1, 3, (64, 64), 16, 64)
    convolution = network.encoder[1][3]  # 32 → 32
    expected = (2 / (1 + 0.01**2) / (32 * 9)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.05)
