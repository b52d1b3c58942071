"""Folders that nnU-Net version 2 preprocessed."""

import json
import pickle

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data import nnunet_v2
from lannunet_segmentation.data.as_nnunet import prepare_as_nnunet
from lannunet_segmentation.data.blosc import b2nd_header, read_b2nd
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import check_case
from lannunet_segmentation.data.splits import split
from lannunet_segmentation.types import IGNORE

from lannunet_core import UserError
from tests.fixtures.nnunet import raw, read_everything, redeclare, refused
from tests.fixtures.nnunet_v2 import preprocess, store

pytest.importorskip("blosc2")
TURNS = [(0, 1, 2), (2, 0, 1), (1, 0, 2)]


@pytest.fixture
def places(tmp_path):
    return raw(tmp_path / "raw/Dataset001_Some", channels=2, shape=(7, 6, 5)), tmp_path / "preprocessed"


def empty_margins(folder):
    """Nothing but zeros on two sides of each image, and a label that reaches into them."""
    for path in sorted((folder / "imagesTr").iterdir()):
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image) + 1
        values[:2], values[..., -1:] = 0, 0
        changed = sitk.GetImageFromArray(values)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))


def test_a_folder_is_read_as_a_data_set(places):
    below = preprocess(*places)
    for folder in (below, below.parent):
        dataset = read_dataset(folder)
        assert (dataset.layout, dataset.path, dataset.dimensions) == ("preprocessed", below, 3)
        assert dataset.class_names == ("background", "organ", "tumour")
        assert dataset.channel_names == ("CT", "T1") and dataset.name == "Dataset001_Some"
        assert [case.id for case in dataset.training] == ["case_0", "case_1"]
    training, validation = split(dataset, 0, 0)
    assert [case.id for case in training] == ["case_1"] and [case.id for case in validation] == ["case_0"]
    for stored, own in zip(read_everything(below), read_everything(places[0]), strict=True):
        pixels = own.pixels.reshape(2, -1)
        normal = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
        np.testing.assert_allclose(stored.pixels.reshape(2, -1), normal, atol=1e-5)
        np.testing.assert_array_equal(stored.label, own.label)
        assert stored.geometry.spacing == pytest.approx(own.geometry.spacing)
        assert stored.geometry.origin == pytest.approx(own.geometry.origin)
        assert stored.geometry.direction == pytest.approx(own.geometry.direction)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    ("scheme", "masked"),
    [("ZScoreNormalization", False), ("ZScoreNormalization", True), ("CTNormalization", False)],
)
def test_cropped_and_turned_voxels_lie_where_they_were(places, turn, scheme, masked):
    empty_margins(places[0])
    below = preprocess(*places, turn, scheme, masked)
    dataset, original = read_dataset(below), read_dataset(places[0])
    recipe = nnunet_v2.preparation(below, 3)
    for case, own in zip(dataset.training[-1:], original.training[-1:], strict=True):
        stored, source = read_case(case, dataset), read_case(own, original)
        made, affine = prepare_as_nnunet(source, recipe)
        np.testing.assert_allclose(made, stored.pixels, atol=2e-5)
        for place in np.random.default_rng(0).integers(0, stored.label.shape, (9, 3)):
            there = affine[:3, :3] @ place[::-1] + affine[:3, 3]
            voxel = tuple(np.rint(there).astype(int)[::-1])
            assert stored.label[tuple(place)] == source.label[voxel]
            np.testing.assert_allclose(
                world(stored.geometry, place[::-1]), world(source.geometry, there), atol=1e-4
            )


def world(geometry, point):
    return geometry.origin + np.reshape(geometry.direction, (3, 3)) @ (point * np.array(geometry.spacing))


def test_outside_of_the_nonzero_mask_is_background_as_nnunet_trains_on_it(places):
    folder = places[0]
    redeclare(folder, labels={"background": 0, "organ": 1, "ignore": 2})
    for path in (folder / "imagesTr").iterdir():
        image = sitk.ReadImage(str(path))
        image[2, 2, 2] = 0  # a hole that is not filled here, as another program may leave it
        sitk.WriteImage(image, str(path))
    below = preprocess(*places)
    dataset = read_dataset(below)
    for case, own in zip(dataset.training, read_everything(folder), strict=True):
        label = read_case(case, dataset).label
        assert dataset.ignore == 2 and (label == IGNORE).any()
        np.testing.assert_array_equal(label, own.label)


def damage(name, content):
    return lambda below: (below / name).write_bytes(content)


def replan(**changes):
    def act(below):
        path = below.parent / "nnUNetPlans.json"
        plans = json.loads(path.read_text())
        plans["configurations"]["3d_fullres"] |= changes
        path.write_text(json.dumps(plans))

    return act


class Evil:
    def __reduce__(self):
        return (print, ("run",))


BAD = {
    "no properties": (lambda below: (below / "case_0.pkl").unlink(), "case_0.pkl", "missing"),
    "properties that run something": (damage("case_0.pkl", pickle.dumps(Evil())), "case_0.pkl", "print"),
    "properties of another kind": (damage("case_0.pkl", pickle.dumps({"spacing": 1})), "not of nnU-Net"),
    "no array": (damage("case_1.b2nd", b"nothing"), "case_1.b2nd", "not a plain array"),
    "half an array": (
        lambda below: (below / "case_1.b2nd").write_bytes((below / "case_1.b2nd").read_bytes()[:-20]),
        "case_1.b2nd",
    ),
    "another segmentation": (
        lambda below: store(below / "case_1_seg.b2nd", np.zeros((1, 2, 2, 2), np.int16)),
        "case_1_seg.b2nd",
    ),
    "another plan": (replan(spacing=[9.0, 9.0, 9.0]), "case_0.b2nd", "another plan"),
    "no plan of it": (replan(data_identifier="other"), "other plans than those beside it"),
    "a damaged plan": (replan(spacing="wide"), "nnUNetPlans.json", "version 2", "spacing"),
    "no labels": (lambda below: redeclare(below.parent, labels=None), '"labels"'),
    "one channel less": (lambda below: redeclare(below.parent, channel_names={"0": "CT"}), "2 channels"),
}


