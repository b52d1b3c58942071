"""The observer in a run: events in, files and metrics out."""

import csv
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks import Prediction
from lannunet_observer.config import ObserverConfig
from lannunet_observer.plugin import ObserverPlugin
from torch import nn

from lannunet_core import Event, RunInfo, State, UserError

RUN = RunInfo(
    task="landmarks",
    dimensions=2,
    in_channels=1,
    outputs=("tip", "root"),
    input_size=(64, 48),
    spacing=None,
    supervised_resolutions=1,
    device="cpu",
    seed=0,
)


def observer(**settings) -> ObserverPlugin:
    return ObserverPlugin(ObserverConfig(**settings), RUN)


def epoch(number, **further):
    values = {"epoch": number, "loss": 1 / number, "terms": {"kl": 1 / number}, "lr": 0.1, "seconds": 2.0}
    return values | further


def rows(folder):
    with (folder / "observer.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_epoch_is_a_row(tmp_path):
    plugin = observer()
    plugin.observe(Event("start", tmp_path, {"epoch": 0}, nn.Identity()))
    plugin.observe(Event("epoch", tmp_path, epoch(1), nn.Identity()))
    assert [row["epoch"] for row in rows(tmp_path)] == ["1"]  # at once, not at the end
    plugin.observe(Event("epoch", tmp_path, epoch(2, validation_error=3.5), nn.Identity()))
    plugin.observe(Event("end", tmp_path, {}, nn.Identity()))
    assert rows(tmp_path) == [
        {
            "epoch": "1",
            "loss": "1.0",
            "lr": "0.1",
            "validation_error": "",
            "seconds": "2.0",
            "terms/kl": "1.0",
        },
        {
            "epoch": "2",
            "loss": "0.5",
            "lr": "0.1",
            "validation_error": "3.5",
            "seconds": "2.0",
            "terms/kl": "0.5",
        },
    ]


def test_a_resumed_run_goes_on_with_the_file_and_a_new_one_starts_it_anew(tmp_path):
    for number in (1, 2, 3):
        observer().observe(Event("epoch", tmp_path, epoch(number), nn.Identity()))
    observer().observe(Event("epoch", tmp_path, epoch(3, loss=7.0), nn.Identity()))
    assert [(row["epoch"], row["loss"]) for row in rows(tmp_path)] == [
        ("1", "1.0"),
        ("2", "0.5"),
        ("3", "7.0"),
    ]
    observer().observe(Event("epoch", tmp_path, epoch(1, terms={"mse": 4.0}), nn.Identity()))
    assert [(row["epoch"], row["terms/mse"]) for row in rows(tmp_path)] == [("1", "4.0")]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_without_tensorboard_the_start_says_what_to_install(tmp_path):
    with pytest.raises(UserError, match=r"trainer.observer.tensorboard: .*lannunet-observer\[tensorboard\]"):
        observer(tensorboard=True).observe(Event("start", tmp_path, {"epoch": 0}, nn.Identity()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("default")  # tensorboard's own
def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run(numbers, done):
        plugin = observer(tensorboard=True)
        plugin.observe(Event("start", tmp_path, {"epoch": done}, nn.Identity()))
        for number in numbers:
            plugin.observe(Event("epoch", tmp_path, epoch(number), nn.Identity()))
        plugin.observe(Event("failure", tmp_path, {"error": "stopped"}, nn.Identity()))

    def losses():
        read = EventAccumulator(str(tmp_path / "tensorboard"))
        read.Reload()
        assert set(read.Tags()["scalars"]) == {"loss", "terms/kl", "lr", "seconds"}
        return [(event.step, event.value) for event in read.Scalars("loss")]

    run([1, 2], done=0)
    assert losses() == [(1, 1.0), (2, 0.5)]
    run([2, 3], done=1)  # resumed after the first epoch
    assert losses() == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    run([1], done=0)
    assert losses() == [(1, 1.0)]


def prediction(offsets, confidence=(0.5, 0.9), states=(State.VISIBLE, State.VISIBLE), spacing=None):
    target = np.full((2, 2), 10.0)
    return Prediction(
        id="a",
        image=Path("a.png"),
        coordinates=target + np.array([[offset, 0.0] for offset in offsets]),
        confidence=np.array(confidence),
        target=target,
        states=np.array(states),
        spacing=spacing,
    )


def test_figures():
    predictions = [
        prediction((1.0, 3.0), (0.2, 0.4)),
        prediction((3.5, 1.0), (0.6, 0.8)),
        prediction((1.0, 9.0), (0.1, 1.0), (State.VISIBLE, State.UNLABELLED)),
        prediction((1.0, math.nan), (0.3, 0.0)),
        prediction((0.0, 0.0), (0.0, 0.0), (State.ABSENT, State.UNLABELLED)),
    ]
    found = observer(radius=3.0).metrics(predictions)
    assert found["images_within_radius"] == 2 / 4
    assert found["median_confidence"] == pytest.approx(
        np.median([0.2, 0.4, 0.6, 0.8, 0.1, 1.0, 0.3, 0, 0, 0])
    )


def test_radius_is_in_mm_where_every_image_has_a_spacing():
    near, far = prediction((3.0, 3.0), spacing=(0.5, 0.5)), prediction((3.0, 3.0), spacing=(1.0, 1.0))
    assert observer(radius=2.0).metrics([near, far])["images_within_radius"] == 0.5
    assert observer(radius=2.0).metrics([near, prediction((3.0, 3.0))])["images_within_radius"] == 0.0


def test_what_cannot_be_said_is_left_out():
    assert observer().metrics([]) == {}
    loose = Prediction(id="a", image=Path("a.png"), coordinates=np.zeros((2, 2)), confidence=np.ones(2))
    assert observer().metrics([loose]) == {"median_confidence": 1.0}


def test_of_another_task_it_has_no_figures():
    segmenting = ObserverPlugin(ObserverConfig(), replace(RUN, task="segmentation"))
    assert segmenting.metrics([object()]) == {}
