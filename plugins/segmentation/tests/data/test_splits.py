"""Folds that are drawn, and those that a file lists."""

import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.splits import split

from tests.fixtures.nnunet import raw, refused


def test_without_a_file_five_folds_share_the_cases(tmp_path):
    dataset = read_dataset(raw(tmp_path, count=12))
    folds = [split(dataset, fold, seed=3) for fold in range(5)]
    validated = [case.id for _, validation in folds for case in validation]
    assert sorted(validated) == sorted(case.id for case in dataset.training)
    for training, validation in folds:
        assert len(validation) in (2, 3)
        assert sorted([*training, *validation], key=lambda case: case.id) == sorted(
            dataset.training, key=lambda case: case.id
        )
    assert folds == [split(dataset, fold, seed=3) for fold in range(5)]
    assert folds != [split(dataset, fold, seed=4) for fold in range(5)]
    assert split(dataset, "all", seed=3) == (dataset.training, ())
    refused("trainer.fold: 5", "0 to 4", call=lambda: split(dataset, 5, seed=3))


def test_one_case_cannot_be_split(tmp_path):
    dataset = read_dataset(raw(tmp_path, count=1))
    refused("fold: all", call=lambda: split(dataset, 0, seed=0))


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
def test_a_file_of_splits_decides(tmp_path, protocol):
    """Splits as JSON (protocol None), and as pickled by version 1: arrays of names."""
    folder = raw(tmp_path, count=3)
    names = [["case_2", "case_0"], ["case_1"]]
    if protocol is None:
        splits = [{"train": names[0], "val": names[1]}]
        (folder / "splits_final.json").write_text(json.dumps(splits))
    else:
        splits = [OrderedDict(train=np.array(names[0]), val=np.array(names[1]))]
        (folder / "splits_final.pkl").write_bytes(pickle.dumps(splits, protocol))
    dataset = read_dataset(folder)
    training, validation = split(dataset, 0, seed=0)
    assert [[case.id for case in part] for part in (training, validation)] == names
    refused("trainer.fold: 1", "splits_final", call=lambda: split(dataset, 1, seed=0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"train": ["case_0"], "val": ["case_9"]}], ('"case_9"', "does not have")),
        ([{"train": ["case_0"], "val": ["case_0"]}], ('"case_0"', '"val"')),
        ([{"train": [], "val": ["case_0"]}], ("no case",)),
        ([{"train": ["case_0"]}], ('"val"',)),
        ({"train": []}, ("list",)),
    ],
)
def test_splits_that_cannot_be(tmp_path, content, said):
    folder = raw(tmp_path)
    (folder / "splits_final.json").write_text(json.dumps(content))
    dataset = read_dataset(folder)
    refused("splits_final.json", *said, call=lambda: split(dataset, 0, seed=0))
