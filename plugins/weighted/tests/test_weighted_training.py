"""Runs with weight maps and class weights (`plugins/weighted`), from the command line to the metrics."""

import csv
import fcntl
import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation import read_dataset
from lannunet_weighted.maps import weight_map
from lannunet_weighted.training import generate_maps

from lannunet_core.errors import UserError

CLASSES = "nnUNetTrainer_V2_Loss_CEandDice_Weighted"


def losses(project) -> list[float]:
    return [row["loss"] for row in project.metrics()]


def predictions(project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((project.out / "predictions").iterdir())}


def labels(project, part="Tr") -> dict[str, np.ndarray]:
    return {
        path.name.partition(".")[0]: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in sorted((project.raw / f"labels{part}").iterdir())
    }


def write_maps(project, make, folder="weightmapsTr", part="Tr") -> None:
    """Write a map for each case: the result of `make` (label (*S))."""
    (project.raw / folder).mkdir(exist_ok=True)
    for case, label in labels(project, part).items():
        np.save(project.raw / folder / f"{case}_weightmap.npy", make(label)[None].astype(np.float32))


def diag_folder(folder, shape) -> None:
    """A folder as nnU-Net version 1 preprocesses it, in the layout that DIAG's text shows."""
    stage = folder / ("nnUNetData_plans_v2.1_2D_stage0" if shape[0] == 1 else "nnUNetData_plans_v2.1_stage0")
    stage.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(5):
        case = f"hippocampus_{n:03d}"
        data = rng.normal(0, 0.3, (2, *shape)).astype(np.float32)
        data[1] = 0
        corner = [rng.integers(0, side // 2 + 1) for side in shape[1:]]
        box = (slice(None), *(slice(c, c + side // 2) for c, side in zip(corner, shape[1:], strict=True)))
        data[0][box] += 2
        data[1][box] = 1
        np.savez_compressed(stage / f"{case}.npz", data=data)
        if n == 0:  # nnU-Net unpacks what it trains on
            np.save(stage / f"{case}.npy", data)
        properties = OrderedDict(
            classes=np.array([0.0, 1.0], np.float32),
            size_after_resampling=shape,
            spacing_after_resampling=np.array([2.0, 0.75, 0.75]),
        )
        (stage / f"{case}.pkl").write_bytes(pickle.dumps(properties))
        weights = weight_map(data[1].astype(np.int16), [1], "nearest")
        np.save(stage / f"{case}_weightmap.npy", weights[None])
    plans = {
        "data_identifier": stage.name.rpartition("_stage")[0],
        "num_modalities": 1,
        "modalities": {0: "MRI"},
        "num_classes": 1,
        "plans_per_stage": {
            0: {
                "current_spacing": np.array([2.0, 0.75, 0.75]),
                "patch_size": np.array(shape[1:] if shape[0] == 1 else shape),
            }
        },
    }
    (folder / f"nnUNetPlansv2.1_plans_{'2D' if shape[0] == 1 else '3D'}.pkl").write_bytes(pickle.dumps(plans))
    content = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "anterior"},
    }
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "shape"), [("nnUNetTrainerV2Weighted", (12, 16, 20)), ("weighted", (1, 32, 40))]
)
def test_the_diag_layout_trains_as_it_is_and_figures_are_weighted_and_unweighted(
    segmentation_project, capsys, name, shape
):
    project = segmentation_project()
    diag_folder(project.folder / "Task004_Hippocampus", shape)
    patch = [16, 16, 8] if shape[0] > 1 else [32, 24]
    project.set(
        dataset={"root": "Task004_Hippocampus"},
        sampler={"patch": {"sample_patch_size": patch}, "data_aug": "None"},
        solver={"max_epochs": 4, "mini_batch_size": 15, "base_lr": 0.01},
        trainer={"plugins": [name], "fold": 0, "validate_every": 1},
        inference={"split": "validation", "tta": False},
    )
    assert project.train() == 0
    printed = capsys.readouterr().out
    last = min(project.metrics(), key=lambda row: row["validation_error"])  # the model that is evaluated
    assert last["validation_error"] < 0.3
    assert 0 < last["weighted_validation_error"] < 1
    assert last["weighted_validation_error"] != last["validation_error"]
    assert f"weighted validation error {last['weighted_validation_error']:.3f}" in printed
    with (project.out / "cases.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    # What training measured on the prepared grid, which here is the cases' own.
    assert 1 - float(row["dice"]) == pytest.approx(last["validation_error"], abs=1e-3)
    assert 1 - float(row["weighted_dice"]) == pytest.approx(last["weighted_validation_error"], abs=2e-3)
    assert "weighted" in (project.out / "report.html").read_text()


@pytest.mark.parametrize("plugins", [[], ["sparse"]])
def test_constant_weights_change_nothing(segmentation_project, plugins):
    """The first step's loss, which both terms make up; later steps would multiply what rounding changes."""
    found = []
    for constant in (None, 0.1, 1, 7):
        project = segmentation_project(name=f"by{constant}")
        if plugins:
            project.relabel(lambda label, n: np.where(np.arange(label.shape[2]) % 3 == 0, label, -1))
        project.set(
            solver={"max_epochs": 1, "mini_batch_size": 1},
            sampler={"data_aug": "None"},
            trainer={"plugins": plugins},
        )
        if constant is not None:
            write_maps(project, lambda label, constant=constant: np.full(label.shape, constant))
            project.set(trainer={"plugins": [*plugins, "weighted"]})
        assert project.train() == 0
        found.append(project.metrics()[0]["terms"])
    for terms in found[1:]:
        assert terms == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize("plugin", ["sparse", "sparse-normal-sampling"])
def test_what_has_no_weight_teaches_nothing(segmentation_project, plugin):
    """Replacing labels of weight 0 by another class gives the same model."""
    found = []
    for other in (None, 2):
        project = segmentation_project(name=f"as{other}")
        known = np.arange(20) < 12

        def change(label, number, known=known, other=other):
            label = label if other is None else np.where(known, label, other)
            return np.where(np.arange(label.shape[0])[:, None, None] % 2 == 0, label, -1)

        project.relabel(change)
        write_maps(project, lambda label, known=known: np.broadcast_to(2.5 * known, label.shape))
        # Patches are drawn in a way that does not depend on labels.
        project.set(trainer={"plugins": [plugin, "weighted"]})
        if plugin == "sparse-normal-sampling":
            project.set(sampler={"foreground_share": 0.0})
        assert project.train() == 0
        found.append((losses(project), predictions(project)))
    assert found[0] == found[1]


def test_weights_matter(segmentation_project):
    found = []
    for seed in (0, 1):
        project = segmentation_project(name=f"maps{seed}")
        rng = np.random.default_rng(seed)
        write_maps(project, lambda label, rng=rng: rng.random(label.shape))
        project.set(trainer={"plugins": ["weighted"]})
        assert project.train() == 0
        found.append(losses(project)[0])
    assert found[0] != pytest.approx(found[1], rel=1e-4)


def test_maps_of_a_raw_data_set_are_resampled_with_their_case(segmentation):
    """Maps in a folder that the YAML names, one as an image file; test cases with a map are weighted too."""
    write_maps(segmentation, lambda label: 1.0 + label, folder="trust")
    write_maps(segmentation, lambda label: 1.0 + label, folder="trust", part="Ts")
    first = segmentation.raw / "trust" / "Tr0_weightmap.npy"
    sitk.WriteImage(sitk.GetImageFromArray(np.load(first)[0]), str(first.with_suffix(".nii.gz")))
    first.unlink()
    (segmentation.raw / "trust" / "Ts1_weightmap.npy").unlink()
    segmentation.set(
        trainer={"plugins": ["weighted"], "weighted": {"folder": "Dataset001_Blobs/trust"}},
        preprocess={"spacing": [2.0, 2.0, 2.0]},
    )
    assert segmentation.train() == 0
    (path,) = segmentation.folder.glob("preprocessed/*/Tr0/map_weightmap.npy")
    assert np.load(path).shape == (8, 12, 10)
    with (segmentation.out / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["weighted_dice"]) for row in rows] == [True, True, False, False]


def test_maps_are_made_before_training_and_again_when_a_label_changes(segmentation):
    generate = {"generate": "unet_border", "w0": 5.0, "sigma": 2.0}
    segmentation.set(trainer={"plugins": ["weighted"], "weighted": generate, "fold": 0, "validate_every": 1})
    assert segmentation.train() == 0
    made = sorted(segmentation.folder.glob("preprocessed/*-weightmaps-*/*_weightmap.npy"))
    assert [path.stem.partition("_")[0] for path in made] == [f"Tr{n}" for n in range(5)] + ["Ts0", "Ts1"]
    for path, label in zip(made, labels(segmentation).values(), strict=False):
        expected = weight_map(label.astype(np.int16), [1, 2], "unet", w0=5, sigma=2)
        np.testing.assert_allclose(np.load(path)[0], expected, rtol=1e-3)

    before = [path.read_bytes() for path in made]
    inodes = [path.stat().st_ino for path in made]
    segmentation.relabel(lambda label, number: label if number else label[::-1].copy())
    first, *others = (path.stat().st_mtime_ns for path in sorted((segmentation.raw / "labelsTr").iterdir()))
    assert first and len(others) == 4
    assert segmentation.train("--overwrite") == 0
    after = [path.read_bytes() for path in made]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False] + [True] * 6
    assert [path.stat().st_ino for path in made[5:]] == inodes[5:]  # test labels stayed, and so their maps
    assert "weighted_validation_error" in segmentation.metrics()[-1]


