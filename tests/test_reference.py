"""The site's reference has an example of every public name, and these examples run."""

import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lannunet_landmarks import gaussian_heatmaps
from lannunet_segmentation import Geometry, SegmentedCase

from lannunet_core import State
from lannunet_core.plugins import tasks

ROOT = Path(__file__).parents[1]


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def reference():
    return module(ROOT / ".ci" / "reference.py")


@pytest.fixture(scope="module")
def examples():
    return module(ROOT / "docs" / "api_examples.py")


def test_every_public_name_has_an_example(reference):
    public = {(name, one) for name in reference.MODULES for one in importlib.import_module(name).__all__}
    without = sorted(f"{name}.{one}" for name, one in public if reference.example_of(name, one) is None)
    assert without == [], "use these in a test, or in docs/api_examples.py"


def test_the_reference_has_every_command_and_error(reference, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # as for the pages, but only in this test
    pages = reference.pages()
    for command in ("train", "plan", "plugins list", "bundle create", "export"):
        assert f"## lannunet {command}\n" in pages["reference/commands.md"]
    assert "--resume" in pages["reference/commands.md"]
    assert "    - `lannunet_core.UserError`" in pages["reference/errors.md"]
    assert "## TinyNet" not in pages["reference/lannunet_core.md"]
    assert "## Plugin\n" in pages["reference/lannunet_core.md"]


def test_every_example_is_called_here(examples):
    tested = Path(__file__).read_text()
    own = [name for name, of in vars(examples).items() if getattr(of, "__module__", "") == "api_examples"]
    assert len(own) > 10
    assert [name for name in own if f"examples.{name}" not in tested] == []


def test_a_run_from_python(examples, project):
    project.write()
    found = examples.train_and_predict(project.yaml, project.folder / "images" / "testing6.png")
    assert found.points.shape == (2, 2)
    predictor = tasks.find("landmarks").load(project.out)
    steps = examples.predict_with_progress(predictor, [np.zeros((40, 30), np.float32)])
    assert steps[-1].endswith("1 of 1")


def test_records(examples):
    assert examples.a_scheme().draw(np.random.default_rng(0), (8, 8)).spatial.elastic is None
    assert examples.sections_of_a_yaml() == {
        "solver": "auto",
        "trainer": ["observer"],
        "model": "unet",
        "output": Path("runs/first"),
    }
    work = SimpleNamespace(training_samples=lambda session: SimpleNamespace(entries=[1, 2]))
    assert examples.count_samples(work, None) == 2
    assert examples.OwnHooks.my_hook.__doc__


def test_the_conformance_kit(examples):
    assert examples.is_a_goal_set("landmarks")
    assert examples.maps_of_a_small_run("unet", "landmarks").ndim == 4
    assert examples.failed_checks("sparse") == []


def test_losses_and_decoders(examples):
    points, states = torch.tensor([[[5.0, 4.0]]]), torch.tensor([[State.VISIBLE]])
    (heatmaps,) = gaussian_heatmaps(points, states, torch.tensor([[2.0]]), (12, 10), [(12, 10)], 1.0)
    terms = examples.terms([heatmaps.clone()], {"state": states, "heatmaps": [heatmaps]})
    assert {name for name, value in terms.items() if value.ndim == 0} == {"awl", "bce_topk"}
    for found in examples.points(heatmaps):
        assert found.flatten().tolist() == pytest.approx([5, 4], abs=0.1)


def test_a_class_is_removed_from_a_prediction(examples, tmp_path):
    path = tmp_path / "a.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.array([[0, 1, 2], [1, 2, 2]], np.uint8)), str(path))
    geometry = Geometry((3, 2), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), 2)
    examples.without_class_1(SegmentedCase("a", (path,), path, None, geometry=geometry))
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).tolist() == [[0, 0, 2], [0, 2, 2]]


def test_images(examples, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(tmp_path / "a.png"))
    assert examples.read_with_spacing(tmp_path / "a.png") == (0.5, 0.5)
    channel = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    counted = examples.standardised(channel)[channel > 0]
    assert counted.mean().item() == pytest.approx(0, abs=1e-6)
