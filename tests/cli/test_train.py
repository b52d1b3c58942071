"""`lannunet train` as its users call it; what a run does is tested in `tests/training`."""

import yaml


def test_what_is_printed(project, capsys):
    assert project.train() == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("epoch 1/2: loss ")
    assert "validation error" in printed[0]
    assert any("radial errors" in line for line in printed)
    assert printed[-1] == f"report: {project.out / 'report.html'}"


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