def test_maps_that_were_made_before_an_interruption_are_kept(segmentation):
    segmentation.write()
    dataset, folder = read_dataset(segmentation.raw), segmentation.folder / "preprocessed"
    damaged = sorted((segmentation.raw / "labelsTr").iterdir())[3]
    sound = damaged.read_bytes()
    damaged.write_bytes(b"")
    with pytest.raises(UserError):
        generate_maps(dataset, folder, "unet", 10, 5)
    made = {path: path.stat().st_ino for path in folder.rglob("*_weightmap.npy")}
    assert len(made) == 3
    damaged.write_bytes(sound)
    generate_maps(dataset, folder, "unet", 10, 5)
    assert {path: path.stat().st_ino for path in made} == made
    assert len([*folder.rglob("*_weightmap.npy")]) == 7


def test_maps_are_made_again_where_map_or_record_are_damaged(segmentation):
    segmentation.write()
    dataset, folder = read_dataset(segmentation.raw), segmentation.folder / "preprocessed"
    made = sorted(generate_maps(dataset, folder, "unet", 10, 5).values())
    sound = [path.read_bytes() for path in made]
    made[0].write_bytes(sound[0][:50])
    made[1].unlink()
    for path, damaged in zip(made[2:], (b"", b"[[[[", b'{"a": 1}', b"[[1, 2], [3, 4]]"), strict=False):
        path.with_suffix(".json").write_bytes(damaged)
        path.write_bytes(b"other")
    generate_maps(dataset, folder, "unet", 10, 5)
    assert [path.read_bytes() for path in made] == sound


