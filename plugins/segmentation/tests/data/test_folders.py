"""nnU-Net folders of all kinds, written here by SimpleITK, Pillow, NumPy and pickle, and read by us."""

import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from lannunet_segmentation.data import folders
from lannunet_segmentation.types import IGNORE, Geometry
from PIL import Image
from scipy.spatial.transform import Rotation

from lannunet_core.errors import UserError

REPOSITORY = Path(__file__).parents[4]
HIPPOCAMPUS = REPOSITORY / "../shared/data/hippocampus/Dataset004_Hippocampus"
SIZE = (5, 4, 3)
SPACING = (0.5, 0.75, 2.5)
ORIGIN = (10.0, -20.0, 30.0)
OBLIQUE = tuple(Rotation.from_euler("zyx", [30, -10, 170], degrees=True).as_matrix().ravel())


def write(path, array, spacing=SPACING, origin=ORIGIN, direction=OBLIQUE):
    """An array ([z,] y, x) as an image file of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if path.suffix not in (".png", ".bmp", ".tif"):
        image.SetSpacing(spacing[: array.ndim])
        image.SetOrigin(origin[: array.ndim])
        if array.ndim == 3:
            image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return image


def raw(folder, count=2, channels=1, ending=".nii.gz", shape=SIZE[::-1], labels=None, version=2, **more):
    """A raw folder with two classes; each voxel of an image is another number."""
    labels = {"background": 0, "organ": 1, "tumour": 2} if labels is None else labels
    names = {str(channel): name for channel, name in enumerate(("CT", "T1", "T2")[:channels])}
    if version == 2:
        declared = {"channel_names": names, "labels": labels, "numTraining": count, "file_ending": ending}
    else:
        listed = [
            {"image": f"./imagesTr/case_{n}{ending}", "label": f"./labelsTr/case_{n}{ending}"}
            for n in range(count)
        ]
        declared = {"modality": names, "labels": labels, "training": listed, "test": []}
    for n in range(count):
        for channel in range(channels):
            write(folder / f"imagesTr/case_{n}_{channel:04d}{ending}", image_values(shape, n, channel))
        write(folder / f"labelsTr/case_{n}{ending}", label_values(shape, n))
    (folder / "dataset.json").write_text(json.dumps({**declared, **more}))
    return folder


def image_values(shape, case=0, channel=0):
    values = np.arange(np.prod(shape)).reshape(shape) + 7 * case + 61 * channel
    return values.astype(np.uint8)


def label_values(shape, case=0):
    return np.random.default_rng(case).integers(0, 3, shape).astype(np.uint8)


def redeclare(folder, **changes):
    path = folder / "dataset.json"
    declared = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in declared.items() if value is not None}))


def refused(*said, call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in said:
        assert str(part) in str(caught.value)


def read_everything(folder):
    """What a run does with a folder, up to its voxels."""
    dataset = folders.read_dataset(folder)
    for case in dataset.training:
        folders.check_case(case, dataset)
    return [folders.read_case(case, dataset) for case in dataset.training]


# Raw folders


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value_first", [False, True])
def test_a_raw_folder_of_either_version(tmp_path, version, value_first):
    labels = {"background": 0, "organ": 1, "tumour": 2}
    if value_first:
        labels = {str(value): name for name, value in labels.items()}
    folder = raw(tmp_path / "Task001_Some", channels=2, labels=labels, version=version)
    write(folder / "imagesTs/new_0000.nii.gz", image_values(SIZE[::-1]))
    write(folder / "imagesTs/new_0001.nii.gz", image_values(SIZE[::-1]))
    dataset = folders.read_dataset(folder)
    assert dataset.layout == f"raw{version}"
    assert (dataset.name, dataset.path, dataset.dimensions) == ("Task001_Some", folder, 3)
    assert dataset.channel_names == ("CT", "T1")
    assert dataset.class_names == ("background", "organ", "tumour")
    assert dataset.ignore is None
    assert [case.id for case in dataset.training] == ["case_0", "case_1"]
    (new,) = dataset.testing
    assert (new.id, len(new.images), new.label) == ("new", 2, None)
    for n, case in enumerate(dataset.training):
        folders.check_case(case, dataset)
        read = folders.read_case(case, dataset)
        assert read.pixels.dtype == np.float32
        np.testing.assert_array_equal(read.pixels, [image_values(SIZE[::-1], n, c) for c in (0, 1)])
        assert read.label.dtype == np.int16
        np.testing.assert_array_equal(read.label, label_values(SIZE[::-1], n))
    assert folders.read_case(case, dataset, with_label=False).label is None


def test_where_the_voxels_lie_is_read(tmp_path):
    dataset = folders.read_dataset(raw(tmp_path))
    geometry = folders.read_case(dataset.training[0], dataset).geometry
    assert (geometry.size, geometry.axes) == (SIZE, 3)
    np.testing.assert_allclose(geometry.spacing, SPACING, rtol=1e-6)
    np.testing.assert_allclose(geometry.origin, ORIGIN, rtol=1e-6)
    np.testing.assert_allclose(geometry.direction, OBLIQUE, atol=1e-6)
    assert folders.case_geometry(dataset.training[0], dataset) == geometry


@pytest.mark.parametrize(
    ("ending", "shape"),
    [
        (".nii", (3, 4, 5)),
        (".mha", (3, 4, 5)),
        (".nrrd", (3, 4, 5)),
        (".nii.gz", (1, 4, 5)),
        (".nii.gz", (4, 5)),
        (".png", (4, 5)),
        (".bmp", (4, 5)),
        (".tif", (4, 5)),
    ],
)
def test_file_endings_and_dimensions(tmp_path, ending, shape):
    folder = raw(tmp_path, ending=ending, shape=shape)
    dataset = folders.read_dataset(folder)
    flat = shape[-2:] if len(shape) == 2 or shape[0] == 1 else shape
    assert dataset.dimensions == len(flat)
    assert dataset.file_ending == ending
    for n, read in enumerate(read_everything(folder)):
        np.testing.assert_array_equal(read.pixels, image_values(flat, n)[None])
        np.testing.assert_array_equal(read.label, label_values(flat, n))
        assert (read.geometry.size, read.geometry.axes) == (flat[::-1], len(shape))


def test_one_case_of_a_single_slice_among_volumes_is_a_volume(tmp_path):
    folder = raw(tmp_path)
    write(folder / "imagesTr/case_0_0000.nii.gz", image_values((1, 4, 5)))
    write(folder / "labelsTr/case_0.nii.gz", label_values((1, 4, 5)))
    assert folders.read_dataset(folder).dimensions == 3
    assert [read.pixels.shape for read in read_everything(folder)] == [(1, 1, 4, 5), (1, 3, 4, 5)]


def test_colours_are_channels_and_a_palette_only_shows_labels(tmp_path):
    folder = raw(tmp_path, count=1, ending=".png", shape=(4, 5))
    redeclare(folder, channel_names={"0": "R", "1": "G", "2": "B"})
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    Image.fromarray(colours).save(folder / "imagesTr/case_0_0000.png")
    palette = Image.fromarray(label_values((4, 5)), mode=None).convert("P")
    palette.putdata(label_values((4, 5)).ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(folder / "labelsTr/case_0.png")
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.pixels, np.moveaxis(colours, -1, 0))
    np.testing.assert_array_equal(read.label, label_values((4, 5)))


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.int64])
def test_what_nobody_annotated_is_ignored_however_it_is_written(tmp_path, kind):
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
    folder = raw(tmp_path, count=1, labels=labels)
    stored = np.random.default_rng(1).integers(-1, 4, SIZE[::-1])
    assert set(np.unique(stored)) == {-1, 0, 1, 2, 3}
    write(folder / "labelsTr/case_0.nii.gz", stored.astype(kind))
    dataset = folders.read_dataset(folder)
    assert dataset.class_names == ("background", "organ", "tumour")
    assert dataset.ignore == 3
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, np.where(stored == 3, IGNORE, stored))


def test_whole_numbers_that_scaling_has_rounded_are_labels(tmp_path):
    folder = raw(tmp_path, count=1, ending=".mha")
    write(folder / "labelsTr/case_0.mha", label_values(SIZE[::-1]) * np.float32(0.99999))
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, label_values(SIZE[::-1]))


def test_files_that_are_listed_by_path(tmp_path):
    folder = raw(tmp_path / "Dataset001_Some", count=1)
    elsewhere = {"images": ["../shared/a.nii.gz"], "label": "../shared/b.nii.gz"}
    write(tmp_path / "shared/a.nii.gz", image_values(SIZE[::-1], 5))
    write(tmp_path / "shared/b.nii.gz", label_values(SIZE[::-1], 5))
    redeclare(folder, dataset={"mine": elsewhere})
    dataset = folders.read_dataset(folder)
    assert [case.id for case in dataset.training] == ["mine"]
    np.testing.assert_array_equal(read_everything(folder)[0].pixels[0], image_values(SIZE[::-1], 5))
    (tmp_path / "shared/b.nii.gz").unlink()
    refused("b.nii.gz", '"mine"', "does not exist", call=lambda: folders.read_dataset(folder))


def test_a_decathlon_file_holds_its_channels_as_a_fourth_axis(tmp_path):
    folder = raw(tmp_path, count=1, channels=2, version=1)
    values = [image_values(SIZE[::-1], 0, channel) for channel in (0, 1)]
    for file in (folder / "imagesTr").iterdir():
        file.unlink()
    joined = sitk.JoinSeries([sitk.GetImageFromArray(each) for each in values])
    joined.SetSpacing((*SPACING, 1))
    sitk.WriteImage(joined, str(folder / "imagesTr/case_0.nii.gz"))
    write(folder / "labelsTr/case_0.nii.gz", label_values(SIZE[::-1]))
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.pixels, values)
    assert (read.geometry.axes, len(read.geometry.direction)) == (3, 9)


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the data is not here")
def test_the_hippocampus():
    dataset = folders.read_dataset(HIPPOCAMPUS)
    assert (len(dataset.training), len(dataset.testing)) == (28, 12)
    assert dataset.class_names == ("background", "Anterior", "Posterior")
    assert all(case.label is not None for case in dataset.testing)
    for case in (*dataset.training, *dataset.testing):
        folders.check_case(case, dataset)
    training, validation = folders.split(dataset, 0, seed=0)
    assert (len(training), len(validation)) == (22, 6)
    read = folders.read_case(dataset.testing[0], dataset)
    expected = sitk.ReadImage(str(dataset.testing[0].label))
    np.testing.assert_array_equal(read.label, sitk.GetArrayFromImage(expected))


# Bad input


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
    "regions": (declare(labels={**CLASSES, "whole": [1, 2]}), "dataset.json", "regions"),
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
    refused(*said, "not exist", call=lambda: folders.read_dataset(folder))


def test_version_1_needs_its_list(tmp_path):
    folder = raw(tmp_path, version=1)
    redeclare(folder, training=None)
    refused("dataset.json", '"training"', call=lambda: folders.read_dataset(folder))


def test_a_test_case_that_version_1_lists_is_there(tmp_path):
    folder = raw(tmp_path, version=1)
    redeclare(folder, test=["./imagesTs/away.nii.gz"])
    refused("imagesTs/away_0000.nii.gz", call=lambda: folders.read_dataset(folder))


def test_what_is_no_data_set(tmp_path):
    refused("nowhere", "no folder", call=lambda: folders.read_dataset(tmp_path / "nowhere"))
    refused(tmp_path, "no nnU-Net folder", call=lambda: folders.read_dataset(tmp_path))
    (tmp_path / "dataset.json").write_text("{}")
    refused("imagesTr", "missing", call=lambda: folders.read_dataset(tmp_path))


# Splits


def test_without_a_file_five_folds_share_the_cases(tmp_path):
    dataset = folders.read_dataset(raw(tmp_path, count=12))
    folds = [folders.split(dataset, fold, seed=3) for fold in range(5)]
    validated = [case.id for _, validation in folds for case in validation]
    assert sorted(validated) == sorted(case.id for case in dataset.training)
    for training, validation in folds:
        assert len(validation) in (2, 3)
        assert sorted([*training, *validation], key=lambda case: case.id) == sorted(
            dataset.training, key=lambda case: case.id
        )
    assert folds == [folders.split(dataset, fold, seed=3) for fold in range(5)]
    assert folds != [folders.split(dataset, fold, seed=4) for fold in range(5)]
    assert folders.split(dataset, "all", seed=3) == (dataset.training, ())
    refused("trainer.fold: 5", "0 to 4", call=lambda: folders.split(dataset, 5, seed=3))


def test_one_case_cannot_be_split(tmp_path):
    dataset = folders.read_dataset(raw(tmp_path, count=1))
    refused("fold: all", call=lambda: folders.split(dataset, 0, seed=0))


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
def test_a_file_of_splits_decides(tmp_path, protocol):
    """As JSON (protocol None), and as version 1 pickles it: arrays of names."""
    folder = raw(tmp_path, count=3)
    names = [["case_2", "case_0"], ["case_1"]]
    if protocol is None:
        splits = [{"train": names[0], "val": names[1]}]
        (folder / "splits_final.json").write_text(json.dumps(splits))
    else:
        splits = [OrderedDict(train=np.array(names[0]), val=np.array(names[1]))]
        (folder / "splits_final.pkl").write_bytes(pickle.dumps(splits, protocol))
    dataset = folders.read_dataset(folder)
    training, validation = folders.split(dataset, 0, seed=0)
    assert [[case.id for case in part] for part in (training, validation)] == names
    refused("trainer.fold: 1", "splits_final", call=lambda: folders.split(dataset, 1, seed=0))


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_pickles_of_older_and_newer_numpy(tmp_path, package):
    folder = raw(tmp_path)
    splits = [{"train": np.array(["case_1"]), "val": np.array(["case_0"]), "number": np.float64(2)}]
    content = pickle.dumps(splits, 2).replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", package)
    assert package + b".multiarray" in content
    (folder / "splits_final.pkl").write_bytes(content)
    training, _ = folders.split(folders.read_dataset(folder), 0, seed=0)
    assert [case.id for case in training] == ["case_1"]


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
    dataset = folders.read_dataset(folder)
    refused("splits_final.json", *said, call=lambda: folders.split(dataset, 0, seed=0))


class Runs:
    """A pickle that runs a function on loading."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("function", [os.mkdir, eval, exec])
