from lannunet_core.testing import ArchitectureConformance


class TestUNet(ArchitectureConformance):
    plugin = "unet"
    config = {"init_features": 8, "max_features": 16}  # noqa: RUF012