def test_a_share_that_takes_bytes_only(segmentation, monkeypatch):
    """File servers that refuse permissions, times and locks."""

    def refused(path, *arguments, **named):
        raise PermissionError(1, "Operation not permitted", str(path))

    for name in ("utime", "chmod", "chown", "link", "symlink"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(fcntl, "flock", refused)
    segmentation.set(trainer={"plugins": ["weighted"], "weighted": {"generate": "unet_border"}})
    assert segmentation.train() == 0
    assert segmentation.train("--overwrite") == 0


@pytest.mark.parametrize("generate", ["unet_border", "nearest_border", None])
def test_a_case_without_foreground_trains(segmentation, generate):
    segmentation.relabel(lambda label, number: label * (number != 1))
    if generate is None:
        assert segmentation.lannunet("weightmaps", segmentation.raw) == 0
    segmentation.set(trainer={"plugins": ["weighted"], "weighted": {"generate": generate}})
    assert segmentation.train() == 0


@pytest.mark.parametrize(
    ("name", "section", "noted"),
    [
        ("nnUNetTrainerV2Weighted", {}, True),
        ("nnunettrainerv2weighted", {"dice_factor": 0.5}, True),
        ("nnUNetTrainerV2Weighted", {"dice_factor": 0.0}, False),
        ("weighted", {}, False),
    ],
)
def test_a_note_tells_what_diags_trainer_does_otherwise(segmentation, capsys, name, section, noted):
    segmentation.set(trainer={"plugins": [name], "weighted": {"generate": "unet_border", **section}})
    assert segmentation.train() == 0
    assert ("trainer.weighted.dice_factor: 0" in capsys.readouterr().err) == noted


def spoil(value):
    def change(folder):
        path = folder / "Tr1_weightmap.npy"
        weights = np.load(path)
        if value is None:
            path.unlink()
        elif value == "shape":
            np.save(path, weights[:, :-1])
        elif value == "zero":
            np.save(path, 0 * weights)
        else:
            weights.flat[7] = value
            np.save(path, weights)

    return change


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ("no weight map of case Tr1", "Tr1_weightmap.npy", "lannunet weightmaps")),
        ("shape", ("Tr1_weightmap.npy", "shape", "(15, 24, 20)", "(16, 24, 20)")),
        (-1.0, ("Tr1_weightmap.npy", "negative")),
        (np.nan, ("Tr1_weightmap.npy", "not finite")),
        (np.inf, ("Tr1_weightmap.npy", "not finite")),
        ("zero", ("Tr1_weightmap.npy", "nothing but zeros")),
    ],
)
def test_maps_that_cannot_be_are_refused_before_training(segmentation, capsys, value, said):
    write_maps(segmentation, lambda label: np.ones(label.shape))
    spoil(value)(segmentation.raw / "weightmapsTr")
    segmentation.set(trainer={"plugins": ["weighted"]})
    assert segmentation.train() == 2
    message = capsys.readouterr().err
    assert all(word in message for word in said), message
    assert "Traceback" not in message
    assert not segmentation.out.exists()


