from collections.abc import Mapping
from typing import Any

from lannunet_landmarks.conformance import DecodeConformance, LabelConformance, LandmarkLossConformance

from lannunet_core.testing import ArchitectureConformance, Subject


class PHDNet(Subject):
    plugin = "phdnet"
    supports_deep_supervision = False  # its patches have one size
    supports_learned_sigma = None  # it is the task that leaves no gradient where a sigma is under a patch

    def perfect_outputs(self, labels: Mapping[str, Any], outputs: Any) -> Any:
        return {name: labels[name] for name in outputs}


class TestNetwork(PHDNet, ArchitectureConformance):
    pass


class TestLabels(PHDNet, LabelConformance):
    pass


class TestLoss(PHDNet, LandmarkLossConformance):
    pass


class TestDecoding(PHDNet, DecodeConformance):
    pass


class TestHeatmapAlone(PHDNet, ArchitectureConformance):
    config = {"branch_scheme": "heatmap"}  # noqa: RUF012


class TestDisplacementAlone(PHDNet, ArchitectureConformance):
    config = {"branch_scheme": "displacement", "variant": "residual"}  # noqa: RUF012
