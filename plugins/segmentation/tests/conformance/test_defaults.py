"""The defaults of the task satisfy the contracts too."""

from lannunet_segmentation.conformance import SegmentationConformance, SegmentationLabelConformance

from lannunet_core.testing import LossConformance, SamplingConformance

SMALL = {"init_features": 4, "max_features": 8}


class TestLabels(SegmentationLabelConformance):
    plugin = "unet"
    config = SMALL


class TestSampling(SamplingConformance):
    plugin = "unet"
    task = "segmentation"
    config = SMALL


class TestCrossEntropyDice(LossConformance):
    plugin = "unet"
    task = "segmentation"
    config = SMALL
    loss_function = "ce_dice"


class TestClassMaps(SegmentationConformance):
    plugin = "unet"
    config = SMALL