def test_a_damaged_map_of_a_test_case_is_found_before_training_too(segmentation, capsys):
    write_maps(segmentation, lambda label: np.ones(label.shape))
    write_maps(segmentation, lambda label: -np.ones(label.shape), folder="weightmapsTs", part="Ts")
    segmentation.set(trainer={"plugins": ["weighted"]})
    assert segmentation.train() == 2
    assert "negative" in capsys.readouterr().err
    assert not segmentation.out.exists()


def test_weights_masks_and_class_weights_compose_in_any_order(segmentation_project, capsys):
    found = []
    for plugins in (
        ["sparse", "weighted", "ce-dice-weighted"],
        [CLASSES, "nnUNetTrainerV2Weighted", "sparse"],
    ):
        project = segmentation_project(name=plugins[0])
        project.relabel(lambda label, number: np.where(np.arange(label.shape[2]) % 3 == 0, label, -1))
        settings = {"generate": "unet_border", "ce_factor": 0.5}
        project.set(trainer={"plugins": plugins, "weighted": settings})
        assert project.train() == 0
        counts = sum(np.bincount(label[label >= 0], minlength=3) for label in labels(project).values())
        shown = capsys.readouterr().out
        weights = 3 / counts / (1 / counts).sum()
        assert f"bright {weights[1]:.3g}, dark {weights[2]:.3g}" in shown
        found.append((losses(project), predictions(project)))
    assert found[0] == found[1]


def test_factors_belong_to_their_terms(segmentation_project):
    found = []
    for name, factors in (("plain", {}), ("changed", {"ce_factor": 3.0, "dice_factor": 0})):
        project = segmentation_project(name=name)
        write_maps(project, lambda label: 1.0 + label)
        project.set(
            solver={"max_epochs": 1, "mini_batch_size": 1},
            trainer={"plugins": ["weighted"], "weighted": factors},
        )
        assert project.train() == 0
        found.append(project.metrics()[0]["terms"])
    assert found[1]["cross_entropy"] == pytest.approx(3 * found[0]["cross_entropy"], rel=1e-6)
    assert (found[1]["dice"], found[0]["dice"] > 0) == (0, True)


def test_class_weights_given_by_name_are_those_given_as_a_list(segmentation_project):
    found = []
    for name, given in (("list", [1, 1, 6]), ("mapping", {"dark": 6}), ("none", [1, 1, 1]), ("plain", None)):
        project = segmentation_project(name=name)
        if given is not None:
            project.set(trainer={"plugins": [CLASSES], "ce-dice-weighted": {"class_weights": given}})
        assert project.train() == 0
        found.append(losses(project))
    assert found[0] == found[1]
    assert found[2] == pytest.approx(found[3], rel=1e-5)
    assert found[0][0] != pytest.approx(found[2][0], rel=1e-3)


