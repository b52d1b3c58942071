"""Networks of MONAI by name: filled-in arguments, refused settings, and training in both tasks."""

import os
import subprocess
import sys

import pytest
import torch
from lannunet_monai.config import MonaiConfig
from lannunet_monai.plugin import MonaiPlugin

from lannunet_core import RunInfo, UserError

SMALL = {
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1]},
    "DynUNet": {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    },
    "UNet": {"channels": [4, 8], "strides": [2]},
    "UNETR": {"feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2},
    "SegResNetDS": {"init_filters": 4, "dsdepth": 2},
}


def network_of(name, size=(64, 32), **arguments):
    run = RunInfo("landmarks", len(size), 2, ("a", "b", "c"), size, None, 3, "cpu", 0)
    return MonaiPlugin(MonaiConfig(network=name, arguments=arguments), run).network()


@pytest.mark.parametrize("size", [(64, 32), (64, 32, 32)], ids=["2D", "3D"])
@pytest.mark.parametrize("name", SMALL)
def test_a_map_an_output(name, size):
    network = network_of(name, size, **SMALL[name]).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 2, *reversed(size)))
    finest = maps if isinstance(maps, torch.Tensor) else maps[0]
    assert finest.shape == (1, 3, *reversed(size))


def test_several_resolutions():
    """Outputs that DynUNet stacks in training, and that SegResNetDS lists."""
    image = torch.zeros(1, 2, 32, 64)
    for name, further, sizes in [
        ("DynUNet", {"deep_supervision": True}, [(32, 64), (32, 64)]),
        ("SegResNetDS", {}, [(32, 64), (16, 32)]),
    ]:
        maps = network_of(name, **SMALL[name] | further).train()(image)
        assert [level.shape for level in maps] == [(1, 3, *size) for size in sizes]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("SegResnt", {}, r"network: 'SegResnt' is not known; .*VNet.* Did you mean 'SegResNet'\?"),
        ("DiffusionModelUNet", {}, "network: 'DiffusionModelUNet' is not known"),  # takes time steps, too
        ("Transchex", {}, "network: 'Transchex' is not known"),  # downloads its weights
        (
            "SegResNet",
            {"init_filter": 8},
            r"arguments of SegResNet: 'init_filter' is not known; .* Did you mean 'init_filters'\?",
        ),
        (
            "SegResNet",
            {"in_channels": 3},
            r"arguments\.in_channels: is set automatically, to 2 in this run\. Remove",
        ),
        (
            "FlexibleUNet",
            {"pretrained": True},
            r"arguments\.pretrained: is set automatically, to False in this run",
        ),
        ("UNet", {}, "arguments: UNet needs channels, strides. Set channels and strides"),
        (
            "SwinUNETR",
            {"feature_size": 13},
            r"arguments: SwinUNETR cannot be built with these arguments \(ValueError",
        ),
        ("DenseNet121", {}, r"network: DenseNet121 returns \(1, 3\), not maps of 3 outputs"),
    ],
)
def test_what_is_refused(name, arguments, said):
    with pytest.raises(UserError, match=rf"^model\.monai\.{said}"):
        network_of(name, **arguments)(torch.zeros(1, 2, 32, 64))


def test_a_network_of_other_dimensions():
    with pytest.raises(UserError, match=r"network: Quicknat is not for images of 3 dimensions"):
        network_of("Quicknat", (32, 32, 32), num_filters=4)


def test_names_in_any_spelling():
    assert type(network_of("seg-res-net", **SMALL["SegResNet"]).network).__name__ == "SegResNet"


def test_both_tasks_train(project, segmentation_project):
    """Both tasks train, and the model is read again."""
    volumes = segmentation_project("volumes", size=(20, 18, 12), patch=(16, 16, 8))
    for of in (project, volumes):
        of.config["model"] = {"architecture": "monai", "monai": {"arguments": SMALL["SegResNet"]}}
        of.set(solver={"max_epochs": 1, "mini_batch_size": 1})
        assert of.train() == 0
    first = project.annotations["testing"][0]["image"]
    assert project.lannunet("predict", project.out, project.folder / first, "-o", project.folder / "new") == 0


@pytest.mark.parametrize(
    ("name", "size", "reason", "other"),
    [
        ("SegResNet", [33, 34], "must match the size", [32, 34]),
        ("SwinUNETR", [32, 33], "must be divisible", [64, 64]),
        ("BasicUNet", [16, 16], "more than one pixel", [32, 32]),  # torch raises this only in training
    ],
)
def test_a_size_is_refused_before_an_image_is_read(project, capsys, name, size, reason, other):
    for sample in project.annotations["training"]:
        image = project.folder / sample["image"]
        image.write_bytes(image.read_bytes()[:300])  # it would be reported first
    project.config["model"] = {
        "architecture": "monai",
        "monai": {"network": name, "arguments": SMALL.get(name, {})},
    }
    project.set(sampler={"input_size": size})
    assert project.train() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: sampler.input_size: the network of 'monai'")
    assert reason in error
    assert error.endswith(f"Set it to {other}, which it takes.")
    assert not project.out.exists()


TORCHVISION = "raise SystemExit('torchvision was imported')"
PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
from lannunet_monai.network import networks
assert "SegResNet" in networks()
assert "torchvision" not in sys.modules
"""


@pytest.mark.slow
def test_torchvision_is_not_imported(tmp_path):
    """MONAI does not import with every version of torch. Warnings on import are not errors."""
    (tmp_path / "torchvision.py").write_text(TORCHVISION)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
