"""The preprocessing settings in a model file."""

import json
from dataclasses import replace

import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.settings import as_trained, recorded
from lannunet_segmentation.types import NnunetChannel, NnunetRecipe, Settings

from lannunet_core import BEST_MODEL, load_checkpoint, save_checkpoint
from tests.fixtures.nnunet import blocks, refused

CT = (0.0, 100.0, 50.0, 20.0)
RECIPE = NnunetRecipe("plan.pkl", (None, 1.0, 2.0), (2, 0, 1), (NnunetChannel("ct", True, CT),))
KNOWN = Settings((2.0, 1.0, 3.0), ("ct",), (CT,), nnunet=RECIPE)


def test_it_is_read_back(tmp_path):
    dataset = blocks(tmp_path / "Dataset001_blocks", 1)
    kept = json.loads(json.dumps(recorded(KNOWN)))
    own = Settings(None, ("zscore",), (None,))
    assert as_trained(own, kept, dataset, None, None, tmp_path) == KNOWN


WRONG = {
    "something else": [1, 2],
    "nothing": {},
    "another number of channels": recorded(replace(KNOWN, normalisation=("ct", "ct"))),
    "no clip for CT": recorded(replace(KNOWN, clip=(None,))),
    "no size of voxels": recorded(replace(KNOWN, spacing=(0.0, 1.0, 1.0))),
    "no number": {**recorded(KNOWN), "spacing": [float("nan"), 1, 1]},
    "an axis twice": recorded(replace(KNOWN, nnunet=replace(RECIPE, transposed=(1, 1, 0)))),
    "another normalisation": {**recorded(KNOWN), "nnunet": {"channels": [{"scheme": "exec"}]}},
}


@pytest.mark.parametrize("found", WRONG.values(), ids=WRONG)
def test_a_file_that_says_something_else_is_refused(tmp_path, found):
    dataset = blocks(tmp_path / "Dataset001_blocks", 1)
    own = Settings(None, ("zscore",), (None,))
    refused("best", "channels", call=lambda: as_trained(own, found, dataset, None, None, tmp_path / "best"))


def test_a_model_that_does_not_say_how_nnunet_prepared_its_images(segmentation, capsys):
    """Models of earlier versions: for raw images, the configuration has the settings."""
    segmentation.set(solver={"max_epochs": 1})
    assert segmentation.train() == 0
    model = segmentation.out / BEST_MODEL
    trained = load_checkpoint(model)
    assert trained.learned["preparation"]["normalisation"] == ["zscore"]
    predict = ("predict", model, segmentation.raw / "imagesTs", "-o")
    save_checkpoint(model, replace(trained, learned={}))
    assert segmentation.lannunet(*predict, segmentation.folder / "new") == 0
    stage = segmentation.folder / "nnUNetData_plans_v2.1_stage0"
    stage.mkdir()
    for suffix in (".npz", ".pkl"):
        (stage / f"case{suffix}").touch()
    config = {**trained.config, "dataset": {**trained.config["dataset"], "root": str(stage)}}
    config["output"] = {**config["output"], "provenance": "full"}  # earlier models had paths in them
    save_checkpoint(model, replace(trained, learned={}, config=config))
    assert segmentation.lannunet(*predict, segmentation.folder / "newer") == 2
    assert "Train it again" in capsys.readouterr().err


def test_a_model_of_before_is_shown_images_as_it_was_trained(segmentation):
    """Linear resampling, whether or not its file says how its images were prepared."""
    segmentation.set(
        solver={"max_epochs": 1}, preprocess={"spacing": [1.3, 0.8, 0.9], "interpolation": "linear"}
    )
    assert segmentation.train() == 0
    model = segmentation.out / BEST_MODEL
    trained = load_checkpoint(model)
    assert trained.learned["preparation"]["interpolation"] == "linear"

    def labels(name):
        out = segmentation.folder / name
        assert segmentation.lannunet("predict", model, segmentation.raw / "imagesTs", "-o", out) == 0
        return [sitk.GetArrayFromImage(sitk.ReadImage(str(path))).tolist() for path in out.glob("*.nii.gz")]

    now = labels("now")
    assert now
    config = json.loads(json.dumps(trained.config))
    del config["preprocess"]["interpolation"]
    said = {key: v for key, v in trained.learned["preparation"].items() if key != "interpolation"}
    for name, learned in (("said", {"preparation": said}), ("not", {})):
        save_checkpoint(model, replace(trained, config=config, learned=learned))
        assert labels(name) == now
