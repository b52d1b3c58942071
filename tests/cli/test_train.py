"""`lannunet train` on the command line; `tests/run` tests the run itself."""

import json
import re

import yaml


def test_what_is_printed(project, capsys):
    assert project.train() == 0
    progress = re.compile(r".*: \d+/\d+, .* left")  # of what takes longer than a second on this machine
    printed = [line for line in capsys.readouterr().out.splitlines() if not progress.match(line)]
    described = json.loads((project.out / "run.json").read_text())
    assert printed[0] == f"unet: {described['parameters']:,} parameters, on {described['device']}"
    assert printed[1] == "plan: 4 training cases, 2 epochs of 3 batches of 2, validation after every 1"
    assert printed[2] == f"results: {project.out}"
    assert re.fullmatch(
        r"epoch 1/2: loss [\d.]+, validation error [\d.]+ px(, not .*)?, [\d:]+ left", printed[3]
    )
    assert printed[4].startswith("epoch 2/2: loss ") and "left" not in printed[4]
    errors = [row["validation_error"] for row in project.metrics()]
    kept = errors.index(min(errors)) + 1
    assert (
        printed[5] == f"kept: the model of epoch {kept} of 2, the best validation error {min(errors):.3f} px"
    )
    assert any("radial errors" in line for line in printed)
    assert printed[-1] == f"report: {project.out / 'report.html'}"


def test_nothing_is_said_of_validations_that_are_not_there(make_project, capsys):
    project = make_project(splits={"training": 4, "testing": 2})
    project.set(solver={"max_epochs": "auto", "budget_minutes": 0.05})
    assert project.train() == 0
    printed = capsys.readouterr().out
    assert " s per batch: " in printed and "per validation" not in printed
    assert "kept: the model of the last epoch" in printed


def test_overrides(project, tmp_path):
    other = tmp_path / "other"
    settings = ("solver.max_epochs=1", f"output.output_dir={other}", "model.unet.init_features=2")
    assert project.train(*(word for setting in settings for word in ("--set", setting))) == 0
    resolved = yaml.safe_load((other / "config.yaml").read_text())
    assert resolved["solver"]["max_epochs"] == 1
    assert resolved["model"]["unet"]["init_features"] == 2
    assert not project.out.exists()


def test_relative_paths_start_at_the_yaml_whatever_the_working_folder(project, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert project.train() == 0
    assert (project.out / "predictions.csv").exists()
    assert list(elsewhere.iterdir()) == []


def test_evaluate_agrees_with_the_run(trained, tmp_path, capsys):
    command = ("evaluate", trained.out / "predictions.csv", trained.json, "-o", tmp_path)
    assert trained.lannunet(*command) == 0
    theirs, ours = (yaml.safe_load((f / "summary.json").read_text()) for f in (tmp_path, trained.out))
    assert abs(theirs["overall"]["px"]["mean"] - ours["overall"]["px"]["mean"]) < 1e-2
