"""Files and page of segmented cases: real files in, and their content read again."""

import base64
import csv
import io
import json
import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.evaluation.report import write_segmentation_results
from lannunet_segmentation.types import SegmentedCase
from PIL import Image

from lannunet_core.errors import UserError

NAMES = {"background": 0, "left & <b>": 1, "right": 2}
HISTORY = [
    {"epoch": e, "loss": 2 / (e + 1), "terms": {"dice": 1 / (e + 1)}, "validation_error": 0.3, "lr": 0.01}
    for e in range(5)
]


class Page(HTMLParser):
    """Checks that tags are balanced, and gathers elements and visible text."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.views = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data.strip())
        elif self.open[-1:] == ["script"] and "data-case" in self.elements[-1][1]:
            self.views.append(json.loads(data))

    @property
    def text(self):
        return " ".join(self.texts)

    @property
    def planes(self):
        return [plane for view in self.views for plane in view["planes"]]

    def shapes(self, kind):
        """The outlines of the slice that each plane shows first."""
        shown = [plane["shapes"][plane["slices"].index(plane["start"])] for plane in self.planes]
        return [shape[kind] for shapes in shown for shape in shapes if shape[kind]]


def save(path, array, spacing=None):
    """An array ([z,] y, x) or, of colours, (y, x, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def blob(shape, centre, radius, spacing):
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    steps = np.array(spacing[::-1])
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, steps, strict=True)) <= radius**2


def labels_of(shape, spacing, shift=0.0):
    """Two blobs, moved along x."""
    label = np.zeros(shape, dtype=np.int16)
    for index, place in ((1, 0.3), (2, 0.7)):
        centre = [size / 2 for size in shape[:-1]] + [shape[-1] * place + shift]
        label[blob(shape, centre, 0.18 * shape[-1] * spacing[0], spacing)] = index
    return label


def data_set(folder, count=4, shape=(12, 30, 40), spacing=(1.0, 1.0, 2.5), ending=".nii.gz", ignore=None):
    """An nnU-Net folder of version 2, and predictions that get worse with the case's number."""
    colours = ending == ".png"
    channels = dict(enumerate("RGB")) if colours else {0: "CT"}
    declared = {"channel_names": channels, "labels": dict(NAMES), "file_ending": ending, "numTraining": count}
    if ignore is not None:
        declared["labels"]["ignore"] = ignore
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(declared))
    rng = np.random.default_rng(0)
    kind = np.uint8 if colours else np.int16
    cases = []
    for n in range(count):
        name = f"case_{n}"
        image = rng.integers(0, 200, size=(*shape, 3) if colours else shape).astype(
            np.uint8 if colours else np.int16
        )
        label = labels_of(shape, spacing).astype(kind)
        if ignore is not None:
            label[np.arange(len(label)) % 4 != 1] = ignore
        save(folder / "imagesTr" / f"{name}_0000{ending}", image, spacing)
        save(folder / "labelsTr" / f"{name}{ending}", label, spacing)
        predicted = folder.parent / "predictions" / f"{name}{ending}"
        save(predicted, labels_of(shape, spacing, shift=n).astype(kind), spacing)
    dataset = read_dataset(folder)
    cases = [
        SegmentedCase(c.id, c.images, folder.parent / "predictions" / f"{c.id}{ending}", c.label)
        for c in dataset.training
    ]
    return dataset, cases


