"""Data sets by number and name, as nnU-Net's environment variables place them."""

import json

import pytest
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.splits import split

from lannunet_core.cli import main
from tests.fixtures.nnunet import raw, refused


@pytest.fixture
def places(tmp_path, monkeypatch):
    """`nnUNet_raw` with one data set, and the other two folders."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    raw(tmp_path / "raw/Dataset004_Blobs", count=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lannunet(*arguments):
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    return end.value.code or 0


@pytest.mark.parametrize("given", ["4", "004", "Dataset004_Blobs", "elsewhere/4"])
def test_a_number_or_name_is_a_data_set(places, given):
    assert read_dataset(places / given).path == places / "raw/Dataset004_Blobs"


def test_a_folder_that_exists_is_itself(places):
    own = raw(places / "4", count=2)
    assert read_dataset(own).path == own


def test_raw_folders_come_before_preprocessed_ones(places):
    raw(places / "preprocessed/Dataset005_Other", count=2)
    raw(places / "preprocessed/Dataset004_Blobs", count=2)
    assert len(read_dataset(places / "4").training) == 3
    assert read_dataset(places / "5").path.parent.name == "preprocessed"


def test_what_is_not_there_is_one_message(places, monkeypatch):
    refused("no data set 7", "nnUNet_raw", call=lambda: read_dataset(places / "7"))
    refused("Dataset004_Away", call=lambda: read_dataset(places / "Dataset004_Away"))
    raw(places / "raw/Dataset004_Twin")
    refused("Dataset004_Blobs and Dataset004_Twin", call=lambda: read_dataset(places / "4"))
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.delenv("nnUNet_preprocessed")
    refused("nnUNet_raw is not set", call=lambda: read_dataset(places / "4"))


def test_splits_of_a_raw_folder_lie_with_its_preprocessed_one(places):
    listed = [{"train": ["case_2"], "val": ["case_0", "case_1"]}]
    (places / "preprocessed/Dataset004_Blobs").mkdir()
    (places / "preprocessed/Dataset004_Blobs/splits_final.json").write_text(json.dumps(listed))
    training, validation = split(read_dataset(places / "4"), 0, 0)
    assert [case.id for case in training] == ["case_2"]
    assert [case.id for case in validation] == ["case_0", "case_1"]


def test_a_plan_of_a_number_runs(places):
    assert lannunet("plan", "4", "-o", "plan.yaml", "--no-gpu") == 0
    text = (places / "plan.yaml").read_text()
    assert f"{places}/raw/Dataset004_Blobs" in text and f"{places}/results/Dataset004_Blobs/lannunet" in text
    (places / "numbered.yaml").write_text(text.replace(f"{places}/raw/Dataset004_Blobs", "4"))
    assert lannunet("config", "check", "numbered.yaml") == 0
