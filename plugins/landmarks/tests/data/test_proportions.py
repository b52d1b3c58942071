"""Images with non-square pixels and anisotropic voxels, as the network sees them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from lannunet_landmarks.data.proportions import input_pixel_shape
from lannunet_landmarks.predict.models import open_model

from lannunet_core import BEST_MODEL, load_checkpoint, save_checkpoint
from tests.fixtures.projects import draw_project

CT = (0.7, 0.7, 3.0)


@pytest.mark.parametrize(
    ("size", "spacing", "input_size", "shape"),
    [
        ((512, 512, 60), CT, (128, 128, 64), (1, 1, 1)),
        ((512, 512, 60), CT, (128, 128, 32), (1, 1, 1)),
        ((96, 96, 7), CT, (96, 96, 7), (1, 1, 4.28571)),
        ((96, 7, 96), (0.7, 3.0, 0.7), (64, 8, 64), (1, 4.28571, 1)),
        ((96, 96, 7), (1, 1, 1), (96, 96, 7), (1, 1, 1)),
        ((1000, 1000), (0.5, 0.3), (512, 512), (1, 1)),
    ],
)
def test_an_input_is_of_cubes_unless_they_would_leave_it_empty(size, spacing, input_size, shape):
    assert input_pixel_shape([size] * 3, [spacing] * 3, input_size) == shape


def rewritten(project, spacing):
    """The project's volumes with another spacing."""
    for path in (project.folder / "images").iterdir():
        image = sitk.ReadImage(str(path))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(path))
    return project


@pytest.fixture(scope="module")
def thick(tmp_path_factory):
    """Trained on volumes of thick slices, as earlier models were: proportions counted in pixels."""
    folder = tmp_path_factory.mktemp("thick") / "project"
    project = rewritten(draw_project(folder, sizes=((40, 40, 10),), input_size=(16, 16, 12)), CT)
    project.set(sampler={"letterbox_in": "pixels"}, solver={"max_epochs": 1})
    project.config["model"]["unet"] |= {"strides": None, "kernels": "strides"}
    assert project.train() == 0
    return project


def predicted(project, model, name):
    out = project.folder / name
    assert project.lannunet("predict", model, project.folder / "images", "-o", out) == 0
    return [(row["id"], row["x"], row["y"], row["z"]) for row in project.rows(out)]


def without_new_keys(model):
    """A model file of a version without these keys."""
    trained = load_checkpoint(model)
    config = json.loads(json.dumps(trained.config))
    del config["sampler"]["letterbox_in"]
    del config["model"]["unet"]["kernels"]
    save_checkpoint(model, replace(trained, config=config))


def test_a_model_of_before_predicts_as_before(thick):
    model = thick.out / BEST_MODEL
    before = predicted(thick, model, "before")
    without_new_keys(model)
    assert predicted(thick, model, "after") == before
    session = open_model(model)
    assert session.config.sampler.letterbox_in == "pixels"
    # If a YAML does not state how images are prepared, the model's settings are used.
    for key in ("letterbox_in",):
        del thick.config["sampler"][key]
    thick.set(
        trainer={"inference_only": True},
        model={"checkpoint": str(model)},
        output={"output_dir": "evaluated"},
        inference={"split": "validation"},
    )
    assert thick.train() == 0
    evaluated = [(row["id"], row["x"]) for row in thick.rows(thick.folder / "evaluated")]
    by_id = {(one.removesuffix(".mha"), x) for one, x, _, _ in before}
    assert {(one, x) for one, x in evaluated} <= by_id


def test_a_run_that_is_gone_on_with_keeps_its_proportions(tmp_path):
    """The recorded configuration means pixels if it lacks the key; a new YAML must state it."""
    project = rewritten(draw_project(tmp_path / "p", sizes=((40, 40, 10),), input_size=(16, 16, 12)), CT)
    project.set(sampler={"letterbox_in": "pixels"}, solver={"max_epochs": 1})
    assert project.train() == 0
    for model in (project.out / BEST_MODEL, project.out / "checkpoints" / "latest.pt"):
        trained = load_checkpoint(model)
        config = json.loads(json.dumps(trained.config))
        del config["sampler"]["letterbox_in"]
        save_checkpoint(model, replace(trained, config=config))
    resolved = yaml.safe_load((project.out / "config.yaml").read_text())
    del resolved["sampler"]["letterbox_in"]
    (project.out / "config.yaml").write_text(yaml.safe_dump(resolved))
    assert project.lannunet("train", project.out / "config.yaml", "--resume") == 0
    del project.config["sampler"]["letterbox_in"]
    assert project.train("--resume") == 2


def test_input_pixels_are_cubes_and_points_come_back(tmp_path):
    project = rewritten(draw_project(tmp_path / "p", sizes=((40, 40, 10),), input_size=(16, 16, 16)), CT)
    project.set(solver={"max_epochs": 1}, sampler={"data_aug": "None"})
    assert project.train() == 0
    session = open_model(project.out)
    assert session.run.spacing == pytest.approx((30 / 16,) * 3)
    config = yaml.safe_load((project.out / "config.yaml").read_text())
    assert config["sampler"]["letterbox_in"] == "mm"


def test_a_thin_stack_keeps_its_own_pixels(tmp_path, capsys):
    project = rewritten(draw_project(tmp_path / "p", sizes=((32, 32, 7),), input_size=(32, 32, 7)), CT)
    project.set(solver={"max_epochs": 1})
    assert project.train() == 0
    assert open_model(project.out).run.spacing == pytest.approx(CT, rel=1e-4)
    np.testing.assert_array_equal(open_model(project.out).run.input_size, (32, 32, 7))
    assert "0.7×0.7×3 mm" in capsys.readouterr().out
