"""Whether a landmark is in the image at all: thresholds, and whole runs on images that miss some."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from lannunet_landmarks.predict.predictor import Located
from lannunet_landmarks.predict.presence import calibrated, deciding, threshold
from lannunet_landmarks.types import Prediction
from PIL import Image

from lannunet_core import load_checkpoint, save_checkpoint
from lannunet_core.hookspecs import Coordinates, State

SIDE, LANDMARKS, MISSING = 48, 3, 0.2


def draw(rng, shown):
    """A picture (H, W) with the `shown` of: a bright blob, a dark blob, a bright ring; and their centres."""
    while True:
        points = rng.uniform(8, SIDE - 9, (LANDMARKS, 2))
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e3 * np.eye(LANDMARKS)
        if apart.min() > 14:
            break
    y, x = np.indices((SIDE, SIDE))
    pixels = rng.normal(110, 8, (SIDE, SIDE))
    for n in np.flatnonzero(shown):
        distance = np.hypot(x - points[n, 0], y - points[n, 1])
        profile = np.exp(-(((distance - 5) / 1.5) ** 2)) if n == 2 else np.exp(-((distance / 3) ** 2))
        pixels += (80, -80, 60)[n] * profile
    return pixels.clip(0, 255).astype(np.uint8), points


def write_pictures(project, counts, missing):
    """Instead of the project's: the same pictures with and without missing landmarks, except for these."""
    for split, count in counts.items():
        samples = []
        for number in range(count):
            rng = np.random.default_rng([list(counts).index(split), number])
            shown = rng.random(LANDMARKS) >= MISSING
            pixels, points = draw(rng, shown if missing else np.ones(LANDMARKS, bool))
            name = f"{split}{number}.png"
            Image.fromarray(pixels).save(project.folder / "images" / name)
            places = [
                p.tolist() if s or not missing else "absent" for p, s in zip(points, shown, strict=True)
            ]
            samples.append({"id": name, "image": f"images/{name}", "coordinates": places})
        project.annotations[split] = samples


def figures(project):
    return json.loads((project.out / "summary.json").read_text())


def on_pictures(project, training, others):
    """The project on pictures, some of whose landmarks are missing."""
    project.set(
        sampler={"input_size": [SIDE, SIDE], "data_aug": "None"},
        solver={"mini_batch_size": 40, "max_epochs": 2, "data_loader_batch_size_train": 8},
        inference={"presence": True},
    )
    counts = {"training": training, "validation": others, "testing": others}
    write_pictures(project, counts, missing=True)
    return project


@pytest.fixture
def blank(make_project):
    return make_project(landmarks=LANDMARKS, splits={"training": 1, "validation": 1, "testing": 1})


@pytest.fixture
def pictures(blank):
    return on_pictures(blank, 60, 30)


@pytest.fixture
def few_pictures(blank):
    """Few pictures, for tests that do not depend on the learned weights."""
    return on_pictures(blank, 8, 8)


numbers = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=8).map(np.array)


@given(visible=numbers, absent=numbers)
def test_no_threshold_decides_better(visible, absent):
    def wrong(at):
        return (visible < at[:, None]).sum(1) + (absent >= at[:, None]).sum(1)

    found = threshold(visible, absent)
    assert 0 < found < 1
    assert wrong(np.array([found]))[0] <= wrong(np.linspace(1e-6, 1 - 1e-6, 2**13 + 1)).min()


def test_a_threshold_lies_in_the_middle_of_the_gap():
    assert threshold(np.array([0.5, 0.8]), np.array([0.0, 0.1])) == pytest.approx(0.3)