def results(dataset, cases, folder, **more):
    summary = write_segmentation_results(
        cases, dataset, folder, "A <title>", HISTORY, {"a": {"b": 17}}, {"git": "<x>"}, **more
    )
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    with (folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return summary, rows, Page(folder / "report.html")


def test_files_and_page_of_volumes(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", count=7)
    summary, rows, page = results(dataset, cases, tmp_path)
    dice = [float(row["dice"]) for row in rows]
    assert len(dice) == 14 and dice[:2] == [1, 1]
    assert summary["per_class"]["right"]["dice"]["mean"] == pytest.approx(np.mean(dice[1::2]), abs=1e-4)
    assert float(rows[3]["hausdorff95_mm"]) == pytest.approx(1)  # the second case is moved by one voxel
    for text in ("A <title>", "7 cases, 2 classes.", "left & <b>", "b: 17", "git: <x>", "Training loss",
                 "Validation error", "Dice by class", "Mean surface distance"):  # fmt: skip
        assert text in page.text
    assert re.findall(r"case_(\d)", page.text) == ["6", "5", "4", "3", "2", "1", "0"]
    assert len(page.views) == 7
    assert len(page.source) < 3_000_000


HOSTILE = '=cmd|"/c calc"!A0[bold red]x[/]<script>alert(1)</script>&{{7*7}}$\\frac$'


def test_a_hostile_name_acts_nowhere(tmp_path, capsys, monkeypatch):
    """A name of a data set that is markup, a formula and more at once."""
    monkeypatch.setenv("COLUMNS", "400")
    dataset, cases = data_set(tmp_path / "raw", count=3)
    dataset = replace(dataset, class_names=("background", HOSTILE, f"-{HOSTILE}"), name=HOSTILE)
    cases = [replace(case, id=f"{HOSTILE}{n}", extra={HOSTILE: HOSTILE}) for n, case in enumerate(cases)]
    _, rows, page = results(dataset, cases, tmp_path, others={HOSTILE: results(dataset, cases, tmp_path)[0]})
    for row in rows:
        assert f"'{HOSTILE}" in row
        assert row["id"].startswith("'=")
        assert row["class"].startswith(("'=", "'-"))
    assert HOSTILE in page.text
    assert [tag for tag, _ in page.elements].count("script") == 1 + len(page.views)  # the page's own
    assert "[bold red]x[/]" in capsys.readouterr().out


def test_page_needs_nothing_but_itself(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", count=2)
    page = results(dataset, cases, tmp_path)[2]
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert not re.findall(r"url\((?!#)|@import", page.source)
    assert set(re.findall(r"https?://[^\s\"<]+", page.source)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_outlines_lie_on_the_picture(tmp_path):
    """The bright pixels of a 2D image are those that the annotation's outline goes round."""
    dataset, cases = data_set(tmp_path / "raw", 1, shape=(40, 60), spacing=(1.0, 1.0), ending=".png")
    box = np.zeros((40, 60), dtype=np.uint8)
    box[10:30, 20:50] = 1
    for path, array in ((cases[0].images[0], np.repeat(box[..., None] * 255, 3, 2)), (cases[0].target, box)):
        save(path, array)
    save(cases[0].predicted, np.roll(box, 3, axis=1))
    summary, _, page = results(dataset, cases, tmp_path)
    assert summary["unit"] == "px"
    assert page.shapes("target") == ["M20 10h30v20h-30z"]
    assert page.shapes("predicted") == ["M23 10h30v20h-30z"]
    (plane,) = page.planes
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(plane["href"].split(",")[1]))).convert("L"))
    assert np.array_equal(pixels > 127, box.astype(bool))
    assert (plane["size"], plane["scale"]) == ([60, 40], [1, 1])


def test_small_objects_are_enlarged(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 1, shape=(40, 60), spacing=(1.0, 1.0), ending=".png")
    speck = np.zeros((40, 60), dtype=np.uint8)
    speck[20:23, 30:33] = 2
    save(cases[0].target, speck)
    save(cases[0].predicted, speck)
    page = results(dataset, cases, tmp_path)[2]
    assert page.shapes("target") == ["M30 20h3v3h-3z"]
    assert page.planes[0]["window"] == [26, 16, 11, 11]


def test_planes_are_in_proportion(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 1, shape=(12, 30, 40), spacing=(0.5, 1.0, 2.0))
    page = results(dataset, cases, tmp_path)[2]
    assert [plane["size"] for plane in page.planes] == [[40, 30], [40, 12], [30, 12]]
    assert [plane["scale"] for plane in page.planes] == [[1, 2], [1, 4], [2, 4]]
    assert [plane["axis"] for plane in page.planes] == [2, 1, 0]
    for plane in page.planes:
        picture = Image.open(io.BytesIO(base64.b64decode(plane["href"].split(",")[1])))
        width, height = plane["size"]
        assert picture.size == (width, height * len(plane["slices"]))


def test_upright_planes_are_turned_and_lettered_as_the_patient_lies(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 1, shape=(10, 10, 10), spacing=(1.0, 1.0, 1.0))
    label = np.zeros((10, 10, 10), dtype=np.int16)
    label[8, 4, 5] = 1
    save(cases[0].target, label, (1.0, 1.0, 1.0))
    save(cases[0].predicted, label, (1.0, 1.0, 1.0))
    axial, coronal, sagittal = results(dataset, cases, tmp_path)[2].planes
    assert (axial["start"], coronal["start"], sagittal["start"]) == (8, 4, 5)
    assert not axial["flipped"] and coronal["flipped"] and sagittal["flipped"]
    assert [plane["name"] for plane in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    assert axial["letters"] == ["R", "L", "A", "P"]
    assert coronal["letters"] == ["R", "L", "S", "I"]
    assert sagittal["letters"] == ["A", "P", "S", "I"]


def test_partial_annotation_shows_and_measures_annotated_slices_only(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 2, ignore=3)
    summary, rows, page = results(dataset, cases, tmp_path)
    assert all(any(plane["ignored"]) for plane in page.planes) and "not annotated" in page.text
    assert {plane["start"] for plane in page.planes if plane["axis"] == 2} <= {1, 5, 9}
    assert int(rows[0]["target_voxels"]) < int(rows[0]["predicted_voxels"])
    for case in cases:  # a prediction elsewhere changes no metric
        image = sitk.ReadImage(str(case.predicted))
        array = sitk.GetArrayFromImage(image)
        array[np.arange(len(array)) % 4 != 1] = 2
        save(case.predicted, array, image.GetSpacing())
    again = results(dataset, cases, tmp_path)[0]
    assert again == summary


def test_without_annotation_there_are_pictures(tmp_path, capsys):
    dataset, cases = data_set(tmp_path / "raw", 2)
    loose = [SegmentedCase(c.id, c.images, c.predicted, None) for c in cases]
    summary, rows, page = results(dataset, loose, tmp_path)
    assert summary["evaluated"] == 0
    assert "no annotation" in page.text
    assert page.shapes("predicted") and not page.shapes("target")
    assert [row["dice"] for row in rows] == [""] * 4
    assert int(rows[0]["predicted_voxels"]) > 0
    assert "Dice" not in capsys.readouterr().out
    mixed = results(dataset, [cases[0], loose[1]], tmp_path)
    assert mixed[0]["evaluated"] == 1
    assert "1 of the cases have an annotation" in mixed[2].text


def test_label_that_annotates_nothing_is_none(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 2)
    for case in cases:
        save(case.target, np.full((12, 30, 40), -1, dtype=np.int16), (1.0, 1.0, 2.5))
    summary, _, page = results(dataset, cases, tmp_path)
    assert summary["evaluated"] == 0
    assert page.shapes("predicted")


def test_nothing_predicted(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 1)
    for path in (cases[0].predicted, cases[0].target):
        save(path, np.zeros((12, 30, 40), dtype=np.int16), (1.0, 1.0, 2.5))
    summary, _, page = results(dataset, cases, tmp_path)
    assert summary["overall"]["dice"] is None
    assert summary["overall"]["counts"]["absent"] == 2
    assert "absent" in page.text


def test_missed_classes_are_listed(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 2)
    save(cases[1].predicted, np.zeros((12, 30, 40), dtype=np.int16), (1.0, 1.0, 2.5))
    summary, _, page = results(dataset, cases, tmp_path)
    assert len(summary["missed"]) == 2
    assert "case_1: right" in page.text
    assert summary["per_class"]["right"]["hausdorff95"]["mean"] == 0  # of the case that has it


def test_gap_to_another_summary(tmp_path, capsys):
    dataset, cases = data_set(tmp_path / "raw", 3)
    full = results(dataset, cases, tmp_path)[0]
    worse = [SegmentedCase(c.id, c.images, cases[-1].predicted, c.target) for c in cases]
    stored = json.loads((tmp_path / "summary.json").read_text())
    summary, _, page = results(dataset, worse, tmp_path, others={"full <annotation>": stored})
    gap = summary["overall"]["dice"]["mean"] - full["overall"]["dice"]["mean"]
    assert summary["comparison"]["full <annotation>"]["overall"]["difference"] == pytest.approx(gap)
    assert "Compared with full <annotation>" in page.text
    assert f"{gap:+.3f}" in page.text
    assert f"{gap:+.3f}" in capsys.readouterr().out


def test_weights_and_plugins_figures(tmp_path, capsys):
    dataset, cases = data_set(tmp_path / "raw", 2)
    weight = np.zeros((12, 30, 40), dtype=np.float16)
    weight[:, :, :21] = 2  # the second class lies elsewhere
    summary, rows, page = results(
        dataset, cases, tmp_path, weight=lambda case: weight, figures={"my <figure>": 0.12345, "no": np.inf}
    )
    assert summary["per_class"]["right"]["weighted_dice"] is None
    assert summary["per_class"]["left & <b>"]["weighted_dice"]["mean"] == pytest.approx(
        summary["per_class"]["left & <b>"]["dice"]["mean"]
    )
    assert rows[0]["weighted_dice"] and not rows[1]["weighted_dice"]
    assert "weighted Dice" in page.text and "my <figure>" in page.text and "0.1235" in page.text
    assert summary["metrics"] == {"my <figure>": 0.12345, "no": None}
    assert "my <figure>: 0.1235" in capsys.readouterr().out


def test_prediction_of_another_size(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 1)
    save(cases[0].predicted, np.zeros((12, 30, 41), dtype=np.int16), (1.0, 1.0, 2.5))
    with pytest.raises(UserError, match=r"case_0\.nii\.gz: its size is 41×30×12.* is 40×30×12"):
        results(dataset, cases, tmp_path)


def test_pictures_of_slices_stored_as_volumes(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 2, shape=(1, 30, 40))
    summary, _, page = results(dataset, cases, tmp_path)
    assert dataset.dimensions == 2 and summary["unit"] == "mm"
    assert [len(view["planes"]) for view in page.views] == [1, 1]


def test_without_room_a_case_has_no_picture(tmp_path, monkeypatch):
    dataset, cases = data_set(tmp_path / "raw", 4)
    monkeypatch.setattr("lannunet_segmentation.evaluation.report.FOR_PICTURES", 1)
    page = results(dataset, cases, tmp_path)[2]
    assert not page.views and len(re.findall(r"case_\d", page.text)) == 4
    assert "no room" in page.source


def test_same_input_same_page(tmp_path):
    dataset, cases = data_set(tmp_path / "raw", 2)
    pages = [results(dataset, cases, tmp_path)[2].source for _ in range(2)]
    assert pages[0] == pages[1]


def test_preprocessed_folders_have_image_and_annotation_in_one_file(tmp_path):
    stage = tmp_path / "task" / "nnUNetData_plans_v2.1_stage0"
    stage.mkdir(parents=True)
    label = labels_of((6, 20, 30), (1.0, 1.0, 1.0))
    label[0] = -1
    data = np.stack([np.random.default_rng(0).normal(size=label.shape), label]).astype(np.float32)
    np.savez_compressed(stage / "case_0.npz", data=data)
    properties = {
        "itk_origin": (0.0, 0.0, 0.0),
        "itk_direction": tuple(np.eye(3).ravel()),
        "itk_spacing": (1.0, 1.0, 1.0),
        "spacing_after_resampling": np.array([3.0, 0.5, 0.5]),
        "size_after_resampling": label.shape,
        "classes": np.array([-1.0, 0.0, 1.0, 2.0]),
    }
    (stage / "case_0.pkl").write_bytes(pickle.dumps(properties))
    dataset = read_dataset(stage)
    predicted = tmp_path / "case_0.nii.gz"
    save(predicted, np.roll(label, 1, axis=2).clip(0), (0.5, 0.5, 3.0))
    (case,) = dataset.training
    summary, rows, page = results(dataset, [SegmentedCase(case.id, case.images, predicted, None)], tmp_path)
    assert summary["evaluated"] == 1 and summary["unit"] == "mm"
    assert float(rows[0]["hausdorff95_mm"]) == 0.5
    assert any(plane.get("ignored") for plane in page.planes) and page.shapes("target")
