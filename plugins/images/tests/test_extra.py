"""Additional fields of samples and cases, as passed to batches."""

import pickle

import numpy as np
import pytest
import torch
from lannunet_images import ExtraFields

from lannunet_core import collate


def batch_of(*entries, known=()):
    fields = pickle.loads(pickle.dumps(ExtraFields.of([*known, *entries])))
    return collate([fields.item(entry) for entry in entries])


def test_numbers_are_a_tensor_and_missing_ones_are_nan():
    batch = batch_of({"age": 3, "pair": [1, 2.5]}, {"age": None}, {"sure": True, "pair": [4, 5]})
    assert {key: value.dtype for key, value in batch.items()} == dict.fromkeys(batch, torch.float32)
    np.testing.assert_array_equal(batch["age"], [3, np.nan, np.nan])
    np.testing.assert_array_equal(batch["pair"], [[1, 2.5], [np.nan] * 2, [4, 5]])
    np.testing.assert_array_equal(batch["sure"], [np.nan, np.nan, 1])


@pytest.mark.parametrize("values", [["x", "y"], [1, "y"], [[1, 2], [1]], [[[1], [2, 3]], None], [[], []]])
def test_other_fields_are_lists(values):
    batch = batch_of(*({"field": value} for value in values), {})
    assert batch["field"] == [*values, None]


def test_all_batches_have_the_same_fields():
    assert batch_of({}, known=[{"age": 3}])["age"].isnan().all()
    assert ExtraFields.of([{"age": 3}]).item({"other": 1}).keys() == {"age"}
    assert ExtraFields.of([]).item({"other": 1}) == {}
    assert batch_of({"nothing": None}) == {}
