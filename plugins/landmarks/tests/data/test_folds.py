"""`lannunet folds`: each annotated sample is tested once, and no sample is in two lists of a fold."""

import json

import pytest
from lannunet_landmarks.data.annotations import SPLITS, load_dataset
from lannunet_landmarks.schema import DatasetConfig


@pytest.fixture
def dataset(make_project):
    """Ten drawn images (6, 2, 2), and two without annotation."""
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
    """No training sample is tested, and pooling finds each image in one run."""
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


@pytest.fixture
def of_patients(make_project):
    """Twelve drawn images of five patients, who have one to four; two in three are from clinic "a"."""
    project = make_project(splits={"training": 8, "validation": 2, "testing": 2}, sizes=((16, 16),))
    patients = [f"p{n}" for n in (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5)]
    every = [one for split in SPLITS for one in project.annotations[split]]
    for number, (one, patient) in enumerate(zip(every, patients, strict=True)):
        one |= {"id": f"{patient}-{number:02}", "patient": patient, "clinic": "b" if patient < "p2" else "a"}
    project.write()
    return project


def patients_of(fold, split):
    return {one["patient"] for one in fold[split]}


@pytest.mark.parametrize("rule", ["patient", r"^p\d", r"^(p\d)-"])
@pytest.mark.parametrize("how", [("--count", 3), ("--leave-one-out",)])
def test_patients_stay_together(of_patients, tmp_path, capsys, rule, how):
    assert of_patients.lannunet("folds", of_patients.json, "-o", tmp_path / "f", "--group", rule, *how) == 0
    said = capsys.readouterr()
    assert "5 groups of 12 samples" in said.out and not said.err
    folds = folds_of(tmp_path / "f")
    assert len(folds) == (3 if len(how) == 2 else 5)
    assert sum(len(fold["testing"]) for fold in folds) == 12
    for fold in folds:
        field = fold["group_by"]  # which training inspects
        assert all(one[field] == one["patient"] for split in SPLITS for one in fold[split])
        of_lists = [patients_of(fold, split) for split in SPLITS]
        assert all(of_lists)
        assert sum(map(len, of_lists)) == 5
    if len(how) == 2:
        assert sorted(len(fold["testing"]) for fold in folds) == [4, 4, 4]


def test_patients_by_the_names_of_images(of_patients, tmp_path):
    """The ids do not name the patient."""
    for split in SPLITS:
        for one in of_patients.annotations[split]:
            stem = one["image"].removeprefix("images/").removesuffix(".png")
            folder = of_patients.folder / "images" / one["patient"]
            folder.mkdir(exist_ok=True)
            (of_patients.folder / one["image"]).rename(folder / f"{stem}.png")
            one |= {"image": f"images/{one['patient']}/{stem}.png", "id": stem}
    of_patients.write()
    options = ("--group", r"^images/(p\d)/", "--count", 2)
    assert of_patients.lannunet("folds", of_patients.json, "-o", tmp_path / "f", *options) == 0
    folder = DatasetConfig.model_validate({"src_targets": tmp_path / "f"})
    for number, fold in enumerate(folds_of(tmp_path / "f")):
        assert set(load_dataset(folder, number).groups.values()) == {"p1", "p2", "p3", "p4", "p5"}
        assert not patients_of(fold, "testing") & patients_of(fold, "training")


def test_patients_who_are_tested_later_are_said(of_patients, tmp_path, capsys):
    options = ("--keep-testing", "--count", 2, "--group", "patient")
    assert of_patients.lannunet("folds", of_patients.json, "-o", tmp_path / "f", *options) == 0
    said = capsys.readouterr()
    assert "4 groups of 10 samples" in said.out
    assert "1 of the 2 testing samples share their image or group with some" in said.err


def test_patients_in_several_folds_are_said(of_patients, tmp_path, capsys):
    assert of_patients.lannunet("folds", of_patients.json, "-o", tmp_path / "f") == 0
    assert "--group patient keeps them together" in capsys.readouterr().err


def test_each_fold_has_its_share_of_a_field(of_patients, tmp_path, capsys):
    for number in range(3):
        folder = tmp_path / str(number)
        options = ("--count", 4, "--stratify", "clinic", "--seed", number)
        assert of_patients.lannunet("folds", of_patients.json, "-o", folder, *options) == 0
        for fold in folds_of(folder):
            clinics = [one["clinic"] for one in fold["testing"]]
            assert (clinics.count("a"), clinics.count("b")) == (2, 1)
    capsys.readouterr()
    rare = ("--count", 3, "--stratify", "patient")
    assert of_patients.lannunet("folds", of_patients.json, "-o", tmp_path / "rare", *rare) == 0
    assert "3 of the 5 values of patient (p3, p4, p5) are too rare" in capsys.readouterr().err


def test_copies_of_an_image_stay_together(dataset, tmp_path):
    """A copy with another name has the same bytes."""
    for number in range(4):
        one = dataset.annotations["training"][number]
        copy = one | {"id": f"copy{number}", "image": f"images/copy{number}.png"}
        (dataset.folder / copy["image"]).write_bytes((dataset.folder / one["image"]).read_bytes())
        dataset.annotations["testing"].append(copy)
    dataset.write()
    assert dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds") == 0
    for fold in folds_of(tmp_path / "folds"):
        where = {one["id"]: split for split in SPLITS for one in fold[split]}
        assert all(where[f"training{number}"] == where[f"copy{number}"] for number in range(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--group", "sex"), '--group: "sex" is not a field of the samples, and as a regular expression'),
        (("--group", "("), '--group: "(" is not a field of the samples, nor a regular expression'),
        (("--group", "age"), 'sample "training1" has no field "age"'),
        (("--stratify", "age"), 'sample "training1" has no field "age"'),
        (("--group", "r|t"), "--count: 1 groups of"),
    ],
)
def test_wrong_groups(dataset, tmp_path, capsys, options, message):
    assert dataset.lannunet("folds", dataset.json, "-o", tmp_path / "folds", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "folds").exists()


def test_an_input_is_no_target(dataset, capsys):
    before = dataset.json.read_bytes()
    assert dataset.lannunet("folds", dataset.json, "-o", dataset.json) == 2
    assert "is a file. Name a folder" in capsys.readouterr().err
    assert dataset.json.read_bytes() == before
