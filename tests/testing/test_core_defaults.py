"""What the core answers where a plugin does not keeps the contracts too."""

from lannunet_core.testing import (
    DecodeConformance,
    LabelConformance,
    LossConformance,
    SamplingConformance,
    SegmentationConformance,
)

SMALL = {"init_features": 4, "max_features": 8}


class TestLabels(LabelConformance):
    plugin = "unet"
    config = SMALL


class TestSampling(SamplingConformance):
    plugin = "unet"
    config = SMALL


class TestDecoder(DecodeConformance):
    plugin = "unet"
    config = SMALL


class TestQuadratic(TestDecoder):
    decoder = "quadratic"


class TestDark(TestDecoder):
    decoder = "dark"


class TestSoftArgmax(TestDecoder):
    decoder = "soft_argmax"


class TestGaussianFit(TestDecoder):
    decoder = "gaussian_fit"


class TestCrossEntropy(LossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "kl"


class TestMeanSquaredError(LossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "mse"


class TestAdaptiveWing(LossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "awl"


class TestHardestCrossEntropy(LossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "bce_topk"


class TestCrossEntropyDice(LossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "ce_dice"


class TestClassMaps(SegmentationConformance):
    plugin = "unet"
    config = SMALL
