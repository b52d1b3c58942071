"""Raw images for a model that was trained on a folder which nnU-Net version 1 preprocessed."""

import pickle
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset

TURN = (2, 0, 1)
SPACING = (2.0, 0.75, 1.0)  # x is coarse, so nnU-Net turns it to the front


@pytest.fixture
def project(segmentation_project):
    """A raw folder, and the same preprocessed as nnU-Net does it; its own spacing is kept."""
    project = segmentation_project(training=3, testing=0, spacing=SPACING)
    stage = project.folder / "Task001_Blobs" / "nnUNetData_plans_v2.1_stage0"
    stage.mkdir(parents=True)
    for path in (project.raw / "imagesTr").iterdir():  # dark around, so that it is cropped
        image = sitk.ReadImage(str(path))
        pixels = sitk.GetArrayFromImage(image)
        pixels[:3] = pixels[:, -2:] = 0
        changed = sitk.GetImageFromArray(pixels)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))
    raw = read_dataset(project.raw)
    for case in raw.training:
        stored = read_case(case, raw)
        pixels, label = (part[3:, :-2].transpose(TURN) for part in (stored.pixels[0], stored.label))
        data = np.stack([(pixels - pixels.mean()) / pixels.std(), label])
        np.savez_compressed(stage / f"{case.id}.npz", data=data.astype(np.float32))
        properties = {
            "itk_spacing": SPACING,
            "itk_origin": (0.0, 0.0, 0.0),
            "crop_bbox": [[3, 16], [0, 22], [0, 20]],
            "classes": np.array([0.0, 1.0, 2.0]),
            "size_after_resampling": data.shape[1:],
            "spacing_after_resampling": np.array([2.0, 1.0, 0.75]),
        }
        (stage / f"{case.id}.pkl").write_bytes(pickle.dumps(properties))
    write_plan(stage.parent)
    shutil.copy(project.raw / "dataset.json", stage.parent)
    project.set(
        dataset={"root": "Task001_Blobs"},
        solver={"max_epochs": 1},
        inference={"split": "training"},
    )
    return project


def write_plan(folder, **changes):
    plan = {
        "data_identifier": "nnUNetData_plans_v2.1",
        "num_modalities": 1,
        "modalities": {0: "MRI"},
        "num_classes": 2,
        "transpose_forward": list(TURN),
        "normalization_schemes": {0: "nonCT"},
        "use_mask_for_norm": {0: False},
        "dataset_properties": {"intensityproperties": None},
        "preprocessor_name": "GenericPreprocessor",
        "plans_per_stage": {
            0: {"current_spacing": np.array([2.0, 1.0, 0.75]), "patch_size": np.array([16, 16, 16])}
        },
        **changes,
    }
    (folder / "nnUNetPlansv2.1_plans_3D.pkl").write_bytes(pickle.dumps(plan))


def label_maps(folder):
    return {
        path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in sorted(folder.glob("Tr*.nii.gz"))
    }


def check_same(of_raw, of_prepared):
    assert len(of_raw) == 3
    assert len(np.unique(np.stack([*of_raw.values()]))) > 1
    for name, labels in of_raw.items():
        np.testing.assert_array_equal(labels[3:, :-2].transpose(TURN), of_prepared[name])
        assert not labels[:3].any()  # cropped away
        assert not labels[:, -2:].any()


def test_the_network_sees_raw_images_as_it_saw_those_it_was_trained_on(project, capsys):
    assert project.train() == 0
    assert (
        "raw images that are predicted later are prepared as in nnUNetPlansv2.1_plans_3D.pkl"
        in capsys.readouterr().out
    )
    assert (
        project.lannunet("predict", project.out, project.raw / "imagesTr", "-o", project.folder / "new") == 0
    )
    check_same(label_maps(project.folder / "new"), label_maps(project.out / "predictions"))

    # So does a run that evaluates it on the raw folder.
    project.set(
        dataset={"root": project.raw.name},
        trainer={"inference_only": True},
        model={"checkpoint": str(project.out)},
        output={"output_dir": "evaluated"},
    )
    trained_on = label_maps(project.out / "predictions")
    assert project.train() == 0
    check_same(label_maps(project.folder / "evaluated" / "predictions"), trained_on)


UNKNOWN = {
    "no plan": (lambda folder: next(folder.glob("*plans*.pkl")).unlink(), "no plan"),
    "another preprocessor": (lambda folder: write_plan(folder, preprocessor_name="Mine"), "Mine"),
    "no schemes": (lambda folder: write_plan(folder, normalization_schemes=None), "channel 0"),
    "CT without intensities": (
        lambda folder: write_plan(folder, normalization_schemes={0: "CT"}),
        "intensities",
    ),
}


@pytest.mark.parametrize(("change", "said"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_said_at_training_and_refused_later(project, capsys, change, said):
    change(project.folder / "Task001_Blobs")
    assert project.train() == 0
    warned = capsys.readouterr().err
    assert "will not predict raw images" in warned
    assert said in warned
    assert (
        project.lannunet("predict", project.out, project.raw / "imagesTr", "-o", project.folder / "new") == 2
    )
    assert said in capsys.readouterr().err
    assert not (project.folder / "new").exists()


def test_images_that_are_prepared_in_another_way_are_refused(project, capsys):
    assert project.train() == 0
    write_plan(project.folder / "Task001_Blobs", use_mask_for_norm={0: True})
    project.set(
        trainer={"inference_only": True},
        model={"checkpoint": str(project.out)},
        output={"output_dir": "evaluated"},
    )
    assert project.train() == 2
    assert "prepared as in another" in capsys.readouterr().err

    project.set(
        dataset={"root": project.raw.name}, trainer={"inference_only": False}, model={"checkpoint": None}
    )
    project.set(preprocess={"spacing": [2.0, 1.0, 1.0]}, output={"output_dir": "of_raw"})
    assert project.train() == 0
    project.set(
        dataset={"root": "Task001_Blobs"},
        preprocess={"spacing": None},
        trainer={"inference_only": True},
        model={"checkpoint": str(project.folder / "of_raw")},
        output={"output_dir": "evaluated"},
    )
    assert project.train() == 2
    assert "was trained on raw images" in capsys.readouterr().err
    project.set(dataset={"root": project.raw.name})
    assert project.train() == 0  # with the model's spacing, and it says so
    assert "was trained with spacing (2.0, 1.0, 1.0)" in capsys.readouterr().err


def test_keys_that_do_nothing_to_prepared_images(project, capsys):
    for preprocess in (
        {"spacing": [1.0, 1.0, 1.0]},
        {"normalisation": ["ct"], "clip": [[0.0, 1.0, 0.5, 1.0]]},
    ):
        project.config["preprocess"] = preprocess
        project.set()
        assert project.train() == 2
        assert "prepared already" in capsys.readouterr().err
