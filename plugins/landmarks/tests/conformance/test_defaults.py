"""The defaults of the task satisfy the contracts too."""

from lannunet_landmarks.conformance import DecodeConformance, LabelConformance, LandmarkLossConformance

from lannunet_core.testing import SamplingConformance

SMALL = {"init_features": 4, "max_features": 8}


class TestLabels(LabelConformance):
    plugin = "unet"
    config = SMALL


class TestSampling(SamplingConformance):
    plugin = "unet"
    task = "landmarks"
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


class TestCrossEntropy(LandmarkLossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "kl"


class TestMeanSquaredError(LandmarkLossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "mse"


class TestAdaptiveWing(LandmarkLossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "awl"


class TestHardestCrossEntropy(LandmarkLossConformance):
    plugin = "unet"
    config = SMALL
    loss_function = "bce_topk"
