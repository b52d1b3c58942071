from math import prod

import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_unet.config import UNetConfig
from lannunet_unet.network import UNet, choose_kernels, count_downsamplings
from lannunet_unet.plugin import UNetPlugin
from torch import nn

from lannunet_core import RunInfo
from lannunet_core.errors import UserError


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
    assert len(heads) == min(levels, count_downsamplings(size, 4) + 1)
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


@settings(max_examples=15, deadline=None)
@given(data=st.data(), dimensions=st.integers(2, 3), levels=st.integers(1, 5))
def test_output_sizes_with_strides(data: st.DataObject, dimensions: int, levels: int) -> None:
    stride = st.tuples(*[st.integers(1, 3)] * dimensions)
    strides = data.draw(st.lists(stride, max_size=3))
    size = data.draw(st.tuples(*[st.integers(28, 40)] * dimensions))
    network = UNet(1, 2, size, 4, 8, strides=strides, supervised_resolutions=levels)
    heads = network(torch.randn(1, 1, *reversed(size)))
    assert len(heads) == min(levels, len(strides) + 1)
    for level, head in enumerate(heads):
        scale = [prod(stride[axis] for stride in strides[:level]) for axis in range(dimensions)]
        expected = [-(-side // step) for side, step in zip(size, scale, strict=True)]
        assert head.shape == (1, 2, *reversed(expected))


def test_halving_every_axis_is_the_network_without_strides() -> None:
    torch.manual_seed(0)
    without = UNet(1, 2, (32, 24, 16), 4, 16)
    network = UNet(1, 2, (32, 24, 16), 4, 16, strides=[(2, 2, 2)] * 2)
    network.load_state_dict(without.state_dict())
    image = torch.randn(1, 1, 16, 24, 32)
    for ours, theirs in zip(network(image), without(image), strict=True):
        assert torch.equal(ours, theirs)


def test_the_weights_of_a_network_keep_their_names_and_shapes() -> None:
    shapes = {name: tuple(w.shape) for name, w in UNet(1, 2, (16, 16), 4, 8).state_dict().items()}
    assert len(shapes) == 50
    assert shapes["encoder.1.3.weight"] == (8, 8, 3, 3)
    assert shapes["upsample.0.weight"] == (8, 4, 2, 2)
    assert shapes["decoder.0.0.weight"] == (4, 8, 3, 3)
    assert shapes["heads.2.weight"] == (2, 8, 1, 1)


@pytest.mark.parametrize(
    ("strides", "kernels"),
    [
        ([(2, 2, 2), (2, 2, 2)], [(3, 3, 3)] * 3),
        ([(1, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ([(1, 2, 2), (1, 2, 2), (2, 2, 2)], [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ([(2, 2, 2), (1, 2, 2)], [(3, 3, 3)] * 3),  # already short, no longer coarse
        ([], [(3, 3, 3)]),
    ],
)
def test_kernels(strides: list[tuple[int, ...]], kernels: list[tuple[int, ...]]) -> None:
    assert choose_kernels(strides, 3) == kernels


def test_a_coarse_axis_is_not_looked_along_before_it_is_shortened() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, (16, 16, 4), 4, 8, strides=[(2, 2, 1), (2, 2, 2)])
    image = torch.randn(1, 1, 4, 16, 16, requires_grad=True)
    first = network.encoder[0][0](image)
    (gradient,) = torch.autograd.grad(first[0, :, 1].square().sum(), image)
    slices, rows, columns = (axis.unique().tolist() for axis in gradient[0, 0].nonzero(as_tuple=True))
    assert (slices, len(rows), len(columns)) == ([1], 16, 16)


def plugin_with(strides: list[list[int]]) -> UNetPlugin:
    run = RunInfo("segmentation", 3, 1, ("background", "liver"), (32, 32, 16), None, 5, "cpu", 0)
    return UNetPlugin(UNetConfig(init_features=4, max_features=8, strides=strides), run)


def test_strides_of_the_configuration() -> None:
    heads = plugin_with([[2, 2, 1], [2, 2, 2]]).network()(torch.randn(1, 1, 16, 32, 32))
    assert [head.shape[2:] for head in heads] == [(16, 32, 32), (16, 16, 16), (8, 8, 8)]


def test_strides_for_another_number_of_axes() -> None:
    with pytest.raises(
        UserError, match=r"model\.unet\.strides\.1: \[2, 2\] is for 2 axes.*have 3.*\[2, 2, 2\]"
    ):
        plugin_with([[2, 2, 2], [2, 2]]).network()


def test_kaiming_initialisation_keeps_the_scale() -> None:
    torch.manual_seed(0)
    network = UNet(1, 3, (64, 64), 16, 64)
    convolution = network.encoder[1][3]  # 32 → 32
    expected = (2 / (1 + 0.01**2) / (32 * 9)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)])
def test_dropout_in_training_only(size: tuple[int, ...]) -> None:
    image = torch.randn(1, 1, *size)
    with_dropout = UNet(1, 2, size, 4, 8, dropout=0.5)
    plain = UNet(1, 2, size, 4, 8)
    plain.load_state_dict(with_dropout.state_dict())  # dropout has no weights
    assert torch.equal(with_dropout.eval()(image)[0], plain(image)[0])
    with_dropout.train()
    assert not torch.equal(with_dropout(image)[0], with_dropout(image)[0])


def network_of(size: tuple[int, ...], spacing: tuple[float, ...] | None, **settings: object) -> UNet:
    run = RunInfo("landmarks", len(size), 1, ("a", "b", "c"), size, spacing, 5, "cpu", 0)
    return UNetPlugin(UNetConfig(init_features=8, **settings), run).network()


def first_kernels(network: UNet) -> list[tuple[int, ...]]:
    return [stage[0].kernel_size for stage in network.encoder]


def parameters(network: UNet) -> int:
    return sum(weights.numel() for weights in network.parameters())


def test_a_thin_volume_is_halved_along_its_long_axes() -> None:
    assert parameters(network_of((96, 96, 7), None, strides=None)) == 2_019
    network = network_of((96, 96, 7), None)
    assert parameters(network) > 1_000_000
    assert network.scales[-1] == (1, 16, 16)
    heads = network(torch.randn(1, 1, 7, 96, 96))
    assert [head.shape[2:] for head in heads[:2]] == [(7, 96, 96), (7, 48, 48)]


@pytest.mark.parametrize(
    ("size", "scale"),
    [((512, 16), (4, 64)), ((256, 192), (32, 32)), ((512, 512), (128, 128)), ((7, 96, 96), (16, 16, 1))],
)
def test_axes_stop_one_by_one(size: tuple[int, ...], scale: tuple[int, ...]) -> None:
    assert network_of(size, None).scales[-1] == scale


def test_kernels_follow_from_spacing() -> None:
    """Kernels extend across six slices of nearly cubic voxels, but not across thick slices at fine levels."""
    assert first_kernels(network_of((96, 96, 6), (1.0, 1.0, 1.2))) == [(3, 3, 3)] * 5
    assert first_kernels(network_of((96, 96, 6), None)) == [(3, 3, 3)] * 5
    thick = network_of((96, 96, 24), (0.7, 0.7, 3.0))
    assert first_kernels(thick)[:3] == [(1, 3, 3), (1, 3, 3), (3, 3, 3)]
    assert thick.scales[1:4] == [(1, 2, 2), (1, 4, 4), (2, 8, 8)]
    of_strides = network_of((96, 96, 6), None, strides=[(2, 2, 1)] * 2, kernels="strides")
    assert first_kernels(of_strides) == [(1, 3, 3), (1, 3, 3), (3, 3, 3)]
