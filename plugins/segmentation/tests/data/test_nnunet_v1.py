"""Folders as nnU-Net version 1 leaves them, and its pickles."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import case_geometry, check_case
from lannunet_segmentation.data.label_files import write_label
from lannunet_segmentation.data.nnunet_v1 import preparation
from lannunet_segmentation.data.splits import split
from lannunet_segmentation.types import NnunetChannel, NnunetRecipe

from tests.fixtures.nnunet import SPACING, preprocessed, raw, read_everything, refused, write


@pytest.mark.parametrize("given", ["stage", "parent"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_a_folder_that_version_1_preprocessed(tmp_path, given, unpacked):
    stage = preprocessed(tmp_path / "Task001_Some")
    arrays = [np.load(stage / f"case_{n}.npz")["data"] for n in range(2)]
    if unpacked:
        np.save(stage / "case_1.npy", arrays[1])
    dataset = read_dataset(stage if given == "stage" else stage.parent)
    assert (dataset.path, dataset.layout, dataset.dimensions) == (stage, "preprocessed", 3)
    assert (dataset.name, dataset.channel_names) == ("Some", ("MRI", "MRI"))
    assert dataset.class_names == ("background", "organ", "tumour")
    assert [case.id for case in dataset.training] == ["case_0", "case_1"]
    assert dataset.training[1].images == (stage / f"case_1.{'npy' if unpacked else 'npz'}",)
    training, validation = split(dataset, 0, seed=0)
    assert ([case.id for case in training], [case.id for case in validation]) == (["case_1"], ["case_0"])
    for case, array in zip(dataset.training, arrays, strict=True):
        check_case(case, dataset)
        read = read_case(case, dataset)
        np.testing.assert_array_equal(read.pixels, array[:-1])
        np.testing.assert_array_equal(read.label, array[-1])
        assert read.label.dtype == np.int16
        assert read.geometry.size == (10, 8, 6)
        assert read.geometry.spacing == (0.5, 0.75, 2.5)


def test_a_lone_stage_folder_needs_no_plan(tmp_path):
    stage = preprocessed(tmp_path / "Task001_Some")
    for file in (*stage.parent.glob("*.pkl"), stage.parent / "dataset.json"):
        file.unlink()
    dataset = read_dataset(stage)
    assert (dataset.class_names, dataset.channel_names) == (("background", "1", "2"), ("0", "1"))
    assert [read.label.max() for read in read_everything(stage)] == [2, 2]


@pytest.mark.parametrize("shape", [(1, 8, 10), (8, 10)])
def test_preprocessed_pictures(tmp_path, shape):
    stage = preprocessed(tmp_path, shape=shape, plan="nnUNetData_plans_v2.1_2D")
    dataset = read_dataset(tmp_path)
    assert dataset.dimensions == 2
    read = read_everything(tmp_path)[0]
    np.testing.assert_array_equal(read.pixels, np.load(stage / "case_0.npz")["data"][:-1].reshape(2, 8, 10))
    assert (read.label.shape, read.geometry.size, read.geometry.spacing) == ((8, 10), (10, 8), (0.5, 0.75))
    write_label(tmp_path / "label.nii.gz", read.label, read.geometry)
    assert sitk.ReadImage(str(tmp_path / "label.nii.gz")).GetSize() == (10, 8, 1)


def test_the_finest_stage_of_the_3d_plan_is_taken(tmp_path):
    preprocessed(tmp_path)
    finest = preprocessed(tmp_path, plan="nnUNetData_plans_v2.1", stage=1)
    plans = tmp_path / "nnUNet_v2.1_plans_3D.pkl"
    content = pickle.loads(plans.read_bytes())
    content["plans_per_stage"][0] = content["plans_per_stage"][1]
    plans.write_bytes(pickle.dumps(content))
    preprocessed(tmp_path, plan="nnUNetData_plans_v2.1_2D", stage=2)
    assert read_dataset(tmp_path).path == finest


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
    dataset = read_dataset(stage)
    geometry = case_geometry(dataset.training[0], dataset)
    label = np.zeros(shape, np.int16)
    write_label(tmp_path / "label.mha", label, geometry)
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
        data[(-1, 0, 1, 2)[: len(shape)]] = label
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
    "spacing that is none": (
        change_properties(spacing_after_resampling=[1.0, "wide", 0.5]),
        "case_1.pkl",
        "spacing_after_resampling",
    ),
    "spacing of no number": (change_properties(spacing_after_resampling=5), "case_1.pkl"),
    "an endless spacing": (
        change_properties(itk_spacing=(1.0, float("inf"), 1.0)),
        "case_1.pkl",
        "itk_spacing",
    ),
    "no direction": (change_properties(itk_direction=(1.0, 0.0)), "case_1.pkl", "itk_direction"),
    "no box": (change_properties(crop_bbox=[[0, 1]]), "case_1.pkl", "crop_bbox"),
    "a size of text": (change_properties(size_after_resampling=["a", "b", "c"]), "case_1.pkl", "size_after"),
    "a picture among volumes": (change_array((3, 48, 10)), "case_1.npz", "other cases are volumes"),
    "an array of another kind": (change_array((480,)), "case_1.npz", "channels first"),
    "a plan with a wrong turn": (
        change_plan(transpose_forward=[0, 0, 1]),
        "plans_3D.pkl",
        "transpose_forward",
    ),
    "a plan with text for a number": (
        change_plan(num_modalities="\x1b[2J"),
        "plans_3D.pkl",
        "num_modalities",
    ),
    "a plan that lacks a channel": (change_plan(modalities={0: "MRI"}), "plans_3D.pkl", "modalities.1"),
    "a plan of something else": (change_plan(dataset_properties=[1]), "plans_3D.pkl", "dataset_properties"),
    "a damaged pickle": (lambda stage: (stage / "case_1.pkl").write_bytes(b"\x80"), "case_1.pkl"),
    "a plan that lacks a key": (change_plan(plans_per_stage=None), "plans_3D.pkl", "is not a plan"),
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
    assert [case.id for case in read_dataset(stage).training] == ["case_0", "case_1"]


def test_cases_of_two_plans_without_a_plan(tmp_path):
    stage = preprocessed(tmp_path)
    for file in tmp_path.glob("*.pkl"):
        file.unlink()
    change_properties(spacing_after_resampling=[1, 0.75, 0.5])(stage)
    refused("case_1.npz", "case_0.pkl", "another plan", call=lambda: read_everything(stage))


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_pickles_of_older_and_newer_numpy(tmp_path, package):
    folder = raw(tmp_path)
    splits = [{"train": np.array(["case_1"]), "val": np.array(["case_0"]), "number": np.float64(2)}]
    content = pickle.dumps(splits, 2).replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", package)
    assert package + b".multiarray" in content
    (folder / "splits_final.pkl").write_bytes(content)
    training, _ = split(read_dataset(folder), 0, seed=0)
    assert [case.id for case in training] == ["case_1"]


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
    dataset = read_dataset(folder)
    refused("splits_final.pkl", function.__name__, call=lambda: split(dataset, 0, seed=0))
    assert not made.exists()


@pytest.mark.parametrize("beside", [False, True])
def test_how_raw_images_become_a_stages_arrays(tmp_path, beside):
    """Spacing, turn, schemes, masks and, for CT, intensities: of the plan, or of the file beside it."""
    stage = preprocessed(tmp_path, transpose=(2, 0, 1))
    found = {
        "percentile_00_5": np.float32(-100),
        "percentile_99_5": 200.0,
        "mean": 50.0,
        "sd": 25.0,
        "mn": -1e3,
    }
    measured = {"intensityproperties": OrderedDict({1: {**found, "local_props": {"case_0": found}}})}
    change_plan(
        normalization_schemes=OrderedDict({0: "nonCT", 1: "CT"}),
        use_mask_for_norm={0: np.bool_(True), 1: False},
        dataset_properties={"intensityproperties": None} if beside else measured,
    )(stage)
    if beside:
        (tmp_path / "dataset_properties.pkl").write_bytes(pickle.dumps(measured))
    assert preparation(stage, 3) == NnunetRecipe(
        plan="nnUNet_v2.1_plans_3D.pkl",
        spacing=(2.5, 0.75, 0.5),
        transposed=(2, 0, 1),
        channels=(
            NnunetChannel("zscore", inside=True),
            NnunetChannel("ct", inside=False, clip=(-100.0, 200.0, 50.0, 25.0)),
        ),
    )
    assert "along another axis" in preparation(stage, 2)


def test_a_2d_plan_keeps_the_spacing_between_slices(tmp_path):
    stage = preprocessed(tmp_path, plan="nnUNetData_plans_v2.1_2D")
    schemes = {"normalization_schemes": {0: "CT2", 1: "noNorm"}, "use_mask_for_norm": {0: False, 1: True}}
    found = {"percentile_00_5": 1.0, "percentile_99_5": 2.0, "mean": 3.0, "sd": 4.0}
    change_plan(**schemes, dataset_properties={"intensityproperties": {0: found}})(stage)
    made = preparation(stage, 3)
    assert made.spacing == (None, 0.75, 0.5)
    assert [channel.scheme for channel in made.channels] == ["ct2", "none"]
