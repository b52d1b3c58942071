"""Cascades: a first stage at a coarse spacing, a second one that sees its segmentation."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_bundles.manifest import MANIFEST
from lannunet_segmentation.cascade import as_recorded, divided

from lannunet_core import api, load_checkpoint, load_config
from lannunet_core.errors import UserError
from tests.fixtures.nnunet import preprocessed
from tests.fixtures.projects import SegmentationProject

SIZES = {2: (48, 32), 3: (40, 24, 16)}


def draw_sides(folder: Path, size, training=12, testing=2) -> SegmentationProject:
    """Equal balls on both halves of images, one half with a mark at its border: 1 is there, 2 is not.

    Nothing near a ball tells which one it is. The project trains a cascade; sizes are (x, y[, z]).
    """
    project = SegmentationProject(folder, {}, {})
    rng = np.random.default_rng(0)
    grid, dimensions = np.stack(np.indices(size[::-1])[::-1], axis=-1), len(size)
    for part, count in (("Tr", training), ("Ts", testing)):
        for kind in ("images", "labels"):
            (project.raw / f"{kind}{part}").mkdir(parents=True)
        for number in range(count):
            pixels, label = rng.normal(100, 4, size[::-1]), np.zeros(size[::-1], np.uint8)
            pixels[(slice(None, None, 8),) * dimensions] -= 60  # no patch is nothing but noise
            turned = number % 2
            pixels[..., slice(-4, None) if turned else slice(4)] += 80
            for value, share in ((1, 0.25), (2, 0.75)):
                centre = rng.uniform(0.35, 0.65, dimensions)
                centre[0] = (1 - share if turned else share) + rng.uniform(-0.04, 0.04)
                inside = ((grid - centre * (np.array(size) - 1)) ** 2).sum(-1) < 5**2
                pixels[inside] += 60
                label[inside] = value
            for kind, array, channel in (("images", pixels.clip(0, 255), "_0000"), ("labels", label, "")):
                image = sitk.GetImageFromArray(array.astype(np.uint8))
                image.SetSpacing((1.0,) * dimensions)
                path = project.raw / f"{kind}{part}" / f"{part}{number}{channel}.nii.gz"
                sitk.WriteImage(image, str(path))
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "near": 1, "far": 2},
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    (project.raw / "dataset.json").write_text(json.dumps(description))
    project.config = {
        "task": "segmentation",
        "dataset": {"root": project.raw.name},
        "preprocess": {"spacing": [4.0] * dimensions},
        "sampler": {
            "patch": {"sample_patch_size": [8] * dimensions},
            "num_workers": 0,
            "data_aug": "None",
        },
        "solver": {"max_epochs": 1, "mini_batch_size": 4},
        "trainer": {"fold": "all"},
        "model": {"architecture": "unet", "unet": {"init_features": 8, "max_features": 32}},
        "output": {"output_dir": "out"},
        "refine": {
            "preprocess": {"spacing": [1.0] * dimensions},
            "sampler": {"patch": {"sample_patch_size": [16] * dimensions}},
        },
    }
    return project


def labels_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def dice(run):
    return json.loads((run / "summary.json").read_text())["overall"]["dice"]["mean"]


@pytest.fixture(params=[2, 3])
def staged(request, tmp_path):
    return draw_sides(tmp_path / "project", SIZES[request.param], training=3)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Two folds of a cascade, each evaluated on what it holds out."""
    project = draw_sides(tmp_path_factory.mktemp("folds") / "project", SIZES[2], training=5)
    project.set(inference={"split": "validation"}, output={"output_dir": "cv"})
    small = {"init_features": 8, "max_features": 16, "blocks": [1]}
    project.config["refine"]["model"] = {"architecture": "resenc", "resenc": small}
    assert project.train("--folds", "0,1") == 0
    return project