@pytest.mark.parametrize("ignore", ["dark", 2])
def test_an_ignored_class_teaches_nothing(segmentation_project, ignore):
    """With weight 0 for class 2, its voxels might as well be unlabelled."""
    found = []
    for ignored in (True, False):
        project = segmentation_project(name=f"ignored{ignored}")
        if not ignored:
            project.relabel(lambda label, number: np.where(label == 2, -1, label))
        settings = {"class_weights": [1, 1, 0], "ignore_label": ignore if ignored else None}
        project.set(trainer={"plugins": ["sparse-normal-sampling", CLASSES], "ce-dice-weighted": settings})
        project.set(sampler={"foreground_share": 0.0})  # patches are drawn alike
        assert project.train() == 0
        found.append((losses(project), predictions(project)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weights": [1, 2]}, ("2 weights for 3 classes", "background, bright, dark")),
        ({"class_weights": {"Bright": 2}}, ("'Bright' is not a class", "bright")),
        ({"class_weights": [1, 0, 0]}, ("every class except the background has the weight 0",)),
        ({"class_weights": [1, -1, 0]}, ("trainer.ce-dice-weighted.class_weights",)),
        ({"class_weights": "inverse"}, ("inverse_frequency", "effective_number")),
        ({"ignore_label": "grey"}, ("grey is not a class", "1 bright")),
        ({"ignore_label": 3}, ("3 is not a class", "2 dark")),
    ],
)
def test_class_weights_that_cannot_be(segmentation, capsys, settings, said):
    segmentation.set(trainer={"plugins": ["ce-dice-weighted"], "ce-dice-weighted": settings})
    assert segmentation.train() == 2
    message = capsys.readouterr().err
    assert all(word in message for word in said), message
    assert "Traceback" not in message
    assert not segmentation.out.exists()


def test_weights_need_a_class_that_is_annotated(segmentation, capsys):
    segmentation.relabel(lambda label, number: 0 * label)
    segmentation.set(trainer={"plugins": ["ce-dice-weighted"]})
    assert segmentation.train() == 2
    assert "needs a voxel of at least one class" in capsys.readouterr().err


@pytest.mark.parametrize("plugin", ["weighted", "ce-dice-weighted"])
def test_landmarks_have_no_voxels_to_weigh(project, capsys, plugin):
    project.set(trainer={"plugins": [plugin]})
    assert project.train() == 2
    assert plugin in (message := capsys.readouterr().err)
    assert "segmentation" in message


OTHER_LOSS = """
from lannunet_core import Plugin, hookimpl

class Other(Plugin):
    @hookimpl
    def losses(self):
        from lannunet_segmentation import CrossEntropyDice

        class Alone:
            def __call__(self, outputs, labels):
                return CrossEntropyDice()(outputs, labels)

            def activation(self, outputs):
                return CrossEntropyDice().activation(outputs)

        return {"alone": Alone}
"""


@pytest.mark.parametrize("settings", [{"weighted": {"ce_factor": 2.0}}, {"ce-dice-weighted": {}}])
def test_another_loss_cannot_be_weighted_so(segmentation, distribution, capsys, settings):
    distribution("other", {"other": "other_loss:Other"}, {"other_loss.py": OTHER_LOSS})
    (plugin,) = settings
    segmentation.set(trainer={"plugins": ["other", plugin], **settings}, solver={"loss_function": "alone"})
    assert segmentation.train() == 2
    assert f"trainer.{plugin}: changes solver.loss_function: ce_dice" in capsys.readouterr().err


def test_a_model_of_weights_is_used_and_evaluated_without_them(segmentation):
    segmentation.set(
        trainer={"plugins": ["weighted", "ce-dice-weighted"], "weighted": {"generate": "unet_border"}}
    )
    assert segmentation.train() == 0
    image = segmentation.raw / "imagesTs" / "Ts0_0000.nii.gz"
    assert segmentation.lannunet("predict", segmentation.out, image, "-o", segmentation.folder / "new") == 0
    assert (segmentation.folder / "new" / "Ts0.nii.gz").read_bytes() == predictions(segmentation)[
        "Ts0.nii.gz"
    ]
    segmentation.set(
        trainer={"inference_only": True, "weighted": {"generate": None}},
        model={"checkpoint": "out/checkpoints/best.safetensors"},
        output={"output_dir": "again"},
    )
    assert segmentation.train() == 0
