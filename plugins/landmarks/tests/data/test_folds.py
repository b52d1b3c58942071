"""`lannunet folds`: each annotated sample is tested once, and nothing is in two lists of a fold."""

import json

import pytest
from lannunet_landmarks.data.annotations import SPLITS, load_dataset
from lannunet_landmarks.schema import DatasetConfig


@pytest.fixture
def dataset(make_project):
    """Ten drawn images (6, 2, 2), and two that nobody annotated."""
    project = make_project(splits={"training": 6, "validation": 2, "testing": 2})
    project.annotations["spacing"] = 0.5
    project.annotations["training"][0]["age"] = 41
    for number in range(2):
        loose = dict(project.annotations["testing"][0], id=f"loose{number}", has_annotation=False)
        project.annotations["testing"].append(loose | {"coordinates": None})
    project.write()
    return project


def folds_of(folder):
    return [json.loads((folder / f"fold{k}.json").read_text()) for k in range(len(list(folder.iterdir())))]


def ids(fold, split):
    return [sample["id"] for sample in fold[split]]


def test_each_sample_is_tested_once(dataset, tmp_path, capsys):
    assert dataset.lannunet("folds", dataset.json, "-o", tmp_path / "deep" / "folds", "--count", 4) == 0
    folds = folds_of(tmp_path / "deep" / "folds")
    assert "--folds 0-3" in capsys.readouterr().out
    annotated = [f"training{k}" for k in range(6)] + ["validation6", "validation7", "testing8", "testing9"]
    assert sorted(one for fold in folds for one in ids(fold, "testing")) == sorted(annotated)
    for number, fold in enumerate(folds):
        assert fold["fold"] == number
        assert sorted(one for split in SPLITS for one in ids(fold, split)) == sorted(annotated)
        assert len(ids(fold, "validation")) == 1
        assert len(ids(fold, "testing")) in (2, 3)
    assert len({tuple(ids(fold, "validation")) for fold in folds}) > 1


def test_a_fold_is_a_dataset_like_the_first(dataset, tmp_path):
    dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds")
    folder = DatasetConfig.model_validate({"src_targets": tmp_path / "folds"})
    whole = load_dataset(DatasetConfig.model_validate({"src_targets": dataset.json}), -1)
    before = {one.id: one for split in SPLITS for one in whole.samples[split]}
    for number in range(5):
        fold = load_dataset(folder, number)  # the images are found
        assert (fold.fold, fold.name, fold.landmark_names) == (number, whole.name, whole.landmark_names)
        for one in (one for split in SPLITS for one in fold.samples[split]):
            assert (one.coordinates == before[one.id].coordinates).all()
            assert (one.image.resolve(), one.spacing) == (before[one.id].image.resolve(), (0.5, 0.5))
            assert one.extra == before[one.id].extra


def test_leave_one_out(dataset, tmp_path):
    dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds", "--leave-one-out")
    folds = folds_of(tmp_path / "folds")
    tested = [ids(fold, "testing") for fold in folds]
    assert len(folds) == 10 and all(len(of_fold) == 1 for of_fold in tested)
    assert tested[0] == ["training0"] and tested[9] == ["testing9"]


def test_the_testing_list_can_be_kept_for_later(dataset, tmp_path):
    dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds", "--keep-testing", "--leave-one-out")
    folds = folds_of(tmp_path / "folds")
    assert len(folds) == 8
    assert not any("testing" in one for fold in folds for split in SPLITS for one in ids(fold, split))


def test_the_seed_decides(dataset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        dataset.lannunet("folds", dataset.json, "-o", tmp_path / name, "--seed", seed)
    a, b, c = ([ids(fold, "testing") for fold in folds_of(tmp_path / name)] for name in "abc")
    assert a == b != c


def test_images_elsewhere(dataset, tmp_path):
    moved = tmp_path / "moved.json"
    moved.write_text(dataset.json.read_text())
    assert dataset.lannunet("folds", moved, "-o", tmp_path / "folds", "--root", dataset.folder) == 0
    load_dataset(DatasetConfig.model_validate({"src_targets": tmp_path / "folds"}), 0)


def test_mistakes(dataset, tmp_path, capsys):
    folds = tmp_path / "folds"
    for arguments, message in (
        ((dataset.json, "--count", 11), "10 annotated images"),
        ((tmp_path / "none.json",), "no such file"),
        ((dataset.folder,), "is a folder. Give the JSON"),
    ):
        assert dataset.lannunet("folds", *arguments, "-o", folds) == 2
        assert message in capsys.readouterr().err
        assert not folds.exists()
    assert dataset.lannunet("folds", dataset.json, "-o", folds) == 0
    assert dataset.lannunet("folds", dataset.json, "-o", folds) == 2
    assert "already holds folds" in capsys.readouterr().err


@pytest.mark.parametrize("how", [("--count", 4), ("--leave-one-out",)])
def test_samples_of_one_image_stay_together(dataset, tmp_path, how):
    """What was trained on is not tested, and pooling finds each image in one run."""
    for number in range(5):
        one = dataset.annotations["training"][number]
        dataset.annotations["training"].append(one | {"id": f"again{number}", "image": "./" + one["image"]})
    dataset.write()
    assert dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds", *how) == 0
    folds = folds_of(tmp_path / "folds")
    assert len(folds) == (4 if len(how) == 2 else 10)
    for fold in folds:
        images = [{sample["image"] for sample in fold[split]} for split in SPLITS]
        assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]
    assert sum(len(fold["testing"]) for fold in folds) == 15
