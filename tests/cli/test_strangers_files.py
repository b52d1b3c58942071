"""Every command, with every flag, keeps third-party files that have the names of our outputs."""

import hashlib
import shutil

import pytest

from tests.cli.test_every_command import LANNUNET_YAML, landmarks, segmentation  # noqa: F401  (fixtures)

THEIRS = (
    "run.json",
    "config.yaml",
    "metrics.jsonl",
    "predictions.csv",
    "predictions.xlsx",
    "cases.csv",
    "summary.json",
    "report.html",
    "centres.csv",
    "calibration.json",
    "schema.json",
    "planned.yaml",
    "pyproject.toml",
    "demo.yaml",
    "annotations.json",
    *(f"fold{n}.json" for n in range(3)),
    *(f"fold{n}/report.html" for n in range(2)),
    "Ts0.nii.gz",
    "testing6.png",
    *(
        f"{folder}/{name}"
        for folder in (
            "checkpoints",
            "debug",
            "failure",
            "predictions",
            "methods",
            "refine",
            "images",
            "data",
        )
        for name in ("best.safetensors", "latest.pt", "Ts0.nii.gz", "report.html", "000.png")
    ),
)

BOTH = (
    "train {yaml} --set output.output_dir={theirs}",
    "train {yaml} --set output.output_dir={theirs} --overwrite",
    "train {yaml} --set output.output_dir={theirs} --resume",
    "train {yaml} --set output.output_dir={theirs} --folds 0-1 --overwrite",
    "predict {run} {image} -o {theirs}",
    "predict {run} {image} -o {theirs} --overwrite",
    "predict {run} {image} -o {theirs} --overwrite --tta",
    "config schema -o {theirs}/schema.json",
    "config import {lannunet} -o {theirs}/config.yaml",
    "plan {data} -o {theirs}/planned.yaml",
    "plugins new my-model --yes -o {theirs}",
    "demo {theirs}",
    "demo {theirs} --overwrite",
)
LANDMARKS = (
    "evaluate {results} {truth} -o {theirs}",
    "evaluate {results} {truth} -o {theirs} --overwrite",
    "evaluate --runs {run} -o {theirs} --overwrite",
    "calibrate {results} -o {theirs}/calibration.json",
    "calibrate {results} -o {theirs}/calibration.json --overwrite",
    "folds {data} -o {theirs} --count 3",
    "folds {data} -o {theirs} --count 3 --overwrite",
    "import {data} -o {theirs}/annotations.json",
    "export {data} --format coco -o {theirs}/annotations.json",
    "export {data} --format labelme -o {theirs}",
)
SEGMENTATION = (
    "weightmaps {data} --output-dir {theirs}",
    "weightmaps {data} --output-dir {theirs} --overwrite",
)


def content(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("task", "command"),
    [
        (task, command)
        for task, more in (("landmarks", LANDMARKS), ("segmentation", SEGMENTATION))
        for command in (*BOTH, *more)
    ],
)
def test_files_of_a_stranger_stay(request, capfd, tmp_path, monkeypatch, task, command):
    trained = request.getfixturevalue(task)
    theirs, lannunet = tmp_path / "theirs", tmp_path / "lannunet.yaml"
    lannunet.write_text(LANNUNET_YAML)
    for name in (*THEIRS, *(f"Tr{n}_weightmap.npy" for n in range(5))):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text(f"theirs: {name}")
    before = content(theirs)
    monkeypatch.chdir(trained.project.folder)
    words = [word.format(theirs=theirs, lannunet=lannunet, **trained.words) for word in command.split()]
    code = trained.project.lannunet(*words)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert code in (0, 2)
    after = content(theirs)
    assert {name: after.get(name) for name in before} == before
    assert code == 2 or after.keys() > before.keys() or "--output-dir" in command


@pytest.mark.parametrize("task", ["landmarks", "segmentation"])
def test_images_are_never_a_target(request, capfd, tmp_path, task):
    """Predictions into the folder of the images, or into the file itself, with every flag."""
    trained = request.getfixturevalue(task)
    scans = tmp_path / "scans"
    scans.mkdir()
    image = shutil.copy(trained.words["image"], scans)
    if task == "segmentation":
        shutil.copy(image, scans / "plain.nii.gz")  # whose label map would have the same name
    before = content(scans)
    for more in ((), ("--overwrite",), ("--overwrite",)):
        trained.project.lannunet("predict", trained.words["run"], scans, "-o", scans, *more)
        trained.project.lannunet("predict", trained.words["run"], image, "-o", image, *more)
        after = content(scans)
        assert {name: after.get(name) for name in before} == before
        assert "Traceback" not in capfd.readouterr().err
