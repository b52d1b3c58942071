"""The runs in which the conformance kit tests plugins of the task, and its test classes.

    from lannunet_landmarks.conformance import LabelConformance

    class TestMyLabels(LabelConformance):
        plugin = "my-model"

See `lannunet_core.testing`.
"""

from lannunet_landmarks.conformance.bench import LandmarkBench
from lannunet_landmarks.conformance.formats import FormatConformance
from lannunet_landmarks.conformance.suites import (
    DecodeConformance,
    LabelConformance,
    LandmarkLossConformance,
)

__all__ = [
    "DecodeConformance",
    "FormatConformance",
    "LabelConformance",
    "LandmarkBench",
    "LandmarkLossConformance",
]