def test_a_landmark_that_always_is_there_takes_the_threshold_of_all():
    confidence = np.array([[0.9, 0.8, 0.3], [0.2, 0.9, 0.05], [0.8, 0.6, 0.2]])
    states = np.array([[0, 0, 0], [State.ABSENT, 0, State.OUTSIDE], [0, 0, State.UNLABELLED]])
    predictions = [
        Prediction("a", Path("a"), np.zeros((3, 2)), c, states=s)
        for c, s in zip(confidence, states, strict=True)
    ]
    found = calibrated(predictions)
    assert found == pytest.approx([(0.2 + 0.8) / 2, (0.2 + 0.3) / 2, (0.05 + 0.3) / 2])


def test_what_has_no_point_is_not_there():
    points = torch.tensor([[[1.0, 2.0], [torch.nan, torch.nan], [1.0, 2.0]]])
    found = Coordinates(points, torch.tensor([[0.5, 0.0, 0.49]]))
    decide = deciding(lambda batch, mode: Located([], {"net": found}), [0.5, 0.0, 0.5])
    assert decide({}, "use_input_size").present.tolist() == [[True, False, False]]


def errors(project):
    """The error of each landmark that was found, by sample and landmark."""
    return {(r["id"], r["landmark"]): float(r["error_px"]) for r in project.rows() if r["error_px"]}


@pytest.mark.slow
def test_missing_landmarks_are_found_to_be_and_cost_the_others_little(pictures):
    """Over four seeds: the errors of two runs, a sixth of a pixel, differ by a tenth whatever is missing."""
    counts = {"training": 400, "validation": 100, "testing": 300}
    pictures.set(
        solver={"mini_batch_size": 100, "max_epochs": 10, "data_loader_batch_size_train": 8},
        trainer={"validate_every": 5},
        model={"unet": {"init_features": 8, "max_features": 32}},
    )
    pairs = []
    for seed in range(4):
        write_pictures(pictures, counts, missing=True)
        pictures.set(inference={"presence": True}, solver={"seed": seed})
        assert pictures.train("--overwrite") == 0
        presence = figures(pictures)["overall"]["presence"]
        assert presence["precision"] >= 0.95
        assert presence["sensitivity"] >= 0.95
        with_missing = errors(pictures)

        write_pictures(pictures, counts, missing=False)
        pictures.set(inference={"presence": False})
        assert pictures.train("--overwrite") == 0
        everything = errors(pictures)
        pairs += [(error, everything[key]) for key, error in with_missing.items()]
        print(f"seed {seed}: {presence}, {np.mean(pairs[-len(with_missing) :], axis=0)} px")
    with_missing, without = np.mean(pairs, axis=0)
    assert with_missing <= 1.05 * without


def test_in_a_run_and_with_its_model(pictures, capsys):
    """A quick training: what is decided is written, evaluated, and kept in the model."""
    assert pictures.train() == 0
    rows = pictures.rows()
    assert {row["present"] for row in rows} == {"true", "false"}
    for row in rows:
        assert bool(row["x"]) == (row["present"] == "true")
        assert float(row["confidence"]) >= 0
    told = {(row["present"], row["state"]) for row in rows}
    assert told >= {("true", "visible"), ("false", "absent")}

    presence = figures(pictures)["overall"]["presence"]
    right = sum(row["present"] == "true" and row["state"] == "visible" for row in rows)
    assert presence["precision"] == pytest.approx(right / sum(row["present"] == "true" for row in rows))
    assert presence["sensitivity"] == pytest.approx(right / sum(row["state"] == "visible" for row in rows))
    assert presence["precision"] >= 0.9
    assert presence["sensitivity"] >= 0.9
    assert (
        f"specificity {presence['specificity']:.1%}, precision {presence['precision']:.1%}"
        in capsys.readouterr().out
    )

    def decided(rows):
        return [(row["x"], row["y"], row["confidence"], row["present"]) for row in rows]

    images = [pictures.folder / sample["image"] for sample in pictures.annotations["testing"]]
    found = pictures.folder / "found"
    assert pictures.lannunet("predict", pictures.out, *images, "-o", found) == 0
    assert decided(pictures.rows(found)) == decided(rows)
    assert pictures.lannunet("evaluate", pictures.out / "predictions.csv", pictures.json) == 0
    assert f"sensitivity {presence['sensitivity']:.1%}" in capsys.readouterr().out

    again = shutil.copy(
        pictures.out / "checkpoints" / "best.safetensors", pictures.folder / "again.safetensors"
    )
    both = ("--also", again, "--overwrite")
    assert pictures.lannunet("predict", pictures.out, *images, "-o", found, *both) == 0
    assert [row["present"] for row in pictures.rows(found)] == [row["present"] for row in rows]


