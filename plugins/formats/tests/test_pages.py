"""The commands of the pages in docs/ are run unchanged: import, plan, train, export."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from lannunet_landmarks import read_predictions
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import format_called

from lannunet_core import cli

DOCS = Path(__file__).parents[3] / "docs"
SMALL = {
    "solver": {"max_epochs": 1, "mini_batch_size": 1, "data_loader_batch_size_train": 2},
    "trainer": {"validate_every": 1},
    "model": {"unet": {"init_features": 4, "max_features": 8}},
}


def commands(page):
    """The commands of a page, in the order of the page."""
    blocks = re.findall(r"^```\n(lannunet .*?)```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def points(count, dimensions):
    return [[[4.25 + n, 5.5 + k] + [3.0 + k] * (dimensions - 2) for k in range(3)] for n in range(count)]


def written(name, annotations, out):
    of = format_called(name, "--format")
    of.write(in_system(annotations, of.systems[0]), out)


def slicer(folder, pictures, volumes, annotated, write_slp):
    shutil.copytree(volumes, folder / "scans")
    before = annotated(folder / "scans", points(6, 3))
    written("slicer", before, folder / "markups")
    for file in (folder / "markups").iterdir():
        file.rename(folder / "scans" / file.name)


def cvat(folder, pictures, volumes, annotated, write_slp):
    shutil.copytree(pictures, folder / "pictures")
    before = annotated(folder / "pictures", points(6, 2))
    written("labelme", before, folder / "shapes")
    for file in (folder / "shapes").iterdir():
        text = file.read_text().replace("../pictures/", "")
        (folder / "pictures" / file.name).write_text(text)
    written("cvat", before, folder / "annotations.xml")
    written("label-studio", before, folder / "project.json")


def deeplabcut(folder, pictures, volumes, annotated, write_slp):
    (folder / "frames").mkdir()
    backend = {"filename": ".", "dataset": "video0/video"}
    packed = {0: {n: (pictures / f"a{n}.png").read_bytes() for n in range(3)}}
    frames = [(0, n, 0, [[(3.0 + n, 4.0, True)]]) for n in range(3)]
    write_slp(folder / "labels.pkg.slp", ["tip"], [backend], frames, packed=packed)
    (folder / "new_frames").mkdir()
    shutil.copy(pictures / "a0.png", folder / "new_frames")
    for n, video in enumerate(("one", "two", "three")):
        clip = folder / "project" / "labeled-data" / video
        clip.mkdir(parents=True)
        for k in (2 * n, 2 * n + 1):
            shutil.copy(pictures / f"a{k}.png", clip)
        written("deeplabcut", annotated(clip, points(2, 2)), clip / "CollectedData_Ada.csv")


def tutorial_images(folder, pictures, volumes, annotated, write_slp):
    shutil.copytree(pictures, folder / "labelme")
    written("labelme", annotated(folder / "labelme", points(6, 2)), folder / "shapes")
    for file in (folder / "shapes").iterdir():
        (folder / "labelme" / file.name).write_text(file.read_text().replace("../labelme/", ""))
    shutil.copytree(pictures, folder / "new_images")


def tutorial_volumes(folder, pictures, volumes, annotated, write_slp):
    slicer(folder, pictures, volumes, annotated, write_slp)
    shutil.copytree(volumes, folder / "new_scans")


def nnlandmark(folder, pictures, volumes, annotated, write_slp):
    written("nnlandmark", annotated(volumes, points(6, 3)), folder / "Dataset732_Afids")


@pytest.mark.parametrize("lay_out", [slicer, cvat, deeplabcut, nnlandmark, tutorial_images, tutorial_volumes])
def test_the_commands_of_a_page(
    lay_out, tmp_path, monkeypatch, capsys, pictures, volumes, annotated, write_slp
):
    lay_out(tmp_path, pictures, volumes, annotated, write_slp)
    monkeypatch.chdir(tmp_path)
    told = commands(f"{lay_out.__name__}.md")
    assert [word for line in told if (word := line.split()[1]) != "config"][:3] == ["import", "plan", "train"]
    for line in told:
        with pytest.raises(SystemExit) as end:
            cli.main(line.split()[1:])
        said = capsys.readouterr()
        assert not end.value.code, said.err
        assert "Traceback" not in said.err
        if line.startswith("lannunet plan"):
            planned = Path(line.split()[4])
            config = yaml.safe_load(planned.read_text())
            config["solver"].pop("budget_minutes")
            for section, keys in SMALL.items():
                config.setdefault(section, {}).update(keys)
            config["sampler"]["input_size"] = [32] * (
                3 if lay_out in (slicer, nnlandmark, tutorial_volumes) else 2
            )
            planned.write_text(yaml.safe_dump(config))
    annotations = json.loads(Path("annotations.json").read_text())
    assert sum(len(annotations[split]) for split in ("training", "validation", "testing")) == 6
    predictions, names = read_predictions(Path("runs/annotations/predictions.csv"))
    assert names == ["tip", "left eye", "right eye"]
    if lay_out is deeplabcut:  # no video is in two splits
        packed = json.loads(Path("sleap.json").read_text())
        assert sum(len(packed[split]) for split in ("training", "validation", "testing")) == 3
        videos = [{one["video"] for one in annotations[split]} for split in ("training", "testing")]
        assert videos[0].isdisjoint(videos[1])
    if lay_out is slicer:
        assert annotations["coordinate_system"] == "LPS"
        (file,) = Path("predicted").iterdir()
        markup = json.loads(file.read_text())["markups"][0]
        assert [one["label"] for one in markup["controlPoints"]] == names
        assert len(predictions) == 1
    if lay_out is cvat:
        other = [json.loads(Path(file).read_text()) for file in ("cvat.json", "label_studio.json")]
        for one in other:
            for split in ("training", "validation", "testing"):
                for mine, theirs in zip(annotations[split], one[split], strict=True):
                    assert mine["id"] == theirs["id"]  # split alike
                    for point, again in zip(mine["coordinates"], theirs["coordinates"], strict=True):
                        assert again == pytest.approx(point, abs=1e-6)
