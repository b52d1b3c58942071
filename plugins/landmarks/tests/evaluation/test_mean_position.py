"""The mean position, against plain loops; and runs report the landmarks that are not better."""

import json
from pathlib import Path

import numpy as np
import pytest
from lannunet_images import IMAGE_FILES
from lannunet_images.prepare import prepare_image
from lannunet_landmarks.evaluation.mean_position import (
    as_plain,
    from_plain,
    mean_position,
    not_learned,
    placed,
)
from lannunet_landmarks.schema import RunConfig
from lannunet_landmarks.types import Prediction, Sample

from lannunet_core import State, read_image

NAN = float("nan")


@pytest.fixture(params=[2, 3])
def samples(request, tmp_path):
    """Images of several sizes; one landmark is never annotated, and one only in one of two images."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(6):
        size = rng.integers(20, 60, request.param)
        np.save(tmp_path / f"{number}.npy", rng.normal(size=(1, *size[::-1])))
        points = rng.uniform(0, 1, (4, request.param)) * (size - 1)
        points[1] = NAN
        if number % 2:
            points[2] = NAN
        states = np.where(np.isnan(points[:, 0]), State.UNLABELLED, State.VISIBLE)
        found.append(Sample(str(number), tmp_path / f"{number}.npy", points, states))
    return found


def size_of(sample):
    return np.array(read_image(sample.image, sample.coordinates.shape[1]).pixels.shape[:0:-1])


def predicted(samples):
    return [
        Prediction(s.id, s.image, s.coordinates + 1, np.ones(4), target=s.coordinates, states=s.states)
        for s in samples
    ]


def config(mode="scale_heatmap_first", size=(40, 24)):
    return RunConfig.model_validate(
        {
            "dataset": {"src_targets": "a.json"},
            "sampler": {"input_size": size},
            "inference": {"evaluation_mode": mode},
            "output": {"output_dir": "out"},
        }
    )


def test_the_mean_is_that_of_shares_of_the_size(samples):
    mean = mean_position(samples, IMAGE_FILES)
    assert np.isnan(mean[1]).all()
    for landmark in (0, 2, 3):
        shares = [(s.coordinates[landmark] + 0.5) / size_of(s) for s in samples]
        shares = [share for share in shares if not np.isnan(share).any()]
        assert mean[landmark] == pytest.approx(np.mean(shares, axis=0))
    for sample, one in zip(samples, placed(mean, predicted(samples), IMAGE_FILES, config()), strict=True):
        assert one.coordinates == pytest.approx(mean * size_of(sample) - 0.5, nan_ok=True)
        assert one.target is sample.coordinates


def test_it_is_in_the_frame_of_the_predictions(samples):
    """Validation errors are in input pixels; the centre of an image is the centre of its input."""
    dimensions = samples[0].coordinates.shape[1]
    size = (40, 24, 32)[:dimensions]
    middle = np.full((4, dimensions), 0.5)
    wanted = config("use_input_size", size)
    for one in placed(middle, predicted(samples), IMAGE_FILES, wanted):
        assert one.coordinates == pytest.approx(np.broadcast_to((np.array(size) - 1) / 2, (4, dimensions)))
    corner = np.zeros((4, dimensions))
    for sample, one in zip(samples, placed(corner, predicted(samples), IMAGE_FILES, wanted), strict=True):
        pixels = read_image(sample.image, dimensions).pixels
        _, affine = prepare_image(pixels, size, "letterbox")
        back = one.coordinates @ affine[:-1, :-1].T + affine[:-1, -1]
        assert back == pytest.approx(np.full((4, dimensions), -0.5))


def test_what_does_not_beat_the_mean_is_named():
    def of(points, spacing=(1.0, 1.0)):
        target = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [NAN, NAN], [0.0, 0.0]])
        states = np.where(np.isnan(target[:, 0]), State.UNLABELLED, State.VISIBLE)
        points = np.array(points, float)
        return Prediction("a", Path(), points, np.ones(5), target=target, states=states, spacing=spacing)

    names = "abcde"
    mean = [of([[3, 0], [3, 0], [3, 0], [3, 0], [NAN, NAN]])] * 2
    model = [
        of([[1, 0], [6, 0], [NAN, NAN], [9, 9], [9, 9]]),
        of([[4, 0], [1, 0], [3, 0], [9, 9], [9, 9]]),
    ]
    # c was not found once and is no better in the other image; d is nowhere annotated, and e has no mean.
    assert not_learned(model, mean, names) == ["b", "c"]
    # In mm, where spacing says that y is long.
    tall = [of([[0, 2]] * 5, (1.0, 9.0))]
    assert not_learned(tall, [of([[3, 0]] * 5, (1.0, 9.0))], names) == ["a", "b", "c", "e"]
    assert not_learned([of([[0, 2]] * 5, None)], [of([[3, 0]] * 5, None)], names) == []


def test_a_model_keeps_it(samples):
    mean = mean_position(samples, IMAGE_FILES)
    plain = json.loads(json.dumps(as_plain(mean)))
    assert from_plain(plain, mean.shape) == pytest.approx(mean, nan_ok=True)
    for damaged in (plain[:2], "no", [["a"] * mean.shape[1]] * 4, [[10**400]], None):
        assert from_plain(damaged, mean.shape) is None


# Runs


def test_a_run_tells_what_the_mean_position_gives(trained, capsys, tmp_path):
    summary = json.loads((trained.out / "summary.json").read_text())
    shares = np.mean(
        [(np.array(s["coordinates"]) + 0.5) / 64 for s in trained.annotations["training"]], axis=0
    )
    errors = [
        np.linalg.norm(shares * 64 - 0.5 - np.array(s["coordinates"]), axis=1)
        for s in trained.annotations["testing"]
    ]
    assert summary["mean_position"]["px"]["mean"] == pytest.approx(np.mean(errors))
    model = {name: block["px"]["mean"] for name, block in summary["per_landmark"].items()}
    worse = [name for n, name in enumerate(model) if model[name] >= np.mean(errors, axis=0)[n]]
    assert summary["not_learned"] == worse
    page = (trained.out / "report.html").read_text()
    assert "mean position" in page
    # A model that is used without its training images shows it too.
    only = {"training": [], "testing": trained.annotations["testing"]}
    (tmp_path / "only.json").write_text(json.dumps(only))
    capsys.readouterr()
    given = {
        "dataset.src_targets": tmp_path / "only.json",
        "dataset.root": trained.folder,
        "trainer.inference_only": "true",
        "model.checkpoint": trained.out,
        "output.output_dir": tmp_path / "out",
    }
    words = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    assert trained.lannunet("train", trained.yaml, *words) == 0
    printed = capsys.readouterr().out
    assert "mean position " in printed
    again = json.loads((tmp_path / "out/summary.json").read_text())
    assert again["mean_position"] == summary["mean_position"]
    if worse:
        assert f"not learned (no better than the mean position): {', '.join(worse)}" in printed


def test_the_log_names_what_is_not_learned_yet(make_project, capsys):
    """After six batches, the model is not better than the mean position of a landmark that does not move."""
    project = make_project()
    for split in ("training", "validation", "testing"):
        for sample in project.annotations[split]:
            sample["coordinates"][1] = [40.0, 20.0]
    project.annotations["landmark_names"] = ["moves", "stays"]
    assert project.train() == 0
    rows = project.metrics()
    assert all("stays" in row["not_learned"] for row in rows)
    last = rows[-1]
    error = f"validation error {last['validation_error']:.3f} px"
    line = f"epoch 2/2: loss {last['loss']:.4f}, {error}, not learned: "
    printed = capsys.readouterr().out
    assert line + ", ".join(last["not_learned"]) in printed
    assert printed.count("not learned: ") == 2
    assert "not learned (no better than the mean position): " in printed
