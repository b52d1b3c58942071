"""What plugins of the task are tried in by the conformance kit, and its suites.

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
