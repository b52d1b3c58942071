"""Regions in a dataset.json, and classes that some cases lack."""

import json

import pytest
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.types import Region

from tests.fixtures.nnunet import raw, redeclare, refused

BRATS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": 3}
ORDER = [1, 2, 3]


def test_regions_are_unions_of_labels_and_say_what_they_are_written_as(tmp_path):
    dataset = read_dataset(raw(tmp_path, labels={**BRATS, "ignore": 4}, regions_class_order=[1, 2, 3]))
    assert dataset.regions == (
        Region("whole tumor", (1, 2, 3)),
        Region("tumor core", (2, 3)),
        Region("enhancing", (3,)),
    )
    assert dataset.outputs == ("whole tumor", "tumor core", "enhancing")
    assert dataset.class_names == ("background", "label 1", "label 2", "enhancing")
    assert dataset.ignore == 4 and dataset.compared == dataset.regions


def test_what_a_region_is_written_as_comes_first(tmp_path):
    """Labels of BraTS before 2023: necrosis 1, oedema 2, enhancing 3."""
    labels = {"background": [0], "whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
    dataset = read_dataset(raw(tmp_path, labels=labels, regions_class_order=[2, 1, 3]))
    assert [region.labels for region in dataset.regions] == [(2, 1, 3), (1, 3), (3,)]


def test_classes_are_compared_but_the_background(tmp_path):
    dataset = read_dataset(raw(tmp_path))
    assert dataset.compared == (Region("organ", (1,)), Region("tumour", (2,)))
    assert dataset.outputs == dataset.class_names


BAD = {
    "no order": ({"labels": BRATS}, '"regions_class_order" is None', "whole tumor"),
    "a short order": ({"labels": BRATS, "regions_class_order": [1, 2]}, "3 regions"),
    "an order of texts": ({"labels": BRATS, "regions_class_order": ["1", "2", "3"]}, "one label value"),
    "one value twice": ({"labels": BRATS, "regions_class_order": [3, 2, 3]}, "twice"),
    "a value of another region": (
        {"labels": BRATS, "regions_class_order": [2, 1, 3]},
        '"tumor core" as 1',
    ),
    "a gap": ({"labels": {"a": [1, 3], "b": [3]}, "regions_class_order": [1, 3]}, "[1, 3]", "gap"),
    "background within": ({"labels": {"a": [0, 1]}, "regions_class_order": [1]}, '"a" is [0, 1]'),
    "an empty one": ({"labels": {"a": [], "b": [1]}, "regions_class_order": [1, 1]}, '"a" is []'),
    "a text": ({"labels": {"a": [1], "b": "2"}, "regions_class_order": [1, 2]}, "\"b\" is '2'"),
    "an ignore within": ({"labels": {**BRATS, "ignore": 3}, "regions_class_order": ORDER}, '"ignore" is 3'),
    "an ignore in capitals": (
        {"labels": {**BRATS, "IGNORE": 4}, "regions_class_order": ORDER},
        'called "IGNORE"',
    ),
}


@pytest.mark.parametrize(("declared", "said"), [(d, s) for d, *s in BAD.values()], ids=BAD)
def test_wrong_regions_are_one_message(tmp_path, declared, said):
    folder = raw(tmp_path)
    redeclare(folder, **declared)
    refused("dataset.json", *said, call=lambda: read_dataset(folder))


def test_annotated_names_the_classes_of_a_case(tmp_path):
    dataset = read_dataset(raw(tmp_path, annotated={"case_1": ["tumour"]}))
    assert [case.annotated for case in dataset.training] == [None, ("tumour",)]


def test_annotated_names_regions_too(tmp_path):
    more = {"regions_class_order": ORDER, "annotated": {"case_0": ["tumor core"]}}
    assert read_dataset(raw(tmp_path, labels=BRATS, **more)).training[0].annotated == ("tumor core",)


@pytest.mark.parametrize(
    ("annotated", "said"),
    [
        (["case_1"], ("must map cases",)),
        ({"case_1": "organ"}, ("case_1", "at least one class")),
        ({"case_1": []}, ("case_1", "at least one class")),
        ({"case_1": ["tumor"]}, ("'tumor'", "Did you mean 'tumour'?")),
        ({"case_1": ["background"]}, ("'background'", "There are organ, tumour")),
        ({"case_7": ["organ"]}, ('"case_7"', "does not exist")),
        ({"case_1": [["organ"]]}, ("case_1", "not a class")),
    ],
)
def test_wrong_annotated_is_one_message(tmp_path, annotated, said):
    folder = raw(tmp_path, annotated=annotated)
    refused("dataset.json", *said, call=lambda: read_dataset(folder))
    assert json.loads((folder / "dataset.json").read_text())["annotated"] == annotated
