"""Whether a plugin keeps its contracts.

An author's test file is a class or two:

    from lannunet_core.testing import ArchitectureConformance

    class TestMyModel(ArchitectureConformance):
        plugin = "my-model"
        config = {"features": 8}

`Subject` says which attributes there are. pytest runs the class as it is, `run(TestMyModel())` does so
without pytest, and `lannunet plugins check my-model` runs the same on an installed plugin.
"""

from lannunet_core.testing.subject import Broken, NotClaimed, Subject
from lannunet_core.testing.suites import (
    ArchitectureConformance,
    Conformance,
    DecodeConformance,
    ExtraMapsConformance,
    LabelConformance,
    LossConformance,
    Result,
    SamplingConformance,
    SegmentationConformance,
    run,
)

__all__ = [
    "ArchitectureConformance",
    "Broken",
    "Conformance",
    "DecodeConformance",
    "ExtraMapsConformance",
    "LabelConformance",
    "LossConformance",
    "NotClaimed",
    "Result",
    "SamplingConformance",
    "SegmentationConformance",
    "Subject",
    "run",
]