def test_the_runs_folder_predicts_what_its_evaluation_did(staged, capsys):
    assert staged.train() == 0
    printed, second = capsys.readouterr().out, staged.out / "refine"
    assert f"the run's final results: {second}" in printed.splitlines()[-1]
    images = sorted((staged.raw / "imagesTs").iterdir())
    assert staged.lannunet("predict", staged.out, *images, "-o", staged.folder / "new") == 0
    model = api.load(staged.out)
    for image in images:
        name = image.name.replace("_0000", "")
        evaluated = labels_of(second / "predictions" / name)
        assert set(np.unique(evaluated)) != {0}
        np.testing.assert_array_equal(labels_of(staged.folder / "new" / name), evaluated)
        (found,) = model.predict([image])
        np.testing.assert_array_equal(found.labels, evaluated)

    # Each is an ordinary run; the second sees both classes, and all training images as the first sees them.
    runs = [json.loads((run / "run.json").read_text())["run"] for run in (staged.out, second)]
    assert [run["in_channels"] for run in runs] == [1, 3]
    second_keys = staged.config.pop("refine")
    assert staged.train("--set", f"output.output_dir={staged.folder / 'first'}") == 0
    staged.config["refine"] = second_keys
    first = api.load(staged.folder / "first")
    for number in range(3):
        (found,) = first.predict([staged.raw / "imagesTr" / f"Tr{number}_0000.nii.gz"])
        np.testing.assert_array_equal(np.load(staged.out / "next_stage" / f"Tr{number}.npy"), found.labels)

    assert not (staged.out / "preprocessed").exists()  # other runs share it
    assert len(list((staged.folder / "preprocessed").iterdir())) == 2

    # Who opens the first one's results is sent to the final ones, which are compared with them.
    assert "This is the first of two stages." in (staged.out / "report.html").read_text()
    summaries = [json.loads((run / "summary.json").read_text()) for run in (staged.out, second)]
    assert summaries[0]["final"] == "refine/summary.json"
    assert list(summaries[1]["comparison"]) == ["first stage"]


def test_a_second_stage_alone_or_missing_is_refused(folds, tmp_path, capsys):
    run, image = folds.folder / "cv" / "fold0", folds.raw / "imagesTs" / "Ts0_0000.nii.gz"
    assert folds.lannunet("predict", run / "refine", image, "-o", tmp_path / "out") == 2
    assert "give the folder of the run in two stages that it belongs to" in capsys.readouterr().err
    assert folds.lannunet("bundle", "export", run, "-o", tmp_path / "a.onnx") == 2
    assert "predicts in two stages" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "refine")
    assert folds.lannunet("predict", copy, image, "-o", tmp_path / "out") == 2
    assert str(copy / "refine") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folds_predict_together(folds, tmp_path):
    """First what all first stages find, then all second stages; a model and its copy are that model."""
    cv, image = folds.folder / "cv", folds.raw / "imagesTs" / "Ts0_0000.nii.gz"

    def found(*models):
        (one,) = api.load(models[0], also=models[1:]).predict([image], probabilities=True)
        return one

    alone = [found(cv / f"fold{number}") for number in range(2)]
    both = found(cv)
    assert np.abs(both.probabilities - alone[0].probabilities).max() > 0.01
    copied = shutil.copytree(cv / "fold0", tmp_path / "copied")
    np.testing.assert_allclose(found(cv / "fold0", copied).probabilities, alone[0].probabilities, atol=3e-3)
    both_keys = dict(folds.config)
    del folds.config["refine"]
    assert folds.train("--set", f"output.output_dir={tmp_path / 'plain'}", "--set", "trainer.fold=1") == 0
    folds.config = both_keys
    mixed = found(cv / "fold0", tmp_path / "plain").probabilities
    mean = (alone[0].probabilities + found(tmp_path / "plain").probabilities) / 2
    np.testing.assert_allclose(mixed, mean, atol=3e-3)
    assert folds.lannunet("predict", cv, image, "-o", tmp_path / "out") == 0
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "Ts0.nii.gz"), both.labels)
    bundle = tmp_path / "cv.lnb"
    assert folds.lannunet("bundle", "create", cv, "-o", bundle) == 0
    np.testing.assert_array_equal(found(bundle).probabilities, both.probabilities)
    with zipfile.ZipFile(bundle) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    assert {"unet", "resenc"} <= {plugin["name"] for plugin in manifest["plugins"]}  # of both stages
    assert any(one.startswith("lannunet-resenc") for one in manifest["requires"])


def test_a_second_stage_does_not_replace_its_first(folds, capsys):
    run = folds.folder / "cv" / "fold0"
    model = run / "checkpoints" / "best.safetensors"
    before = model.read_bytes()
    options = ("--set", f"output.output_dir={run}", "--overwrite")
    assert folds.lannunet("train", run / "refine" / "config.yaml", *options) == 2
    assert "preprocess.previous_stage" in capsys.readouterr().err
    assert model.read_bytes() == before


