import pytest

from lannunet_core.testing import ArchitectureConformance


class TestResEnc(ArchitectureConformance):
    plugin = "resenc"
    task = "segmentation"
    config = {"init_features": 8, "max_features": 8, "blocks": [1]}  # noqa: RUF012
    size_2d = (48, 32)
    size_3d = (16, 16, 12)


@pytest.mark.slow
class TestPlainOfBothTasks(ArchitectureConformance):
    plugin = "resenc"
    config = {"init_features": 8, "max_features": 16, "encoder": "plain"}  # noqa: RUF012
