"""The warnings of `lannunet train` about its data, and the lists that it needs."""

import json
import shutil

import pytest

pytestmark = pytest.mark.usefixtures("without_charts")


@pytest.fixture
def external(trained, tmp_path):
    """Writes a JSON of the trained project's images; returns what evaluates its model on it."""

    def make(content):
        path = trained.folder / f"{tmp_path.name}.json"
        path.write_text(json.dumps(content))
        return [
            *("--set", f"dataset.src_targets={path}", "--set", "trainer.inference_only=true"),
            *("--set", f"model.checkpoint={trained.out}", "--set", f"output.output_dir={tmp_path / 'out'}"),
        ]

    return make


@pytest.mark.parametrize("more", [{}, {"training": [], "validation": []}])
def test_an_external_test_set(trained, external, tmp_path, more):
    """The JSON has only one list."""
    options = external({"testing": trained.annotations["testing"], **more})
    assert trained.lannunet("config", "check", trained.yaml, *options) == 0
    assert trained.lannunet("train", trained.yaml, *options) == 0
    assert trained.rows(tmp_path / "out") == trained.rows()


def test_an_external_set_that_nobody_annotated(trained, external, tmp_path):
    testing = [one | {"coordinates": None, "has_annotation": False} for one in trained.annotations["testing"]]
    assert trained.lannunet("train", trained.yaml, *external({"testing": testing})) == 0
    found, known = trained.rows(tmp_path / "out"), trained.rows()
    assert [(row["x"], row["y"]) for row in found] == [(row["x"], row["y"]) for row in known]
    assert not any(row["error_px"] for row in found)


@pytest.mark.parametrize("command", [("config", "check"), ("train",)])
def test_lists_that_a_run_needs(project, capsys, command):
    del project.annotations["training"]
    project.write()
    assert project.lannunet(*command, project.yaml) == 2
    assert 'points.json: "training" is empty or missing' in capsys.readouterr().err
    project.annotations["training"] = project.annotations.pop("testing")
    project.write()
    assert project.lannunet(*command, project.yaml) == 2
    assert '"testing" is empty or missing' in capsys.readouterr().err
    assert project.lannunet("config", "check", project.yaml, "--set", "inference.split=validation") == 0


def test_images_on_both_sides(project, capsys):
    """The image is one file with two ids, a copy, or in the list that chooses the best epoch."""
    lists, images = project.annotations, project.folder / "images"
    shutil.copy(project.folder / lists["training"][1]["image"], images / "copy.png")
    lists["testing"] = [
        {**lists["training"][0], "id": "again"},
        {**lists["training"][1], "id": "copied", "image": "images/copy.png"},
        {**lists["validation"][0], "id": "both", "image": "./" + lists["validation"][0]["image"]},
    ]
    assert project.train() == 0
    said = capsys.readouterr().err
    assert '2 of the 3 testing images ("again" and "training0") are training images too' in said
    assert '1 of the 3 testing images ("both" and "validation4") are validation images too' in said
    assert "on which the best epoch is chosen" in said
    assert "of the 2 validation images" not in said


def test_testing_that_is_validation(project, capsys):
    project.annotations["testing"] = [
        one | {"id": f"{one['id']} once more"} for one in project.annotations["validation"]
    ]
    assert project.train("--set", "solver.max_epochs=1") == 0
    assert "2 of the 2 testing images" in capsys.readouterr().err


@pytest.mark.parametrize(("field", "rule"), [("patient_id", None), ("case", "case"), (None, r"^(\w)")])
def test_patients_on_both_sides(project, capsys, field, rule):
    """Patients are known by a field with such a name, or by `group_by`."""
    every = [one for split in ("training", "validation", "testing") for one in project.annotations[split]]
    for number, one in enumerate(every):
        one["id"] = f"{'pqrs'[number % 4]}{number}"
        one |= {} if field is None else {field: "pqrs"[number % 4]}
    project.annotations |= {} if rule is None else {"group_by": rule}
    assert project.train("--set", "solver.max_epochs=1") == 0
    said = capsys.readouterr().err
    assert '2 of the 2 patients of validation ("p") have images in training too' in said
    assert '2 of the 2 patients of testing ("r") have images in training too' in said
    assert "lannunet folds --group" in said


def test_nothing_is_said_of_sound_data(project, capsys):
    assert project.train("--set", "solver.max_epochs=1") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert [line.split(":")[1].strip() for line in warnings] == ["solver.max_epochs"]  # a short run


def test_lists_that_are_called_otherwise(project, capsys):
    project.annotations["val"] = project.annotations.pop("validation")
    assert project.train("--set", "solver.max_epochs=1") == 0
    said = capsys.readouterr().err
    assert 'has no list "validation", so nothing is held out' in said
    assert 'the list "val" is not read' in said


def test_a_landmark_that_nothing_teaches(project, capsys):
    project.annotations["landmark_names"] = ["tip", "base"]
    for number, one in enumerate(project.annotations["training"]):
        one["coordinates"][1] = None if number % 2 else "absent"
    assert project.train("--set", "solver.max_epochs=1") == 0
    assert "no training sample shows landmark base" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_annotations_that_changed_before_a_resume(project, capsys, split):
    """Lists that are only evaluated may change."""
    assert project.train() == 0
    project.annotations[split][0]["coordinates"][0][0] += 1
    assert project.train("--resume") == (0 if split == "testing" else 2)
    said = capsys.readouterr().err
    assert ("differs from the run's start" in said) == (split != "testing")


def test_annotations_that_moved_before_a_resume(project):
    assert project.train() == 0
    (project.folder / "images").rename(project.folder / "pictures")
    for split in ("training", "validation", "testing"):
        for one in project.annotations[split]:
            one["image"] = one["image"].replace("images", "pictures")
    assert project.train("--resume") == 0


def test_models_that_have_seen_the_images(trained, external, tmp_path, capsys):
    """Duplicates are copies of files."""
    copied = []
    for one in trained.annotations["training"]:
        shutil.copy(trained.folder / one["image"], tmp_path / f"{one['id']}.png")
        copied.append(one | {"image": str(tmp_path / f"{one['id']}.png")})
    assert trained.lannunet("train", trained.yaml, *external({"testing": copied})) == 0
    assert "was trained on 4 of the 4 testing images" in capsys.readouterr().err