@pytest.mark.parametrize(("act", "said"), [(a, s) for a, *s in BAD.values()], ids=BAD)
def test_bad_input_is_one_message(places, act, said):
    below = preprocess(*places)
    act(below)
    refused(*said, call=lambda: read_everything(below))


def test_a_preprocessor_of_ones_own_is_not_known(places):
    below = preprocess(*places)
    replan(preprocessor_name="Mine")(below)
    assert "preprocessor of its own ('Mine')" in nnunet_v2.preparation(below, 3)
    replan(preprocessor_name="DefaultPreprocessor", normalization_schemes=["RGBTo01Normalization"] * 2)(below)
    assert "'RGBTo01Normalization', which is not known" in nnunet_v2.preparation(below, 3)


def test_several_configurations_are_chosen_by_name(places):
    below = preprocess(*places)
    plans = json.loads((below.parent / "nnUNetPlans.json").read_text())
    for name in ("2d", "3d_lowres"):
        other = below.with_name(f"nnUNetPlans_{name}")
        other.mkdir()
        for path in below.iterdir():
            (other / path.name).write_bytes(path.read_bytes())
        own = plans["configurations"]["3d_fullres"]
        plans["configurations"][name] = {**own, "data_identifier": other.name}
    (below.parent / "nnUNetPlans.json").write_text(json.dumps(plans))
    assert read_dataset(below.parent).path == below
    assert read_dataset(other).path == other


def test_a_file_that_would_run_something_is_refused(tmp_path):
    import blosc2

    parts = []
    for name in "ab":
        store(tmp_path / f"{name}.b2nd", np.ones((1, 4, 4, 4), np.float32))
        parts.append(blosc2.open(str(tmp_path / f"{name}.b2nd")))
    (parts[0] + parts[1]).save(urlpath=str(tmp_path / "lazy.b2nd"))
    refused("lazy.b2nd", "holds more than that", call=lambda: read_b2nd(tmp_path / "lazy.b2nd"))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int8])
def test_headers_are_those_of_blosc2(tmp_path, dtype):
    """Chunks and blocks do not divide the array, and some chunks are zeros, which the file leaves out."""
    array = np.arange(2 * 40 * 33 * 17).reshape(2, 40, 33, 17).astype(dtype)
    array[1] = 0
    store(tmp_path / "a.b2nd", array)
    header = b2nd_header(tmp_path / "a.b2nd")
    assert (header.shape, header.dtype) == (array.shape, np.dtype(dtype))
    np.testing.assert_array_equal(read_b2nd(tmp_path / "a.b2nd"), array)


def test_a_damaged_file_is_one_message_and_never_a_crash(tmp_path):
    """With damaged offsets in the file, the library alone would free memory that it does not own."""
    store(tmp_path / "a.b2nd", np.random.default_rng(0).normal(size=(1, 40, 33, 17)).astype(np.float32))
    good = (tmp_path / "a.b2nd").read_bytes()
    refusals = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        content = bytearray(good)
        for _ in range(rng.choice([1, 2, 8])):
            places = (rng.integers(len(content)), rng.integers(200), len(content) - 1 - rng.integers(300))
            content[int(rng.choice(places))] = rng.integers(256)
        (tmp_path / "b.b2nd").write_bytes(content)
        try:
            assert read_b2nd(tmp_path / "b.b2nd").size
        except UserError as error:
            assert "b.b2nd: " in str(error) and "\n" not in str(error)
            refusals += 1
    assert refusals > 20


def test_without_blosc2_it_is_said_what_to_install(places, monkeypatch):
    below = preprocess(*places)
    dataset = read_dataset(below)
    check_case(dataset.training[0], dataset)
    monkeypatch.setattr("lannunet_segmentation.data.blosc.find_spec", lambda name: None)
    refused("lannunet-segmentation[blosc2]", call=lambda: read_case(dataset.training[0], dataset))


def test_the_first_epoch_is_that_of_the_raw_folder(segmentation_project, without_charts):
    """Within the spread of two seeds; both see the same voxels, so they are far closer."""

    def loss(seed, root):
        project.set(dataset={"root": str(root)}, solver={"max_epochs": 1, "mini_batch_size": 8, "seed": seed})
        project.set(output={"output_dir": f"out-{root.name}-{seed}"})
        assert project.train() == 0
        (row,) = (project.folder / f"out-{root.name}-{seed}/metrics.jsonl").read_text().splitlines()
        return json.loads(row)["loss"]

    project = segmentation_project(training=4)
    below = preprocess(project.raw, project.folder / "preprocessed")
    project.set(trainer={"fold": 0}, inference={"split": "validation"})
    splits = (below.parent / "splits_final.json").read_text()
    (project.raw / "splits_final.json").write_text(splits)
    first, second, other = loss(0, project.raw), loss(0, below), loss(1, project.raw)
    assert abs(first - second) < abs(first - other)
    assert second == pytest.approx(first, abs=1e-3)
