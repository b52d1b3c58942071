"""`lannunet compare`, with runs of both tasks."""

import json
import shutil

import pytest
import yaml

from tests.fixtures.projects import draw_project, draw_segmentation_project

OWN = """
from torch import nn

from lannunet_core import Plugin, hookimpl


class Own(Plugin):
    @hookimpl
    def network(self):
        kind = nn.Conv2d if self.run.dimensions == 2 else nn.Conv3d
        return kind(self.run.in_channels, len(self.run.outputs), 3, padding=1)
"""


@pytest.fixture(params=["landmarks", "segmentation"])
def project(request, tmp_path, without_charts):
    if request.param == "landmarks":
        return draw_project(tmp_path / "project")
    return draw_segmentation_project(tmp_path / "project", size=(16, 16, 8), patch=(8, 8, 8))


def test_runs_of_both_tasks(project, capsys, tmp_path):
    assert project.train() == 0
    shutil.copytree(project.out, project.folder / "again")
    page = tmp_path / "compare.html"
    again = project.folder / "again"
    assert project.lannunet("compare", project.out, again, "-o", page) == 0
    assert "unclear" in capsys.readouterr().out
    found = json.loads(page.with_suffix(".json").read_text())
    for block in found["differences"][0]["figures"].values():
        assert block["overall"]["mean"] in (0, None)
    assert "Cases, those that got worse first" in page.read_text()
    assert project.lannunet("compare", project.out, again, "-o", page) == 2
    assert project.lannunet("compare", project.out, again, "-o", page, "--overwrite") == 0
    assert project.lannunet("compare", project.out, "-o", tmp_path / "new.html") == 2
    assert "two runs or more" in capsys.readouterr().err
    assert project.lannunet("compare", project.out, project.folder, "-o", tmp_path / "new.html") == 2
    assert "holds no results" in capsys.readouterr().err

    table = "predictions.csv" if (again / "predictions.csv").exists() else "cases.csv"
    for fold, changed in (("fold0", lambda text: text), ("fold1", one_output_less)):
        copied = shutil.copytree(again, project.folder / "cv" / fold)
        (copied / table).write_text(
            changed((again / table).read_text()).replace("testing", fold).replace("Ts", fold)
        )
    crossed = project.folder / "cv"
    assert project.lannunet("compare", project.out, crossed, "-o", tmp_path / "new.html") == 2
    assert "folds do not have the same landmarks or classes" in capsys.readouterr().err


def one_output_less(text):
    heads, *rows = text.splitlines(keepends=True)
    column = heads.strip().split(",").index("landmark" if "landmark" in heads else "class")
    gone = rows[0].split(",")[column]
    return heads + "".join(row for row in rows if row.split(",")[column] != gone)


def test_models_are_trained_once_under_the_same_conditions(project, capsys, tmp_path):
    project.write()
    task = project.config.get("task", "landmarks")
    own = tmp_path / f"own_{task}.py"  # two modules with the same name would be the same module
    own.write_text(OWN)
    (tmp_path / "compare").mkdir()
    of_landmarks = task == "landmarks"
    data = project.json if of_landmarks else project.raw
    config = {key: value for key, value in project.config.items() if key != "output"}
    config["dataset"] = {"src_targets": str(data)} if of_landmarks else {"root": str(data)}
    config["solver"] |= {"max_epochs": 1, "mini_batch_size": 1}
    config["output"] = {"output_dir": "unused"}
    for name in ("unet", own.stem):
        model = {"architecture": name} | ({"unet": config["model"]["unet"]} if name == "unet" else {})
        (tmp_path / "compare" / f"{name}.yaml").write_text(yaml.safe_dump(config | {"model": model}))
    words = ("compare", "--data", data, "--models", f"unet,{own}", "--seeds", 2)
    page = tmp_path / "compare.html"
    assert project.lannunet(*words, "-o", page) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert f"{own.stem}, seed 1 (run " in out
    found = json.loads(page.with_suffix(".json").read_text())
    assert [(row["name"], row["seeds"]) for row in found["runs"]] == [("unet", 2), (own.stem, 2)]
    assert "± " in page.read_text()
    ids = [
        {row.split(",")[0] for row in path.read_text().splitlines()[1:]}
        for path in (tmp_path / "compare").glob(f"*/*/{'predictions' if of_landmarks else 'cases'}.csv")
    ]
    assert len(ids) == 4 and all(one == ids[0] for one in ids)  # the same split

    other = shutil.copytree(project.raw, tmp_path / "other") if not of_landmarks else tmp_path / "other.json"
    if of_landmarks:
        shutil.copy(data, other)
    # Plans of an earlier comparison are not used for another data set.
    assert project.lannunet(*words[:2], other, *words[3:], "-o", page, "--overwrite") == 2
    assert "unet.yaml: trains on other data than --data" in capsys.readouterr().err

    shutil.rmtree(tmp_path / "compare" / own.stem / "seed1")  # like a run that was interrupted earlier
    page.unlink()
    page.with_suffix(".json").unlink()
    assert project.lannunet(*words, "-o", page) == 0
    out = capsys.readouterr().out
    assert out.count("is finished") == 3 and f"{own.stem}, seed 1 (run " in out
    assert json.loads(page.with_suffix(".json").read_text())["figures"] == found["figures"]


@pytest.mark.parametrize(
    "words, told",
    [
        ("-o a.html", "give the folders of runs"),
        ("run --data points.json --models unet -o a.html", "give the folders of runs"),
        ("--data points.json -o a.html", "give the folders of runs"),
        ("--data points.json --models , -o a.html", "is empty"),
        ("--data points.json --models unet,UNet -o a.html", "'unet' is named twice"),
        ("run other -o a.png", "should end in .html"),
    ],
)
def test_what_is_asked_for_wrongly(words, told, capsys, tmp_path, monkeypatch):
    project = draw_project(tmp_path / "project")
    project.write()
    monkeypatch.chdir(project.folder)
    assert project.lannunet("compare", *words.split()) == 2
    assert told in capsys.readouterr().err
    assert not (project.folder / "a.html").exists()
