"""Several models together: the mean of their class maps, whatever each one is shown."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lannunet_segmentation.predict.resample import Part, label_map, mean_label_map

from lannunet_core import api
from lannunet_core.errors import UserError
from tests.fixtures.projects import draw_segmentation_project

pytestmark = pytest.mark.usefixtures("without_charts")

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
    """As each one alone, mirrored."""
    cv, image = volumes.folder / "cv", scan(volumes)
    alone = [probabilities(cv / f"fold{n}", image, tta=True).probabilities for n in range(2)]
    found = probabilities(cv, image, tta=True).probabilities
    np.testing.assert_allclose(found, np.mean(alone, 0), atol=HALF)
    assert np.abs(found - probabilities(cv, image).probabilities).max() > HALF


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
        label_map(one, affine, size, kept=target)
    parts = [
        Part(one, affine, share) for one, affine, share in zip(scores, affines, (0.75, 0.25), strict=True)
    ]
    labels = mean_label_map(parts, size, kept=kept[2])
    mean = 0.75 * kept[0] + 0.25 * kept[1]
    np.testing.assert_allclose(kept[2], mean, atol=1e-6)
    np.testing.assert_array_equal(labels, kept[2].argmax(0))
    assert not labels[0, 0] and kept[2][0, 0, 0] == 1


def test_folds_of_landmarks_too(trained, tmp_path):
    """The same option."""
    for fold in (0, 3):
        shutil.copytree(trained.out, tmp_path / "cv" / f"fold{fold}")
    image = trained.folder / trained.annotations["testing"][0]["image"]
    command = ("predict", tmp_path / "cv", image, "-o")
    assert trained.lannunet(*command, tmp_path / "one", "--folds", "3") == 0
    assert "also" not in json.loads((tmp_path / "one" / "run.json").read_text())
    assert trained.lannunet(*command, tmp_path / "two", "--folds", "3,0") == 0
    assert json.loads((tmp_path / "two" / "run.json").read_text())["also"] == ["fold0"]
