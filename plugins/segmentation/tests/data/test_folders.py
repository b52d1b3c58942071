"""nnU-Net folders in all layouts, and one message for each mistake."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import checked, is_dataset, read_dataset
from lannunet_segmentation.data.headers import check_case
from lannunet_segmentation.data.splits import split

from tests.fixtures.nnunet import (
    HIPPOCAMPUS,
    SIZE,
    image_values,
    label_values,
    preprocessed,
    raw,
    read_everything,
    redeclare,
    refused,
    write,
)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value_first", [False, True])
def test_a_raw_folder_of_either_version(tmp_path, version, value_first):
    labels = {"background": 0, "organ": 1, "tumour": 2}
    if value_first:
        labels = {str(value): name for name, value in labels.items()}
    folder = raw(tmp_path / "Task001_Some", channels=2, labels=labels, version=version)
    write(folder / "imagesTs/new_0000.nii.gz", image_values(SIZE[::-1]))
    write(folder / "imagesTs/new_0001.nii.gz", image_values(SIZE[::-1]))
    dataset = read_dataset(folder)
    assert dataset.layout == f"raw{version}"
    assert (dataset.name, dataset.path, dataset.dimensions) == ("Task001_Some", folder, 3)
    assert dataset.channel_names == ("CT", "T1")
    assert dataset.class_names == ("background", "organ", "tumour")
    assert dataset.ignore is None
    assert [case.id for case in dataset.training] == ["case_0", "case_1"]
    (new,) = dataset.testing
    assert (new.id, len(new.images), new.label) == ("new", 2, None)
    for n, case in enumerate(dataset.training):
        check_case(case, dataset)
        read = read_case(case, dataset)
        assert read.pixels.dtype == np.float32
        np.testing.assert_array_equal(read.pixels, [image_values(SIZE[::-1], n, c) for c in (0, 1)])
        assert read.label.dtype == np.int16
        np.testing.assert_array_equal(read.label, label_values(SIZE[::-1], n))
    assert read_case(case, dataset, with_label=False).label is None


def test_files_that_are_listed_by_path(tmp_path):
    folder = raw(tmp_path / "Dataset001_Some", count=1)
    elsewhere = {"images": ["../shared/a.nii.gz"], "label": "../shared/b.nii.gz"}
    write(tmp_path / "shared/a.nii.gz", image_values(SIZE[::-1], 5))
    write(tmp_path / "shared/b.nii.gz", label_values(SIZE[::-1], 5))
    redeclare(folder, dataset={"mine": elsewhere})
    dataset = read_dataset(folder)
    assert [case.id for case in dataset.training] == ["mine"]
    np.testing.assert_array_equal(read_everything(folder)[0].pixels[0], image_values(SIZE[::-1], 5))
    (tmp_path / "shared/b.nii.gz").unlink()
    refused("b.nii.gz", '"mine"', "does not exist", call=lambda: read_dataset(folder))


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the data is not here")
def test_the_hippocampus():
    dataset = read_dataset(HIPPOCAMPUS)
    assert (len(dataset.training), len(dataset.testing)) == (28, 12)
    assert dataset.class_names == ("background", "Anterior", "Posterior")
    assert all(case.label is not None for case in dataset.testing)
    for case in (*dataset.training, *dataset.testing):
        check_case(case, dataset)
    training, validation = split(dataset, 0, seed=0)
    assert (len(training), len(validation)) == (22, 6)
    read = read_case(dataset.testing[0], dataset)
    expected = sitk.ReadImage(str(dataset.testing[0].label))
    np.testing.assert_array_equal(read.label, sitk.GetArrayFromImage(expected))


def change_label(value, kind=np.int16):
    def change(folder):
        label = label_values(SIZE[::-1]).astype(kind)
        label[1, 2, 3] = value
        write(folder / "labelsTr/case_0.nii.gz", label)

    return change


def declare(**changes):
    return lambda folder: redeclare(folder, **changes)


def remove(path):
    return lambda folder: (folder / path).unlink()


def rewrite(path, shape=SIZE[::-1], **where):
    return lambda folder: write(folder / path, image_values(shape) % 3, **where)


CLASSES = {"background": 0, "organ": 1, "tumour": 2}
BAD = {
    "a label that no class has": (change_label(5), "case_0.nii.gz", "5", "0 background, 1 organ, 2 tumour"),
    "a label below −1": (change_label(-2), "case_0.nii.gz", "-2"),
    "labels that are not integers": (change_label(0.5, np.float32), "case_0.nii.gz", "0.5", "no integer"),
    "a label of another size": (
        rewrite("labelsTr/case_1.nii.gz", (3, 4, 6)),
        "labelsTr/case_1.nii.gz",
        "6×4×3",
        "5×4×3",
        "size",
    ),
    "a label of another spacing": (
        rewrite("labelsTr/case_1.nii.gz", spacing=(0.5, 0.75, 2.0)),
        "labelsTr/case_1.nii.gz",
        "0.5×0.75×2,",
        "0.5×0.75×2.5",
        "spacing",
    ),
    "a channel of another size": (rewrite("imagesTr/case_1_0001.nii.gz", (2, 4, 5)), "case_1_0001", "size"),
    "a channel of another spacing": (
        rewrite("imagesTr/case_1_0001.nii.gz", spacing=(1.0, 0.75, 2.5)),
        "case_1_0001",
        "spacing",
    ),
    "the last channel missing": (remove("imagesTr/case_1_0001.nii.gz"), "case_1_0000", "1 channel", "2"),
    "the first channel missing": (remove("imagesTr/case_1_0000.nii.gz"), "case_1_0000.nii.gz", "missing"),
    "a channel too many": (rewrite("imagesTr/case_1_0002.nii.gz"), "case_1_0002", "2 (0 to 1)"),
    "a file without its channel": (rewrite("imagesTr/case_7.nii.gz"), "case_7.nii.gz", "case_7"),
    "no channel_names": (declare(channel_names=None), "dataset.json", '"channel_names"', '"modality"'),
    "no labels": (declare(labels=None), "dataset.json", '"labels"'),
    "no file_ending": (declare(file_ending=None), "dataset.json", '"file_ending"'),
    "another file_ending": (declare(file_ending=".png"), "imagesTr", "_0000.png", ".nii.gz", "file_ending"),
    "channels that are not numbered": (
        declare(channel_names={"CT": 0}),
        "dataset.json",
        "number its channels",
    ),
    "no dataset.json": (remove("dataset.json"), "dataset.json", "missing"),
    "malformed JSON": (lambda folder: (folder / "dataset.json").write_text('{"a": 1,}'), "line 1, column"),
    "a label missing": (remove("labelsTr/case_1.nii.gz"), "labelsTr/case_1.nii.gz", "missing"),
    "a label without its image": (rewrite("labelsTr/case_8.nii.gz"), "case_8_0000.nii.gz", "does not exist"),
    "fewer cases than stated": (declare(numTraining=3), "dataset.json", "numTraining is 3", "2 training"),
    "an ignore that is not the highest": (
        declare(labels={"background": 0, "organ": 1, "ignore": 2, "tumour": 3}),
        "dataset.json",
        '"ignore" is 2',
        "highest",
    ),
    "an ignore with a gap": (declare(labels={**CLASSES, "ignore": 9}), '"ignore" is 9', "3"),
    "classes with a gap": (declare(labels={"background": 0, "organ": 2}), "dataset.json", "[0, 2]"),
    "no class": (declare(labels={"background": 0}), "dataset.json", "[0]"),
    "a file_ending without its dot": (
        declare(file_ending="nii.gz"),
        '"file_ending"',
        "'nii.gz'",
        'Write ".nii.gz"',
    ),
    "a file_ending that leads away": (declare(file_ending="/../../x.nii.gz"), '"file_ending"', "suffix"),
    "an ignore in capitals": (declare(labels={**CLASSES, "Ignore": 3}), '"Ignore"', '"ignore"'),
    "an ignore in capitals, value first": (
        declare(labels={"0": "background", "1": "organ", "2": "tumour", "3": "IGNORE"}),
        '"IGNORE"',
        '"ignore"',
    ),
    "another background": (declare(labels={"organ": 0, "background": 1, "tumour": 2}), '"background" is 1'),
    "a class that cannot be printed": (
        declare(labels={"background": 0, "a\x1b[31m": 1}),
        "cannot be printed",
    ),
    "a channel that cannot be printed": (declare(channel_names={"0": "a\nb", "1": "c"}), "cannot be printed"),
    "an only ignore": (declare(labels={"ignore": 0}), '"ignore" is 0'),
    "numbers beyond any use": (
        lambda folder: (folder / "dataset.json").write_text('{"a": ' + "9" * 5000 + "}"),
        "dataset.json",
        "cannot be read",
    ),
    "images that are no list": (
        declare(dataset={"x": {"images": "imagesTr/case_0_0000.nii.gz", "label": "labelsTr/case_0.nii.gz"}}),
        '"x"',
        "a list of paths",
    ),
    "a path that is none": (
        declare(dataset={"x": {"images": ["a" * 5000], "label": "labelsTr/case_0.nii.gz"}}),
        "does not exist",
    ),
    "regions without an order": (
        declare(labels={**CLASSES, "whole": [1, 2]}),
        "dataset.json",
        "regions_class_order",
    ),
    "a class without a number": (declare(labels={**CLASSES, "cyst": "three"}), '"cyst"', "'three'"),
    "a damaged image": (
        lambda folder: (folder / "imagesTr/case_0_0000.nii.gz").write_bytes(b"\x1f\x8bnothing"),
        "case_0_0000.nii.gz",
    ),
}


@pytest.mark.parametrize(("change", "said"), [(c, s) for c, *s in BAD.values()], ids=BAD)
def test_bad_input_is_one_message(tmp_path, change, said):
    folder = raw(tmp_path / "Dataset001_Bad", channels=2)
    read_everything(folder)
    change(folder)
    refused(*said, call=lambda: read_everything(folder))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("imagesTr/case_1_0000.nii.gz", ("imagesTr/case_1_0000.nii.gz", "lists this case")),
        ("labelsTr/case_1.nii.gz", ("labelsTr/case_1.nii.gz", "lists this case")),
    ],
)
def test_a_case_that_version_1_lists_is_there(tmp_path, part, said):
    folder = raw(tmp_path, version=1)
    (folder / part).unlink()
    refused(*said, "not exist", call=lambda: read_dataset(folder))


def test_version_1_needs_its_list(tmp_path):
    folder = raw(tmp_path, version=1)
    redeclare(folder, training=None)
    refused("dataset.json", '"training"', call=lambda: read_dataset(folder))


def test_a_test_case_that_version_1_lists_is_there(tmp_path):
    folder = raw(tmp_path, version=1)
    redeclare(folder, test=["./imagesTs/away.nii.gz"])
    refused("imagesTs/away_0000.nii.gz", call=lambda: read_dataset(folder))


def test_what_is_no_data_set(tmp_path):
    refused("nowhere", "not a folder", call=lambda: read_dataset(tmp_path / "nowhere"))
    refused(tmp_path, "not an nnU-Net folder", call=lambda: read_dataset(tmp_path))
    (tmp_path / "dataset.json").write_text("{}")
    refused("imagesTr", "missing", call=lambda: read_dataset(tmp_path))


def test_only_such_folders_are_taken_for_data_sets(tmp_path):
    made = [raw(tmp_path / "raw1", version=1), raw(tmp_path / "raw2"), preprocessed(tmp_path / "pre")]
    for folder in (*made, tmp_path / "pre"):
        assert is_dataset(folder)
    (made[0] / "dataset.json").unlink()
    assert is_dataset(made[0])  # damaged: the error names what is missing
    shutil.copytree(made[2], made[2].with_name("other_stage0"))
    assert is_dataset(tmp_path / "pre")  # of two plans
    pictures = tmp_path / "pictures"
    (pictures / "images").mkdir(parents=True)
    (pictures / "dataset.json").write_text("{}")
    (pictures / "maps_stage0").mkdir()
    np.savez(pictures / "maps_stage0" / "a.npz", np.ones(3))
    for path in (pictures, pictures / "dataset.json", tmp_path, tmp_path / "nowhere", Path("a" * 5000)):
        assert not is_dataset(path)


def test_further_fields_of_cases_are_kept_in_every_layout(tmp_path):
    first = raw(tmp_path / "Task001_Some", version=1, count=1)
    entry = {"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr/case_0.nii.gz", "age": 60}
    redeclare(first, training=[entry])
    second = raw(tmp_path / "Dataset002_Some", count=1)
    paths = {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    redeclare(second, dataset={"case_0": {**paths, "age": 60}})
    stage = preprocessed(tmp_path / "Task003_Some")
    redeclare(stage.parent, training=[entry])
    for folder in (first, second, stage):
        assert read_dataset(folder).training[0].extra == {"age": 60}
    assert read_dataset(stage).training[1].extra == {}


OUTSIDE = ("../../../victim", "/tmp/victim", "..", "", "a\\b", "C:x", "a\0b", "a\x1b[31m", "x" * 300)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_of_a_case_leads_out_of_its_folder(tmp_path, name):
    folder = raw(tmp_path / "Dataset001_Some", count=1)
    paths = {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    redeclare(folder, dataset={name: paths})
    refused("dataset.json", "cannot name a file", call=lambda: read_dataset(folder))


def test_nor_does_one_of_a_plugins_format(tmp_path):
    dataset = read_dataset(raw(tmp_path, count=1))
    (case,) = dataset.training
    for wrong in (replace(case, id="../victim"), replace(case, id="")):
        refused("cannot name a file", call=lambda wrong=wrong: checked(replace(dataset, training=(wrong,))))
    refused("two cases", call=lambda: checked(replace(dataset, testing=(case, case))))


@pytest.mark.parametrize("image", ["..", "a\x1b[31m.nii.gz", "x" * 300])
def test_no_name_that_version_1_lists_leads_out_of_its_folder(tmp_path, image):
    folder = raw(tmp_path, count=1, version=1)
    redeclare(folder, training=[{"image": image, "label": image}])
    refused("dataset.json", "cannot name a file", call=lambda: read_dataset(folder))


def test_what_version_1_lists_with_its_channel_or_twice(tmp_path):
    folder = raw(tmp_path, count=1, version=1)
    entry = {"image": "./imagesTr/case_0_0000.nii.gz", "label": "./labelsTr/case_0.nii.gz"}
    redeclare(folder, training=[entry])
    refused("omits the channel", '"./imagesTr/case_0.nii.gz"', call=lambda: read_dataset(folder))
    redeclare(folder, training=[{**entry, "image": "./imagesTr/case_0.nii.gz"}] * 2)
    refused('"case_0" twice', call=lambda: read_dataset(folder))


def test_a_folder_that_version_2_preprocessed_says_so(tmp_path):
    folder = tmp_path / "Dataset001_Some"
    below = folder / "nnUNetPlans_3d_fullres"
    below.mkdir(parents=True)
    for name in ("dataset.json", "dataset_fingerprint.json", "nnUNetPlans.json"):
        (folder / name).write_text("{}")
    for given, file in ((folder, "case.b2nd"), (below, "case.b2nd"), (below, "case.npz")):
        (below / file).write_bytes(b"1")
        refused(given, "version 2", "nnUNet_raw", call=lambda given=given: read_dataset(given))
        assert is_dataset(given)  # so that `plan` says so, too


def test_images_of_another_kind_in_the_folder_are_said_to_be_left_out(tmp_path, capsys):
    folder = raw(tmp_path)
    read_dataset(folder)
    assert not capsys.readouterr().err
    write(folder / "imagesTr/case_5_0000.nii", image_values(SIZE[::-1]))
    assert len(read_dataset(folder).training) == 2
    assert "left out, as their names do not end in .nii.gz: case_5_0000.nii" in capsys.readouterr().err


def test_the_name_of_a_data_set_is_one_short_line(tmp_path):
    folder = raw(tmp_path / "Dataset001_Some", name="a\x1b[31m\n" + "b" * 500)
    assert read_dataset(folder).name == "a [31m " + "b" * 93
