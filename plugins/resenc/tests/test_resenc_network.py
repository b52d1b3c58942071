import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given, settings, strategies as st
from lannunet_resenc.config import ResEncConfig
from lannunet_resenc.plugin import ResEncPlugin
from torch import nn

from lannunet_core import RunInfo, UserError


def network_of(size, spacing=None, heads=5, **keys):
    run = RunInfo("landmarks", len(size), 2, ("a", "b", "c"), tuple(size), spacing, heads, "cpu", 0)
    config = {"init_features": 4, "max_features": 8, "blocks": [1, 2], **keys}
    return ResEncPlugin(ResEncConfig(**config), run).network()


@settings(max_examples=4, deadline=None)
@given(
    size=st.one_of(st.tuples(*[st.integers(9, 60)] * 2), st.tuples(*[st.integers(9, 20)] * 3)),
    heads=st.integers(1, 5),
    encoder=st.sampled_from(["residual", "plain"]),
)
def test_sizes_of_the_heads(size, heads, encoder):
    """The output has the size of any image, also if the strides do not divide it."""
    network = network_of([side + 3 for side in size], heads=heads, encoder=encoder)
    found = network(torch.randn(1, 2, *reversed(size)))
    assert len(found) == min(heads, len(network.scales) - 1)
    for maps, scale in zip(found, network.scales, strict=False):
        assert maps.shape == (1, 3, *(-(-side // step) for side, step in zip(size[::-1], scale, strict=True)))


@pytest.mark.parametrize(
    ("encoder", "reference"), [("residual", ResidualEncoderUNet), ("plain", PlainConvUNet)]
)
def test_it_is_the_library_s_network(encoder, reference):
    """The network equals that with nnU-Net's arguments (`nnUNetResEncUNetMPlans`, `nnUNetPlans`)."""
    of_encoder = "n_blocks_per_stage" if encoder == "residual" else "n_conv_per_stage"
    torch.manual_seed(0)
    theirs = reference(
        input_channels=2,
        n_stages=4,
        features_per_stage=[4, 8, 16, 20],
        conv_op=nn.Conv3d,
        kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
        **{of_encoder: [1, 3, 4, 6] if encoder == "residual" else [2] * 4},
        num_classes=3,
        n_conv_per_stage_decoder=[1, 1, 1] if encoder == "residual" else [2, 2, 2],
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    theirs.apply(theirs.initialize)
    torch.manual_seed(0)
    settings = {"max_features": 20, "blocks": None, "encoder": encoder}
    ours = network_of((32, 32, 16), (1.0, 1.0, 2.5), **settings)
    image = torch.randn(2, 2, 16, 32, 32)
    for our_maps, their_maps in zip(ours(image), theirs(image), strict=True):
        assert torch.equal(our_maps, their_maps)


def test_each_weight_has_one_name():
    state = network_of((32, 32)).state_dict()
    assert len({weights.data_ptr() for weights in state.values()}) == len(state)


def test_a_residual_block_begins_as_nothing():
    last = [
        weight for name, weight in network_of((32, 32)).state_dict().items() if "conv2.all_modules.1" in name
    ]
    assert len(last) == 14
    assert not torch.cat(last).any()


@pytest.mark.parametrize(
    ("size", "strides", "found"),
    [
        ((7, 7), "auto", r"\[\] do not fit samples of \(7, 7\)"),
        (
            (32, 32),
            [[2, 2, 2]],
            r"\[\[2, 2, 2\]\] do not fit samples of \(32, 32\). Give one or more strides of 2 numbers",
        ),
        ((8, 8, 8), [[2, 2, 2]] * 3, "that leave more than one pixel"),
    ],
)
def test_strides_that_do_not_fit(size, strides, found):
    with pytest.raises(UserError, match=rf"model\.resenc\.strides: .*{found}"):
        network_of(size, strides=strides)
