"""The conformance kit accepts every plugin of this folder, and each has fewer than 40 lines."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


def sources(name):
    """A test module of this folder, for the plugins in it."""
    spec = spec_from_file_location(f"of_{name}", Path(__file__).with_name(f"test_{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


landmarks, segmentation = sources("landmarks"), sources("segmentation")

PLUGINS = {
    "field": (landmarks.WEIGHED, {}),
    "field in the loss": (landmarks.IN_THE_LOSS, {}),
    "inputs": (landmarks.AGED, {"stranger_network.py": landmarks.NETWORK}),
    "coarse maps": (landmarks.QUARTER, {}),
    "coordinates": (landmarks.COORDINATES, {"stranger_network.py": landmarks.REGRESSOR}),
    "teacher": (landmarks.TEACHER, {"stranger_network.py": landmarks.WITH_TEACHER}),
    "GAN": (landmarks.GAN, {"stranger_network.py": landmarks.ADVERSARIAL}),
    "LBFGS": (landmarks.LBFGS, {}),
    "plateau": (landmarks.PLATEAU, {}),
    "group": (landmarks.GROUP, {}),
    "figure": (landmarks.FIGURE, {}),
    "suggestions": (landmarks.SUGGESTS, {}),
    "native": (landmarks.NATIVE, {"stranger_sampling.py": landmarks.UPPER}),
    "format": (landmarks.FORMAT, {"stranger_format.py": landmarks.TABLE}),
    "normalisation": (landmarks.WINDOW, {"stranger_window.py": landmarks.WINDOWED}),
    "intensity": (landmarks.INTENSITY, {"stranger_scheme.py": landmarks.DARKER}),
    "package": (landmarks.PACKAGE, {"stranger_package.py": landmarks.APPLY}),
    "order": (landmarks.ORDER, {}),
    "post-processing": (landmarks.POST, {}),
    "report": (landmarks.REPORT, {}),
    "pretrained": (landmarks.PRETRAINED, {}),
    "debug": (landmarks.DEBUG, {}),
    "observer": (landmarks.OBSERVER, {}),
    "one file": (landmarks.ONE_FILE.replace("Idea", "Stranger"), {}),
    "segmentation: field": (segmentation.WEIGHED, {}),
    "segmentation: inputs": (segmentation.AGED, {"stranger_network.py": segmentation.NETWORK}),
    "segmentation: order, sampling": (segmentation.DRAWN, {"stranger_scheme.py": segmentation.SCHEME}),
    "segmentation: post-processing": (segmentation.POST, {}),
    "segmentation: normalisation": (segmentation.WINDOW, {"stranger_window.py": segmentation.WINDOWED}),
    "segmentation: format": (segmentation.FORMAT, {"stranger_format.py": segmentation.LIST}),
    "segmentation: package": (segmentation.PACKAGE, {"stranger_package.py": segmentation.APPLY}),
}


LONG = {
    "field in the loss",
    "GAN",
    "coordinates",
    "teacher",
    "segmentation: field",
    "segmentation: inputs",
    "one file",
}
"""They run with the slow tests; others here check the same."""


@pytest.mark.parametrize(
    "need", [pytest.param(need, marks=[pytest.mark.slow] * (need in LONG)) for need in PLUGINS]
)
def test_the_kit_accepts(need, distribution, project, capsys):
    source, files = PLUGINS[need]
    text = f"from lannunet_core import Plugin, hookimpl\n\n{source}"
    distribution(
        "stranger",
        {"stranger": "stranger:Stranger"},
        {"stranger.py": text, **files},
        requires=["lannunet-core>=0.1,<0.2"],
    )
    lines = [line for part in (text, *files.values()) for line in part.splitlines() if line]
    assert len(lines) < 40
    assert project.lannunet("plugins", "check", "stranger") == 0, capsys.readouterr().out