def test_a_pickle_never_runs_anything(tmp_path, function):
    folder, made = raw(tmp_path / "data"), tmp_path / "made"
    argument = str(made) if function is os.mkdir else f"__import__('os').mkdir({str(made)!r})"
    (folder / "splits_final.pkl").write_bytes(pickle.dumps([Runs(function, argument)]))
    dataset = folders.read_dataset(folder)
    refused("splits_final.pkl", function.__name__, call=lambda: folders.split(dataset, 0, seed=0))
    assert not made.exists()


# Writing labels


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.integers(2, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 5)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    mirrored=st.booleans(),
    ending=st.sampled_from([".nii.gz", ".nii", ".mha", ".nrrd"]),
)
def test_every_voxel_of_a_written_label_lies_where_the_images_voxel_does(
    tmp_path_factory, size, spacing, origin, angles, mirrored, ending
):
    folder = tmp_path_factory.mktemp("written")
    direction = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    direction[:, 0] *= -1 if mirrored else 1
    image = write(
        folder / f"image{ending}",
        image_values(size[::-1]),
        spacing,
        origin,
        tuple(direction.ravel().tolist()),
    )
    dataset = replace(
        folders.read_dataset(raw(folder / "data", count=1)), class_names=tuple("abc"), file_ending=ending
    )
    (case,) = folders.loose_cases([folder / f"image{ending}"], 1, ending, 3)
    label = np.random.default_rng(0).integers(-1, 3, size[::-1]).astype(np.int16)
    folders.write_label(folder / f"label{ending}", label, folders.case_geometry(case, dataset))
    written = sitk.ReadImage(str(folder / f"label{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), label)
    for corner in [(0, 0, 0), tuple(step - 1 for step in size), (0, size[1] - 1, 0)]:
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(corner),
            image.TransformIndexToPhysicalPoint(corner),
            atol=1e-2,  # NIfTI stores 32-bit floats
        )
    np.testing.assert_array_equal(folders.read_label(folder / f"label{ending}", dataset)[0], label)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5)])