def test_evaluation_is_of_the_second_stage(folds, tmp_path, capsys):
    cv = folds.folder / "cv"
    second = cv / "fold0" / "refine"
    assert dice(second) != dice(cv / "fold0")
    assert folds.lannunet("evaluate", cv / "fold0", folds.raw, "-o", tmp_path / "one") == 0
    assert dice(tmp_path / "one") == pytest.approx(dice(second))
    assert folds.lannunet("evaluate", "--runs", cv / "fold0", cv / "fold1", "-o", tmp_path / "all") == 0
    cases = json.loads((tmp_path / "all" / "summary.json").read_text())["dice"]
    held_out = json.loads((second / "summary.json").read_text())["dice"]
    assert held_out.items() <= cases.items()
    assert len(cases) == 2
    capsys.readouterr()
    assert folds.train("--folds", "0,1") == 0
    assert "fold 1 is finished" in capsys.readouterr().out
    folds.config["refine"]["solver"] = {"max_epochs": 2}
    assert folds.train("--folds", "0") == 2
    assert "solver.max_epochs was 1, is 2" in capsys.readouterr().err
    del folds.config["refine"]["solver"]


def test_a_run_resumed_without_its_second_stage_is_the_first(tmp_path):
    project = draw_sides(tmp_path / "project", SIZES[2], training=3)
    assert project.train() == 0
    assert dice(project.out) != dice(project.out / "refine")
    del project.config["refine"]
    assert project.train("--resume") == 0
    assert project.lannunet("evaluate", project.out, project.raw, "-o", tmp_path / "found") == 0
    assert dice(tmp_path / "found") == pytest.approx(dice(project.out))


def test_a_run_goes_on_in_either_stage(tmp_path, workshop, monkeypatch):
    project = draw_sides(tmp_path / "project", SIZES[2], training=3)
    project.set(trainer={"plugins": ["saboteur"]}, solver={"max_epochs": 2, "mini_batch_size": 3})
    whole = project.folder / "whole"
    assert project.train("--set", f"output.output_dir={whole}") == 0
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "epoch 1 SIGINT")
        assert project.train() == 130
        assert not (project.out / "refine").exists()
        assert project.train("--resume") == 130
        assert (project.out / "refine" / "checkpoints").exists()
    assert project.train("--resume") == 0
    for name in ("Ts0.nii.gz", "Ts1.nii.gz"):
        path = Path("refine") / "predictions" / name
        np.testing.assert_array_equal(labels_of(project.out / path), labels_of(whole / path))
    assert dice(project.out / "refine") == dice(whole / "refine")


def test_impossible_second_stages_are_refused_before_the_first(tmp_path, capsys):
    project = draw_sides(tmp_path / "project", SIZES[2], training=2, testing=1)

    def refused(said, *overrides, command="train", **refine):
        before = project.config["refine"]
        project.config["refine"] = before | refine
        project.write()
        options = [word for one in overrides for word in ("--set", one)]
        words = ("config", "check") if command == "check" else ("train",)
        assert project.lannunet(*words, project.yaml, *options) == 2
        assert said in capsys.readouterr().err
        assert not project.out.exists()
        project.config["refine"] = before

    refused("the rest is the first's", inference={"tta": True})
    refused("Remove this key", preprocess={"previous_stage": "out"})
    refused("fold: the first stage has all. Both stages hold out the same images", trainer={"fold": 1})
    refused("seed: the first stage has 0. Both stages hold out the same images", solver={"seed": 1})
    refused(
        "the first stage has False. Both stages are trained, or neither", trainer={"inference_only": True}
    )
    refused("is a second stage, and has none itself", "preprocess.previous_stage=other")
    for command in ("train", "check"):
        refused(
            "refine (the second stage): preprocess.spacing: [1.0, 1.0, 1.0] has 3 numbers",
            command=command,
            preprocess={"spacing": [1.0, 1.0, 1.0]},
        )
    refused("leave one pixel at the coarsest level", model={"unet": {"strides": [[2, 2]] * 6}})
    timed = ("solver.max_epochs=auto", "solver.budget_minutes=2")
    for command in ("train", "check"):
        refused(
            "12 minutes of the second stage are part of the 2 of both",
            *timed,
            command=command,
            solver={"budget_minutes": 12.0},
        )


