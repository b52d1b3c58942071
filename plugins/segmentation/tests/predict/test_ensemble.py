"""Ensembles: the mean of the members' class maps, regardless of their preprocessing."""

import json
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from lannunet_segmentation.predict import predictor
from lannunet_segmentation.predict.postprocessing import keep_largest
from lannunet_segmentation.predict.probabilities import writing_probabilities
from lannunet_segmentation.predict.resample import Part, label_map, mean_label_map

from lannunet_core import api
from lannunet_core.errors import RunFailed, UserError
from tests.fixtures.projects import draw_segmentation_project

HALF = 3e-3  # several roundings of numbers up to 1 to half precision


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Two folds in `cv`, and `other`, of other spacing, patches and network."""
    project = draw_segmentation_project(tmp_path_factory.mktemp("volumes"), spacing=(1.0, 1.0, 2.0))
    project.set(solver={"max_epochs": 2, "mini_batch_size": 4}, inference={"split": "validation"})
    project.set(output={"output_dir": "cv"})
    assert project.train("--folds", "0,1") == 0
    project.set(preprocess={"spacing": [1.5, 1.0, 1.5]}, output={"output_dir": "other"})
    project.set(sampler={"patch": {"sample_patch_size": [8, 16, 8]}}, solver={"seed": 1})
    project.set(model={"unet": {"init_features": 2, "max_features": 4}})
    project.set(trainer={"fold": "all"}, inference={"split": "testing"})
    assert project.train() == 0
    return project


def scan(project):
    return project.raw / "imagesTs" / "Ts0_0000.nii.gz"


def probabilities(model, image, **options):
    (found,) = api.load(model, **options).predict([image], probabilities=True)
    return found


def test_the_mean_of_the_members_probabilities(volumes):
    folds = [volumes.folder / "cv" / f"fold{number}" for number in range(2)]
    other, image = volumes.folder / "other", scan(volumes)
    alone = [probabilities(model, image).probabilities for model in (*folds, other)]
    assert np.abs(alone[0] - alone[1]).max() > 0.02  # they differ by more than rounding does
    for found, members in (
        (probabilities(volumes.folder / "cv", image), alone[:2]),
        (probabilities(folds[0], image, also=[other]), [alone[0], alone[2]]),
        (probabilities(volumes.folder / "cv", image, also=[other]), alone),
    ):
        np.testing.assert_allclose(found.probabilities, np.mean(members, 0), atol=HALF)
        np.testing.assert_array_equal(found.labels, found.probabilities.argmax(0))


def test_from_the_command_line(volumes, tmp_path, capsys):
    cv, image = volumes.folder / "cv", scan(volumes)
    expected = probabilities(cv, image).labels
    for name, words, also in (
        ("all", (cv,), ["fold1"]),
        ("listed", (cv / "fold0", "--also", cv / "fold1"), ["fold1"]),
        ("one", (cv, "--folds", "1"), None),
        ("chosen", (cv, "--folds", "0-1", "--also", volumes.folder / "other"), ["fold1", "other"]),
    ):
        out = tmp_path / name
        model, *options = words
        assert volumes.lannunet("predict", model, image, "-o", out, *options) == 0
        assert json.loads((out / "run.json").read_text()).get("also") == also
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "Ts0.nii.gz")))
        if name in ("all", "listed"):
            np.testing.assert_array_equal(found, expected)
    capsys.readouterr()
    assert volumes.lannunet("predict", cv, image, "-o", tmp_path / "new", "--folds", "0,7") == 2
    assert "cv has no trained fold 7" in capsys.readouterr().err
    assert volumes.lannunet("predict", cv, image, "-o", cv / "fold1", "--overwrite") == 2
    assert (cv / "fold1" / "checkpoints").is_dir()


def settings(*words):
    return [word for setting in words for word in ("--set", setting)]


def test_a_data_set_is_evaluated_by_the_folds_together(volumes, tmp_path, capsys):
    """Those of the output folder, and another model; the folds stay, also with --overwrite."""
    cv, other = tmp_path / "cv", volumes.folder / "other"
    shutil.copytree(volumes.folder / "cv", cv)
    shared = ("inference.ensemble_inference=true", "trainer.inference_only=true", f"output.output_dir={cv}")
    run = ("train", cv / "fold0" / "config.yaml", *settings(*shared))
    named = settings(f"inference.ensemble_checkpoints=[{cv}, {other}]")
    folds = [str(cv / f"fold{number}/checkpoints/best.safetensors") for number in range(2)]
    for more, also, members in (((), (), folds[1:]), (named, [other], [folds[1], str(other)])):
        capsys.readouterr()
        assert volumes.lannunet(*run, *more, *(["--overwrite"] if more else [])) == 0
        said = capsys.readouterr().err
        (case,) = json.loads((cv / "summary.json").read_text())["dice"]  # what the first fold holds out
        image = volumes.raw / f"imagesTr/{case}_0000.nii.gz"
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(cv / f"predictions/{case}.nii.gz")))
        np.testing.assert_array_equal(found, probabilities(cv, image, also=also).labels)
        resolved = yaml.safe_load((cv / "config.yaml").read_text())
        assert resolved["model"]["checkpoint"] == folds[0]
        assert resolved["inference"]["ensemble_checkpoints"] == members
        for model in (
            *folds,
            str(other),
        ):  # all folds except the one that holds them out were trained on them
            seen = model in members
            assert (f"warning: {model}: was trained on 1 of the 1 validation images" in said) == seen


def test_a_run_joins_the_models_that_it_names(volumes, tmp_path, capsys):
    run, other = ("train", volumes.folder / "cv/fold0/config.yaml"), volumes.folder / "other"
    words = settings(
        *("inference.ensemble_inference=true", f"inference.ensemble_checkpoints=[{other}]"),
        *("solver.max_epochs=1", "solver.mini_batch_size=1", "inference.split=testing"),
        f"output.output_dir={tmp_path / 'out'}",
    )
    assert volumes.lannunet(*run, *words) == 0
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/predictions/Ts0.nii.gz")))
    alone = probabilities(tmp_path / "out", scan(volumes)).labels
    np.testing.assert_array_equal(found, probabilities(tmp_path / "out", scan(volumes), also=[other]).labels)
    assert (found != alone).any()
    assert volumes.lannunet(*run, *words, "--resume") == 0
    kept = tmp_path / "other"
    shutil.copytree(other, kept)
    words[-1], words[3] = f"output.output_dir={kept}", f"inference.ensemble_checkpoints=[{kept}]"
    assert volumes.lannunet(*run, *words, "--overwrite") == 2
    assert f"inference.ensemble_checkpoints: {kept} is in" in capsys.readouterr().err
    assert (kept / "checkpoints/best.safetensors").is_file()


@pytest.mark.parametrize(
    ("inference", "said"),
    [
        ({"ensemble_inference": True}, "has no folds (fold0, fold1 …)"),
        (
            {"ensemble_inference": True, "ensemble_checkpoints": ["none.pt"]},
            "none.pt is not a model file or a run's folder",
        ),
        ({"ensemble_checkpoints": ["a.pt"]}, "is only read with inference.ensemble_inference: true"),
    ],
)
def test_impossible_ensembles_are_refused(segmentation, capsys, inference, said):
    segmentation.set(inference=inference)
    segmentation.write()
    for command in (("train",), ("config", "check")):
        assert segmentation.lannunet(*command, segmentation.yaml) == 2
        assert said in capsys.readouterr().err
    assert not segmentation.out.exists()


def test_probabilities_as_files(volumes, tmp_path, capsys):
    """Probabilities as in nnU-Net; those of the ensemble are in half precision, in a new folder."""
    cv, image, out = volumes.folder / "cv", scan(volumes), tmp_path / "out"
    command = ("predict", cv, image, "-o", out, "--save-probabilities")
    assert volumes.lannunet(*command) == 0
    with np.load(out / "Ts0.npz") as held:
        assert held.files == ["probabilities"]
        found = held["probabilities"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, probabilities(cv, image).probabilities.astype(np.float16))
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        *("Ts0.nii.gz", "Ts0.npz", "config.yaml", "run.json"),
    ]
    written = (out / "Ts0.npz").read_bytes()
    assert volumes.lannunet(*command, "--overwrite") == 0
    assert (out / "Ts0.npz").read_bytes() == written
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "Ts0.npz").write_text("theirs")
    capsys.readouterr()
    assert volumes.lannunet("predict", cv, image, "-o", theirs, "--save-probabilities") == 2
    assert re.search(r"lannunet did not write \S*Ts0\.npz", capsys.readouterr().err)
    assert (theirs / "Ts0.npz").read_text() == "theirs"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a full disk to write to")
def test_no_room_for_probabilities(tmp_path, monkeypatch):
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: full)
    with (
        pytest.raises(RunFailed, match="no room for"),
        writing_probabilities(tmp_path / "a.npz", (2, 3, 4)) as keep,
    ):
        keep(slice(0, 3), np.zeros((2, 3, 4), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_largest_components_where_the_folds_show_that_it_helps(volumes, tmp_path, capsys):
    cv, image = tmp_path / "cv", scan(volumes)
    shutil.copytree(volumes.folder / "cv", cv)
    command = ("predict", cv, image, "-o", tmp_path / "out", "--postprocess")
    assert volumes.lannunet(*command) == 2
    assert "postprocessing.json is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert volumes.lannunet("evaluate", "--runs", cv) == 0
    told = json.loads((cv / "postprocessing.json").read_text())
    assert told["cases"] == 2
    told["largest_component"] = ["dark"]
    (cv / "postprocessing.json").write_text(json.dumps(told))
    plain = probabilities(cv, image).labels
    for name, more in (("all", ()), ("one", ("--folds", "0,1"))):
        assert volumes.lannunet(*command[:4], tmp_path / name, "--postprocess", *more) == 0
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name / "Ts0.nii.gz")))
        np.testing.assert_array_equal(found, keep_largest(plain, [2]))
    bundle = tmp_path / "cv.lnb"
    assert volumes.lannunet("bundle", "create", cv, "-o", bundle) == 0
    assert volumes.lannunet("predict", bundle, image, "-o", tmp_path / "bundled", "--postprocess") == 0
    assert (tmp_path / "bundled" / "Ts0.nii.gz").read_bytes() == (
        tmp_path / "all" / "Ts0.nii.gz"
    ).read_bytes()
    (cv / "postprocessing.json").write_text('{"largest_component": ["liver"]}')
    capsys.readouterr()
    assert volumes.lannunet(*command) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert volumes.lannunet("evaluate", "--runs", cv) == 0  # the file is ours
    assert json.loads((cv / "postprocessing.json").read_text())["cases"] == 2


def test_the_largest_component():
    labels = np.zeros((7, 8), np.int16)
    labels[0, 0] = labels[1, 1] = labels[2, 2] = 1  # connected by their corners
    labels[5, 0:2] = labels[6, 5:8] = labels[0, 7] = 1
    labels[3, 3:5] = labels[3, 7] = 2
    expected = np.where(labels == 1, 0, labels)
    expected[0, 0] = expected[1, 1] = expected[2, 2] = 1
    np.testing.assert_array_equal(keep_largest(labels, [1]), expected)
    expected[3, 7] = 0
    np.testing.assert_array_equal(keep_largest(labels, [1, 2]), expected)
    np.testing.assert_array_equal(keep_largest(labels, []), labels)


def test_a_bundle_of_all_folds(volumes, tmp_path):
    bundle, image = tmp_path / "cv.lnb", scan(volumes)
    assert volumes.lannunet("bundle", "create", volumes.folder / "cv", "-o", bundle) == 0
    bundled, wanted = (probabilities(model, image) for model in (bundle, volumes.folder / "cv"))
    np.testing.assert_array_equal(bundled.probabilities, wanted.probabilities)
    assert volumes.lannunet("bundle", "export", volumes.folder / "cv", "-o", tmp_path / "a.onnx") == 2


def test_models_of_other_classes_are_refused(volumes, tmp_path):
    project = draw_segmentation_project(tmp_path, training=2, testing=1)
    path = project.raw / "dataset.json"
    path.write_text(path.read_text().replace("bright", "light"))
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    assert project.train() == 0
    with pytest.raises(UserError, match=r"its classes are \[.*'light'.*the others' .*'bright'"):
        api.load(volumes.folder / "cv", also=[project.out])


def test_tta_of_all_members(volumes):
    """The same as each model alone with mirroring."""
    cv, image = volumes.folder / "cv", scan(volumes)
    alone = [probabilities(cv / f"fold{n}", image, tta=True).probabilities for n in range(2)]
    found = probabilities(cv, image, tta=True).probabilities
    np.testing.assert_allclose(found, np.mean(alone, 0), atol=HALF)
    assert np.abs(found - probabilities(cv, image).probabilities).max() > HALF


def store(kept, rows, values):
    kept[:, rows] = values


@pytest.mark.parametrize("slab_bytes", [1, 2**27])
def test_what_a_grid_does_not_show_is_background(monkeypatch, slab_bytes):
    """Two grids that show different parts of an image, with shares of 3/4 and 1/4."""
    from lannunet_segmentation.predict import resample

    monkeypatch.setattr(resample, "SLAB_BYTES", slab_bytes)
    rng = np.random.default_rng(0)
    size, kept = (12, 10), [np.empty((2, 10, 12), np.float32) for _ in range(3)]
    affines = [
        np.array([[1.0, 0, 2], [0, 1.5, 1.25], [0, 0, 1]]),
        np.array([[0.5, 0, -0.25], [0, 1, 4], [0, 0, 1]]),
    ]
    scores = [torch.from_numpy(rng.dirichlet([1, 1], shape)).moveaxis(-1, 0) for shape in ((5, 6), (6, 14))]
    for one, affine, target in zip(scores, affines, kept, strict=False):
        label_map(one, affine, size, keep=partial(store, target))
    parts = [
        Part(one, affine, share) for one, affine, share in zip(scores, affines, (0.75, 0.25), strict=True)
    ]
    labels = mean_label_map(parts, size, keep=partial(store, kept[2]))
    mean = 0.75 * kept[0] + 0.25 * kept[1]
    np.testing.assert_allclose(kept[2], mean, atol=1e-6)
    np.testing.assert_array_equal(labels, kept[2].argmax(0))
    assert not labels[0, 0] and kept[2][0, 0, 0] == 1


def test_slabs_count_what_is_kept_of_the_whole_image(monkeypatch):
    """Scores of the corner of an image: the rows that are kept have the image's width."""
    from lannunet_segmentation.predict import resample

    monkeypatch.setattr(resample, "SLAB_BYTES", 4 * 2 * 40 * 2)
    kept = []
    scores = torch.rand(2, 8, 5)
    mean_label_map([Part(scores, np.eye(3))], (40, 30), keep=lambda rows, values: kept.append(values.nbytes))
    assert max(kept) <= resample.SLAB_BYTES


