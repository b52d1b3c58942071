"""The runs in which the conformance kit tests plugins of the task, and its test classes.

    from lannunet_segmentation.conformance import ExtraMapsConformance

    class TestMyMaps(ExtraMapsConformance):
        plugin = "my-maps"

See `lannunet_core.testing`.
"""

from lannunet_segmentation.conformance.bench import SegmentationBench
from lannunet_segmentation.conformance.suites import (
    ExtraMapsConformance,
    SegmentationConformance,
    SegmentationLabelConformance,
)

__all__ = [
    "ExtraMapsConformance",
    "SegmentationBench",
    "SegmentationConformance",
    "SegmentationLabelConformance",
]
