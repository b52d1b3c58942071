from lannunet_core.testing import SamplingConformance


class TestSparse(SamplingConformance):
    plugin = "sparse"


class TestClasses(SamplingConformance):
    plugin = "sparse"
    config = {"balance": "classes", "offset": "centre"}  # noqa: RUF012


class TestNormalSampling(SamplingConformance):
    plugin = "sparse-normal-sampling"
