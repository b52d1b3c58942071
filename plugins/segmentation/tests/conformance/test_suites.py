"""The kit in runs of segmentation: files that a plugin reads, and the plugin of the documentation."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from lannunet_segmentation.conformance import ExtraMapsConformance

from lannunet_core.testing import run, run_one

TRUST = """
from lannunet_core import ExtraMap, Plugin, UserError, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def extra_maps(self, dataset):
        files = {case.id: dataset.path / f"{case.id}_trust.npy" for case in dataset.training}
        if missing := [file for file in files.values() if not file.exists()]:
            raise UserError(f"{missing[0]} is missing.")
        return [ExtraMap("trust", "weight", "linear", 0.0, files)]
"""


def test_files_of_the_author_lie_in_the_folder(install_model, failures):
    install_model(TRUST)

    class TestModel(ExtraMapsConformance):
        plugin = "model"

    assert run_one(TestModel(), "test_maps_fit_every_case").outcome == "not claimed"

    class TestWithFiles(TestModel):
        def add_files(self, dataset):
            for path in (dataset / "imagesTr").iterdir():
                image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
                np.save(dataset / path.name.replace("_0000.nii.gz", "_trust.npy"), np.ones_like(image))

    assert failures(TestWithFiles()) == []


def test_the_segmentation_plugin_of_the_documentation(install_model):
    text = (Path(__file__).parents[4] / "docs" / "plugins.md").read_text()
    (source,) = (
        code for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "Borders" in code
    )
    install_model("from lannunet_core import Plugin, hookimpl\n" + source.replace("CarefulBorders", "Model"))
    results = list(run(type("TestModel", (ExtraMapsConformance,), {"plugin": "model"})()))
    assert {result.outcome for result in results} == {"passed"}