def test_stages_share_the_minutes(tmp_path):
    """Half each, unless the second's are given."""
    project = draw_sides(tmp_path / "project", SIZES[2], training=2, testing=1)
    project.config["solver"] = {"budget_minutes": 5.0}
    project.write()
    loaded = load_config(project.yaml)
    first = divided(loaded)
    assert first.run.solver.budget_minutes == loaded.refine.run.solver.budget_minutes == 2.5
    recorded = {"solver": {"budget_minutes": 2.5}}  # a resumed run is compared, whichever it is given as
    assert as_recorded(loaded, recorded) == as_recorded(first, recorded) == first
    fixed = load_config(project.yaml, ["solver.max_epochs=3"])
    assert divided(fixed) == fixed  # nothing is timed
    project.config["refine"]["solver"] = {"budget_minutes": 1.0}
    project.write()
    loaded = load_config(project.yaml)
    assert divided(loaded).run.solver.budget_minutes == 4
    assert loaded.refine.run.solver.budget_minutes == 1


@pytest.mark.slow
def test_each_stage_is_trained_for_its_minutes(tmp_path):
    project = draw_sides(tmp_path / "project", SIZES[2], training=2, testing=1)
    project.config["solver"] = {"budget_minutes": 0.2, "mini_batch_size": 2}
    assert project.train() == 0
    runs = (project.out, project.out / "refine")
    given = [load_checkpoint(run).config["solver"]["budget_minutes"] for run in runs]
    assert given == [0.1, 0.1]
    sized = [json.loads((run / "run.json").read_text())["sizing"]["budget"] for run in runs]
    assert sum(sized) == pytest.approx(0.2 * 60)
    assert project.train("--resume") == 0  # of the whole run's minutes as they were given


def test_another_set_is_evaluated_in_both_stages(folds, tmp_path):
    """With what was trained, and no training."""
    run = folds.folder / "cv" / "fold0"
    options = [
        "trainer.inference_only=true",
        "inference.split=testing",
        f"model.checkpoint={run}",
        f"output.output_dir={tmp_path / 'other'}",
    ]
    assert folds.train(*(word for one in options for word in ("--set", one))) == 0
    (found,) = api.load(run).predict([folds.raw / "imagesTs" / "Ts0_0000.nii.gz"])
    again = labels_of(tmp_path / "other" / "refine" / "predictions" / "Ts0.nii.gz")
    np.testing.assert_array_equal(again, found.labels)


def test_prepared_images_have_no_second_stage(tmp_path):
    stage = preprocessed(tmp_path / "Task001_Some")
    values = {
        "task": "segmentation",
        "dataset": {"root": str(stage)},
        "sampler": {"patch": {"sample_patch_size": [8, 8, 8]}},
        "output": {"output_dir": str(tmp_path / "out")},
        "refine": {"sampler": {"patch": {"sample_patch_size": [4, 4, 4]}}},
    }
    with pytest.raises(UserError, match="are prepared already, so there is no other spacing"):
        api.train(values)


@pytest.mark.slow
def test_resolved_configurations_repeat_both_stages_or_the_second(staged):
    assert staged.train() == 0
    for config, results in (("config.yaml", "refine"), ("refine/config.yaml", ".")):
        again = staged.folder / f"again{results}"
        option = f"output.output_dir={again}"
        assert staged.lannunet("train", staged.out / config, "--set", option) == 0
        assert dice(again / results) == dice(staged.out / "refine")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 32), (96, 32, 16)])
def test_a_cascade_learns_what_no_patch_shows(tmp_path, size):
    """Which ball is which; a run with the same patches at full resolution cannot."""
    project = draw_sides(tmp_path / "project", size)
    dimensions = len(size)
    project.set(solver={"max_epochs": 8, "mini_batch_size": 50, "data_loader_batch_size_train": 8})
    project.config["sampler"] |= {
        "foreground_share": 0.6,
        "patch": {"sample_patch_size": [24, 8, 4][:dimensions]},
    }
    project.config["refine"]["sampler"] = {"patch": {"sample_patch_size": [32, 32, 16][:dimensions]}}
    assert project.train() == 0
    cascade = dice(project.out / "refine")
    second = project.config.pop("refine")
    for section, keys in second.items():
        project.config[section] |= keys
    project.set(output={"output_dir": "plain"})
    assert project.train() == 0
    assert cascade > 0.75
    assert cascade > dice(project.out)
    assert dice(project.folder / "plain") < 0.6