def test_a_2d_label_comes_back_with_as_many_axes_as_its_image(tmp_path, shape):
    folder = raw(tmp_path, shape=shape)
    dataset = folders.read_dataset(folder)
    read = folders.read_case(dataset.training[0], dataset)
    target = tmp_path / "written.nii.gz"
    folders.write_label(target, read.label, read.geometry)
    image, written = (sitk.ReadImage(str(path)) for path in (dataset.training[0].images[0], target))
    assert written.GetSize() == image.GetSize() == shape[::-1]
    for of in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(of(written), of(image), atol=1e-5)


@pytest.mark.parametrize(
    ("ending", "highest"), [(".png", 2), (".png", 300), (".tif", 2), (".tif", 300), (".bmp", 255)]
)
def test_pictures_hold_labels(tmp_path, ending, highest):
    folder = raw(tmp_path, ending=ending, shape=(4, 5))
    dataset = folders.read_dataset(folder)
    geometry = folders.case_geometry(dataset.training[0], dataset)
    label = np.zeros((4, 5), np.int16)
    label[1, 2] = highest
    folders.write_label(tmp_path / f"written{ending}", label, geometry)
    many = replace(dataset, class_names=tuple(map(str, range(400))))
    np.testing.assert_array_equal(folders.read_label(tmp_path / f"written{ending}", many)[0], label)
    label[0, 0] = IGNORE
    refused("−1", call=lambda: folders.write_label(tmp_path / f"other{ending}", label, geometry))


