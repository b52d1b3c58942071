import pytest

from lannunet_core.testing import ArchitectureConformance, Subject


class Monai(Subject):
    plugin = "monai"
    supports_deep_supervision = False  # the outputs of a network follow from its arguments


@pytest.mark.slow
class TestSegResNet(Monai, ArchitectureConformance):
    config = {"arguments": {"blocks_down": [1, 1], "blocks_up": [1]}}  # noqa: RUF012
    size_2d = (48, 32)
    size_3d = (16, 16, 12)


@pytest.mark.slow
class TestDynUNet(Monai, ArchitectureConformance):
    config = {  # noqa: RUF012
        "network": "DynUNet",
        "arguments": {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 32],
            "deep_supervision": True,
        },
    }


@pytest.mark.slow
class TestSwinUNETR(Monai, ArchitectureConformance):
    config = {"network": "SwinUNETR", "arguments": {"feature_size": 12}}  # noqa: RUF012
    size_2d = (128, 64)  # multiples of 32, and so are one and a half times as many
    size_3d = (64, 64, 64)