def test_large_scores_go_to_a_file_where_results_go(segmentation, tmp_path, monkeypatch):
    """The file is in the folder of the run or of the prediction; for programs, among temporary files."""
    opened = []

    def spy(*, dir, open_file=tempfile.TemporaryFile):
        opened.append(Path(dir))
        return open_file(dir=dir)

    monkeypatch.setattr(predictor, "SCORES_IN_MEMORY", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", spy)
    segmentation.set(trainer={"fold": 0}, solver={"max_epochs": 1, "mini_batch_size": 1})
    assert segmentation.train() == 0
    # one case is held out, two are tested
    assert opened == [segmentation.out, *[segmentation.out / "predictions"] * 2]
    opened.clear()
    assert segmentation.lannunet("predict", segmentation.out, scan(segmentation), "-o", tmp_path / "new") == 0
    assert opened == [tmp_path / "new"]
    opened.clear()
    probabilities(segmentation.out, scan(segmentation))
    assert opened == [Path(tempfile.gettempdir())]


def test_folds_of_landmarks_too(trained, tmp_path):
    """The same option as for landmarks."""
    for fold in (0, 3):
        shutil.copytree(trained.out, tmp_path / "cv" / f"fold{fold}")
    image = trained.folder / trained.annotations["testing"][0]["image"]
    command = ("predict", tmp_path / "cv", image, "-o")
    assert trained.lannunet(*command, tmp_path / "one", "--folds", "3") == 0
    assert "also" not in json.loads((tmp_path / "one" / "run.json").read_text())
    assert trained.lannunet(*command, tmp_path / "two", "--folds", "3,0") == 0
    assert json.loads((tmp_path / "two" / "run.json").read_text())["also"] == ["fold0"]
