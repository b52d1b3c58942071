"""The data and the commands of a page lead to a model and predictions.

The data and the budget of a run are small; the commands are those of the page, in its order.
"""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from lannunet_core import cli
from tests.fixtures.projects import draw_project, draw_segmentation_project

ROOT = Path(__file__).parents[1]
BY_NNUNET = ROOT / "../shared/data/nnunet_v1"
SMALL = {
    "solver": {"max_epochs": 1, "mini_batch_size": 1, "data_loader_batch_size_train": 2},
    "trainer": {"validate_every": 1},
    "model": {"unet": {"init_features": 4, "max_features": 8}},
}


def commands(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for language, block in blocks if not language for line in block.splitlines()]


def shrink(path: Path) -> None:
    """The YAML of a plan, for a run of seconds."""
    config = yaml.safe_load(path.read_text())
    config["solver"].pop("budget_minutes", None)
    for section, keys in SMALL.items():
        config.setdefault(section, {}).update(keys)
    config["model"]["unet"].pop("strides", None)
    if config.get("task") != "segmentation":
        config["sampler"]["input_size"] = [32] * len(config["sampler"]["input_size"])
    path.write_text(yaml.safe_dump(config))


def follow(page: str, capsys) -> None:
    for line in commands(page):
        words = line.split()
        assert words[0] == "lannunet"
        with pytest.raises(SystemExit) as end:
            cli.main(words[1:])
        said = capsys.readouterr()
        assert not end.value.code, f"{line}\n{said.err}"
        if words[1] == "plan":
            shrink(Path(words[words.index("-o") + 1]))


def rows(table: str) -> list[dict[str, str]]:
    with Path(table).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_lannunet(here, capsys):
    project = draw_project(here / "drawn")
    annotations = json.dumps(project.annotations).replace("images/", "")  # DATASET.ROOT is the folder
    Path("annotations.json").write_text(annotations)
    (project.folder / "images").rename("images")
    text = re.search(
        r"```yaml\n# old\.yaml\n(.*?)```", (ROOT / "docs/from_lannunet.md").read_text(), re.DOTALL
    )
    old = yaml.safe_load(text[1])
    old["SOLVER"] = {"MAX_EPOCHS": 1, "MINI_BATCH_SIZE": 1, "DATA_LOADER_BATCH_SIZE_TRAIN": 2}
    old["SAMPLER"] |= {"INPUT_SIZE": [32, 32], "DATA_AUG_PACKAGE": "albumentations"}
    old["MODEL"]["UNET"] = {"INIT_FEATURES": 4}
    Path("old.yaml").write_text(yaml.safe_dump(old))
    Path("new_images").mkdir()
    shutil.copy(next(Path("images").iterdir()), "new_images")
    follow("from_lannunet.md", capsys)
    assert len(rows("predictions/predictions.csv")) == 2  # landmarks
    assert json.loads(Path("runs/wings/summary.json").read_text())["overall"]


@pytest.mark.slow
def test_from_a_diag_folder_and_a_raw_one(here, capsys):
    if not BY_NNUNET.is_dir():
        pytest.skip("needs ../shared/data/nnunet_v1")
    shutil.copytree(BY_NNUNET / "pre" / "Task500_Blobs", "nnUNet_preprocessed/Task500_Blobs")
    raw = BY_NNUNET / "raw" / "nnUNet_raw_data" / "Task500_Blobs"
    shutil.copytree(raw / "imagesTr", "nnUNet_raw_data/Task500_Blobs/imagesTs")
    Path("nnUNet_raw").mkdir()
    draw_segmentation_project(here / "drawn").raw.rename("nnUNet_raw/Dataset004_Hippocampus")
    follow("from_nnunet.md", capsys)
    predicted = sorted(Path("predictions").glob("*.nii.gz"))
    images = Path("nnUNet_raw_data/Task500_Blobs/imagesTs")
    assert len(predicted) == len(list(images.iterdir()))
    image = sitk.ReadImage(str(images / f"{predicted[0].name[:-7]}_0000.nii.gz"))
    assert sitk.ReadImage(str(predicted[0])).GetSize() == image.GetSize()
    assert list(Path("hippocampus").glob("*.nii.gz"))


@pytest.mark.slow
def test_partial_annotations(here, capsys):
    draw_segmentation_project(here / "drawn").raw.rename("Dataset104_Slices")
    for path in Path("Dataset104_Slices/labelsTr").iterdir():
        label = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(label).astype(np.int16)
        values[1::2] = -1
        changed = sitk.GetImageFromArray(values)
        changed.CopyInformation(label)
        sitk.WriteImage(changed, str(path))
    shutil.copytree("Dataset104_Slices/imagesTs", "new_volumes")
    follow("tutorial_partial.md", capsys)
    assert list(Path("predictions").glob("*.nii.gz"))
    assert Path("runs/weighted/summary.json").exists()