def test_a_label_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    geometry = Geometry(SIZE, SPACING, ORIGIN, OBLIQUE, 3)
    target = tmp_path / "label.nii.gz"
    folders.write_label(target, label_values(SIZE[::-1]).astype(np.int16), geometry)
    before = target.read_bytes()
    monkeypatch.setattr(sitk, "WriteImage", lambda image, path, **_: (Path(path).touch(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        folders.write_label(target, np.zeros(SIZE[::-1], np.int16), geometry)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_volume_is_no_picture(tmp_path):
    label, geometry = np.zeros(SIZE[::-1], np.int16), Geometry(SIZE, SPACING, ORIGIN, OBLIQUE, 3)
    for name in ("label.png", "label.jpg", "label"):
        refused(name, ".nii.gz", call=lambda n=name: folders.write_label(tmp_path / n, label, geometry))


# Loose files


def test_files_that_differ_in_their_channel_are_one_case(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write(tmp_path / f"in/{name}.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "in/notes.txt").write_text("…")
    by_folder = folders.loose_cases([tmp_path / "in"], 2, ".nii.gz", 3)
    assert [(case.id, [p.name[:6] for p in case.images]) for case in by_folder] == [
        ("a", ["a_0000", "a_0001"]),
        ("b", ["b_0000", "b_0001"]),
    ]
    by_file = folders.loose_cases([tmp_path / f"in/b_000{n}.nii.gz" for n in (1, 0)], 2, ".nii.gz", 3)
    assert by_file == by_folder[1:]
    (tmp_path / "in/b_0001.nii.gz").unlink()
    refused("b_0000", "1 channel", call=lambda: folders.loose_cases([tmp_path / "in"], 2, ".nii.gz", 3))


def test_a_file_needs_no_channel_number_nor_the_training_sets_ending(tmp_path):
    write(tmp_path / "some.scan.mha", image_values(SIZE[::-1]))
    write(tmp_path / "other.nii.gz", image_values(SIZE[::-1]))
    paths = [tmp_path / "some.scan.mha", tmp_path / "other.nii.gz"]
    assert [case.id for case in folders.loose_cases(paths, 1, ".nii.gz", 3)] == ["other", "some.scan"]
    (tmp_path / "other.nii.gz").unlink()
    assert [case.id for case in folders.loose_cases([tmp_path], 1, ".nii.gz", 3)] == ["some.scan"]


def test_loose_files_that_cannot_be(tmp_path):
    write(tmp_path / "a/x.nii.gz", image_values(SIZE[::-1]))
    write(tmp_path / "b/x.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "empty").mkdir()
    for paths, said in [
        (["a", "b"], ('"x"', "apart")),
        (["away.nii.gz"], ("away.nii.gz", "does not exist")),
        (["empty"], ("empty", "no image")),
    ]:
        arguments = [tmp_path / path for path in paths], 1, ".nii.gz", 3
        refused(*said, call=lambda a=arguments: folders.loose_cases(*a))
    refused("a/x.nii.gz", "2D", call=lambda: folders.loose_cases([tmp_path / "a"], 1, ".nii.gz", 2))


# Preprocessed by version 1


def preprocessed(
    folder, count=2, shape=(6, 8, 10), channels=2, transpose=(0, 1, 2), plan="nnUNetData_plans_v2.1", stage=0
):
    """As nnU-Net version 1 leaves it: plans, dataset.json and splits above; cases with weight maps below."""
    below = folder / f"{plan}_stage{stage}"
    below.mkdir(parents=True)
    spacing = [2.5, 0.75, 0.5]  # along the array's axes
    for n in range(count):
        rng = np.random.default_rng(n)
        data = rng.normal(size=(channels + 1, *shape)).astype(np.float32)
        data[-1] = rng.integers(-1, 3, shape)
        np.savez_compressed(below / f"case_{n}.npz", data=data)
        np.save(below / f"case_{n}_weightmap.npy", np.ones((1, *shape), np.float32))
        properties = OrderedDict(
            list_of_data_files=[f"case_{n}_0000.nii.gz"],
            itk_origin=ORIGIN,
            itk_spacing=tuple(np.array(spacing)[np.argsort(transpose)][::-1].tolist()),
            itk_direction=OBLIQUE,
            crop_bbox=[[0, 6], [0, 8], [0, 10]],
            classes=np.array([-1.0, 0.0, 1.0, 2.0], np.float32),
            size_after_resampling=shape,
            spacing_after_resampling=np.array(spacing),
            class_locations=OrderedDict({1: np.argwhere(data[-1] == 1), 2: np.argwhere(data[-1] == 2)}),
        )
        (below / f"case_{n}.pkl").write_bytes(pickle.dumps(properties))
    plans = {
        "data_identifier": plan,
        "num_modalities": channels,
        "modalities": {0: "MRI", 1: "CT"},
        "num_classes": 2,
        "all_classes": [1, 2],
        "transpose_forward": list(transpose),
        "plans_per_stage": {
            stage: {
                "current_spacing": np.array(spacing),
                "patch_size": np.array(shape[1:] if "2D" in plan else shape),
            }
        },
    }
    (folder / f"nnUNet{plan[-5:]}_plans_{'2D' if '2D' in plan else '3D'}.pkl").write_bytes(
        pickle.dumps(plans)
    )
    modality = {str(channel): "MRI" for channel in range(channels)}
    labels = {"0": "background", "1": "organ", "2": "tumour"}
    (folder / "dataset.json").write_text(json.dumps({"name": "Some", "modality": modality, "labels": labels}))
    splits = [OrderedDict(train=np.array(["case_1"]), val=np.array(["case_0"]))]
    (folder / "splits_final.pkl").write_bytes(pickle.dumps(splits))
    return below


@pytest.mark.parametrize("given", ["stage", "parent"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_a_folder_that_version_1_preprocessed(tmp_path, given, unpacked):
    stage = preprocessed(tmp_path / "Task001_Some")
    arrays = [np.load(stage / f"case_{n}.npz")["data"] for n in range(2)]
    if unpacked:
        np.save(stage / "case_1.npy", arrays[1])
    dataset = folders.read_dataset(stage if given == "stage" else stage.parent)
    assert (dataset.path, dataset.layout, dataset.dimensions) == (stage, "preprocessed", 3)
    assert (dataset.name, dataset.channel_names) == ("Some", ("MRI", "MRI"))
    assert dataset.class_names == ("background", "organ", "tumour")
    assert [case.id for case in dataset.training] == ["case_0", "case_1"]
    assert dataset.training[1].images == (stage / f"case_1.{'npy' if unpacked else 'npz'}",)
    training, validation = folders.split(dataset, 0, seed=0)
    assert ([case.id for case in training], [case.id for case in validation]) == (["case_1"], ["case_0"])
    for case, array in zip(dataset.training, arrays, strict=True):
        folders.check_case(case, dataset)
        read = folders.read_case(case, dataset)
        np.testing.assert_array_equal(read.pixels, array[:-1])
        np.testing.assert_array_equal(read.label, array[-1])
        assert read.label.dtype == np.int16
        assert read.geometry.size == (10, 8, 6)
        assert read.geometry.spacing == (0.5, 0.75, 2.5)


def test_a_lone_stage_folder_needs_no_plan(tmp_path):
    stage = preprocessed(tmp_path / "Task001_Some")
    for file in (*stage.parent.glob("*.pkl"), stage.parent / "dataset.json"):
        file.unlink()
    dataset = folders.read_dataset(stage)
    assert (dataset.class_names, dataset.channel_names) == (("background", "1", "2"), ("0", "1"))
    assert [read.label.max() for read in read_everything(stage)] == [2, 2]


@pytest.mark.parametrize("shape", [(1, 8, 10), (8, 10)])
def test_preprocessed_pictures(tmp_path, shape):
    stage = preprocessed(tmp_path, shape=shape, plan="nnUNetData_plans_v2.1_2D")
    dataset = folders.read_dataset(tmp_path)
    assert dataset.dimensions == 2
    read = read_everything(tmp_path)[0]
    np.testing.assert_array_equal(read.pixels, np.load(stage / "case_0.npz")["data"][:-1].reshape(2, 8, 10))
    assert (read.label.shape, read.geometry.size, read.geometry.spacing) == ((8, 10), (10, 8), (0.5, 0.75))
    folders.write_label(tmp_path / "label.nii.gz", read.label, read.geometry)
    assert sitk.ReadImage(str(tmp_path / "label.nii.gz")).GetSize() == (10, 8, 1)


def test_the_finest_stage_of_the_3d_plan_is_taken(tmp_path):
    preprocessed(tmp_path)
    finest = preprocessed(tmp_path, plan="nnUNetData_plans_v2.1", stage=1)
    plans = tmp_path / "nnUNet_v2.1_plans_3D.pkl"
    content = pickle.loads(plans.read_bytes())
    content["plans_per_stage"][0] = content["plans_per_stage"][1]
    plans.write_bytes(pickle.dumps(content))
    preprocessed(tmp_path, plan="nnUNetData_plans_v2.1_2D", stage=2)
    assert folders.read_dataset(tmp_path).path == finest


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("coarser", [1, 2])
def test_preprocessed_voxels_lie_where_the_original_ones_did(tmp_path, transpose, coarser):
    """Each voxel of an image knows its place; after crop, turn and averaging of blocks it still has to."""
    image = write(tmp_path / "image.mha", np.zeros((8, 12, 16), np.uint8))
    places = np.empty((8, 12, 16, 3))
    for index in np.ndindex(8, 12, 16):
        places[index] = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))
    crop = [[2, 8], [0, 8], [4, 14]]
    places = places[tuple(slice(*each) for each in crop)].transpose(*transpose, 3)
    shape = tuple(step // coarser for step in places.shape[:3])
    blocks = places.reshape(shape[0], coarser, shape[1], coarser, shape[2], coarser, 3).mean((1, 3, 5))

    stage = preprocessed(tmp_path / "data", count=1, shape=shape, transpose=transpose)
    file = stage / "case_0.pkl"
    properties = pickle.loads(file.read_bytes())
    properties["itk_spacing"] = SPACING
    properties["crop_bbox"] = crop
    properties["spacing_after_resampling"] = np.array(SPACING[::-1])[list(transpose)] * coarser
    file.write_bytes(pickle.dumps(properties))
    dataset = folders.read_dataset(stage)
    geometry = folders.case_geometry(dataset.training[0], dataset)
    label = np.zeros(shape, np.int16)
    folders.write_label(tmp_path / "label.mha", label, geometry)
    written = sitk.ReadImage(str(tmp_path / "label.mha"))
    for index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), tuple(step - 1 for step in shape)]:
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(index[::-1]), blocks[index], atol=1e-4
        )


def change_properties(**changes):
    def change(stage):
        file = stage / "case_1.pkl"
        file.write_bytes(pickle.dumps({**pickle.loads(file.read_bytes()), **changes}))

    return change


def change_plan(**changes):
    def change(stage):
        (file,) = stage.parent.glob("*plans*.pkl")
        file.write_bytes(pickle.dumps({**pickle.loads(file.read_bytes()), **changes}))

    return change


def change_array(shape, label=0.0):
    def change(stage):
        data = np.zeros(shape, np.float32)
        data[-1, 0, 1, 2] = label
        np.savez(stage / "case_1.npz", data=data)

    return change


BAD_STAGES = {
    "a plan of another folder": (
        change_plan(data_identifier="nnUNetData_other"),
        "another plan",
        "nnUNetData_other",
    ),
    "a plan without this stage": (change_plan(plans_per_stage={1: {}}), "no stage 0", "another plan"),
    "a plan for other classes": (change_plan(num_classes=5), "5 classes", "dataset.json"),
    "a plan for other channels": (change_plan(num_modalities=1), "1 channels", "has 2"),
    "a case of another spacing": (
        change_properties(spacing_after_resampling=[1, 0.75, 0.5]),
        "case_1.npz",
        "1×0.75×0.5",
        "2.5×0.75×0.5",
        "another plan",
    ),
    "a case of other channels": (change_array((2, 6, 8, 10)), "case_1.npz", "2 channels", "another plan"),
    "a case of another size": (change_array((3, 6, 8, 9)), "case_1.npz", "6×8×9", "6×8×10"),
    "a label that no class has": (change_array((3, 6, 8, 10), label=4), "case_1.npz", "4", "2 tumour"),
    "a label that is no integer": (change_array((3, 6, 8, 10), label=1.5), "case_1.npz", "1.5"),
    "a label that is no number": (change_array((3, 6, 8, 10), label=np.nan), "case_1.npz", "nan"),
    "a damaged array": (lambda stage: (stage / "case_1.npz").write_bytes(b"PK\3\4"), "case_1.npz", "damaged"),
    "a missing pickle": (lambda stage: (stage / "case_1.pkl").unlink(), "case_1.pkl", "missing"),
    "a pickle of something else": (
        lambda stage: (stage / "case_1.pkl").write_bytes(pickle.dumps([1])),
        "case_1.pkl",
        "spacing_after_resampling",
    ),
    "a damaged pickle": (lambda stage: (stage / "case_1.pkl").write_bytes(b"\x80"), "case_1.pkl"),
    "a plan that lacks a key": (change_plan(plans_per_stage=None), "plans_3D.pkl", "no plan"),
}


@pytest.mark.parametrize(("change", "said"), [(c, s) for c, *s in BAD_STAGES.values()], ids=BAD_STAGES)
def test_a_preprocessed_folder_that_cannot_be(tmp_path, change, said):
    stage = preprocessed(tmp_path)
    read_everything(stage)
    change(stage)
    refused(*said, call=lambda: read_everything(stage))


def test_a_2d_plan_leaves_the_first_axis_as_it_is(tmp_path):
    stage = preprocessed(tmp_path, plan="nnUNetData_plans_v2.1_2D")
    change_properties(spacing_after_resampling=[7, 0.75, 0.5])(stage)
    read = read_everything(stage)
    assert [each.geometry.spacing[2] for each in read] == [2.5, 7]
    change_properties(spacing_after_resampling=[7, 0.75, 0.6])(stage)
    refused("case_1.npz", "another plan", call=lambda: read_everything(stage))


def test_weight_maps_are_no_cases(tmp_path):
    stage = preprocessed(tmp_path)
    np.savez(stage / "case_0_weightmap.npz", np.ones((1, 6, 8, 10)))
    assert [case.id for case in folders.read_dataset(stage).training] == ["case_0", "case_1"]


def test_cases_of_two_plans_without_a_plan(tmp_path):
    stage = preprocessed(tmp_path)
    for file in tmp_path.glob("*.pkl"):
        file.unlink()
    change_properties(spacing_after_resampling=[1, 0.75, 0.5])(stage)
    refused("case_1.npz", "case_0.pkl", "another plan", call=lambda: read_everything(stage))


# The command that takes annotations away


def annotate(*arguments):
    command = [sys.executable, "-m", "benchmarks.annotate_slices", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("version", [1, 2])
def test_only_some_slices_stay_annotated(tmp_path, version):
    full, sparse = raw(tmp_path / "full", shape=(9, 4, 5), version=version), tmp_path / "sparse"
    write(full / "imagesTs/new_0000.nii.gz", image_values((9, 4, 5)))
    write(full / "labelsTs/new.nii.gz", label_values((9, 4, 5)))
    done = annotate(full, sparse, "--slices", 3, "--seed", 1)
    assert done.returncode == 0, done.stderr
    before, after = folders.read_dataset(full), folders.read_dataset(sparse)
    slices = []
    for old, new in zip(before.training, after.training, strict=True):
        old, new = folders.read_case(old, before), folders.read_case(new, after)
        np.testing.assert_array_equal(old.pixels, new.pixels)
        assert old.geometry == new.geometry
        kept = [z for z in range(9) if (new.label[z] != IGNORE).any()]
        assert len(kept) == 3
        np.testing.assert_array_equal(new.label[kept], old.label[kept])
        slices.append(kept)
    assert slices[0] != slices[1]
    for part in ("imagesTs/new_0000.nii.gz", "labelsTs/new.nii.gz", "dataset.json"):
        assert (sparse / part).read_bytes() == (full / part).read_bytes()

    assert annotate(full, tmp_path / "again", "--slices", 3, "--seed", 1).returncode == 0
    for case in after.training:
        again = tmp_path / "again" / case.label.relative_to(sparse)
        np.testing.assert_array_equal(
            folders.read_label(again, after)[0], folders.read_label(case.label, after)[0]
        )
    refused_again = annotate(full, sparse)
    assert refused_again.returncode == 2
    assert "exists already" in refused_again.stderr