def test_a_flat_map_is_no_landmark(few_pictures, workshop):
    few_pictures.set(trainer={"plugins": ["blind"]}, solver={"max_epochs": 1, "mini_batch_size": 1})
    assert few_pictures.train() == 0
    assert {(row["x"], row["present"]) for row in few_pictures.rows()} == {("", "false")}
    presence = figures(few_pictures)["overall"]["presence"]
    assert (presence["precision"], presence["sensitivity"], presence["specificity"]) == (None, 0, 1)


def test_without_missing_landmarks_there_is_nothing_to_calibrate(project, capsys):
    project.set(inference={"presence": True})
    assert project.train() == 2
    assert 'inference.presence: "validation" of' in capsys.readouterr().err
    assert not project.out.exists()


def test_a_model_that_was_not_calibrated_is_refused(few_pictures, capsys):
    few_pictures.set(solver={"max_epochs": 1, "mini_batch_size": 1}, inference={"presence": False})
    assert few_pictures.train() == 0
    model = few_pictures.out / "checkpoints" / "best.safetensors"
    content = load_checkpoint(model)
    assert "present_from" not in content.learned
    content.config["inference"]["presence"] = True  # as after an interruption
    save_checkpoint(model, content)
    image = few_pictures.folder / few_pictures.annotations["testing"][0]["image"]
    assert few_pictures.lannunet("predict", model, image, "-o", few_pictures.folder / "found") == 2
    assert "has no threshold of presence" in capsys.readouterr().err


def test_a_model_to_start_from_decides_nothing_in_training(few_pictures):
    """Thresholds depend on the confidences of the same epoch, so they must not choose the best epoch."""
    few_pictures.set(solver={"max_epochs": 1, "mini_batch_size": 4})
    assert few_pictures.train() == 0
    start = few_pictures.folder / "start.safetensors"
    content = load_checkpoint(few_pictures.out)
    assert len(content.learned["present_from"]) == LANDMARKS
    found = []
    for learned in ({}, {"present_from": [0.999] * LANDMARKS}):
        save_checkpoint(start, replace(content, learned=learned))
        few_pictures.set(model={"checkpoint": start.name})
        assert few_pictures.train("--overwrite") == 0
        found.append([row["validation_error"] for row in few_pictures.metrics()])
    assert found[0] == found[1]


def test_a_model_in_use_decides_by_what_it_learned(few_pictures, capsys):
    """On images of which none is known that tell how to."""
    few_pictures.set(solver={"max_epochs": 1, "mini_batch_size": 4})
    assert few_pictures.train() == 0
    rows = few_pictures.rows()
    few_pictures.annotations["validation"] = []
    again = few_pictures.folder / "again"
    use = {"model.checkpoint": few_pictures.out, "trainer.inference_only": "true", "output.output_dir": again}
    words = [word for key, value in use.items() for word in ("--set", f"{key}={value}")]
    assert few_pictures.train(*words) == 0
    assert few_pictures.rows(again) == rows
    capsys.readouterr()

    model = few_pictures.out / "checkpoints" / "best.safetensors"
    save_checkpoint(model, replace(load_checkpoint(model), learned={}))
    assert few_pictures.train(*words, "--overwrite") == 2
    assert 'inference.presence: "validation" of' in capsys.readouterr().err
    assert few_pictures.rows(again) == rows
