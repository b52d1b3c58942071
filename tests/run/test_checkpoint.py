import json
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lannunet_core.errors import UserError
from lannunet_core.run import checkpoint
from lannunet_core.run.checkpoint import Checkpoint

RUN = {
    "task": "landmarks",
    "dimensions": 2,
    "in_channels": 1,
    "outputs": ["a", "b"],
    "input_size": [32, 32],
    "spacing": None,
    "supervised_resolutions": 1,
    "device": "cpu",
    "seed": 0,
}


PLUGIN = {"name": "unet", "distribution": "lannunet-unet", "version": "1"}


class Evil:
    """An object whose unpickling would write a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_round_trip(tmp_path):
    written = Checkpoint(
        learner={"network.weight": torch.arange(6.0).reshape(2, 3)},
        config={"solver": {"seed": 3}},
        run={**RUN, "outputs": ("a", "b")},
        plugins=[{"name": "unet", "distribution": "lannunet-unet", "version": "1"}],
        sizing={"max_epochs": 2},
        progress={"best_error": float("inf"), "history": [{"epoch": 1}]},
    )
    checkpoint.save_checkpoint(tmp_path / "a.pt", written)
    read = checkpoint.load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(read.learner.pop("network.weight"), written.learner.pop("network.weight"))
    assert read == written
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_model_for_use_round_trips_in_safetensors(tmp_path):
    """Tensors that share memory, tensors that are not contiguous, and values that are not tensors."""
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"network.a": shared, "network.b": shared, "network.c": shared.T, "loss.calls": 3}
    written = Checkpoint(
        learner=state,
        config={"solver": {"seed": 3}},
        run=RUN,
        plugins=[{"name": "net", "distribution": "a-net", "version": "1"}],
        sizing={"max_epochs": 2},
        learned={"thresholds": [0.1, 0.25]},
    )
    checkpoint.save_checkpoint(tmp_path / "a.safetensors", written)
    read = checkpoint.load_checkpoint(tmp_path / "a.safetensors")
    assert read.learner.pop("loss.calls") == state.pop("loss.calls")
    assert {name: value.tolist() for name, value in read.learner.items()} == {
        name: value.tolist() for name, value in state.items()
    }
    assert replace(read, learner={}) == replace(written, learner={})
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_model_may_be_written_over_while_its_weights_are_in_use(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save_checkpoint(path, Checkpoint({"a": torch.arange(99_999.0)}, {}, RUN, [PLUGIN], {}))
    read = checkpoint.load_checkpoint(path)
    checkpoint.save_checkpoint(path, replace(read, learned={"more": 1}))
    again = checkpoint.load_checkpoint(path)
    assert again.learned == {"more": 1}
    assert torch.equal(again.learner["a"], read.learner["a"])
    assert read.learner["a"].sum() == torch.arange(99_999.0).sum()


@pytest.mark.parametrize(("presence", "learned"), [([0.25, 0.5], {"presence": [0.25, 0.5]}), ([], {})])
def test_a_model_of_core_0_1_0_is_read(tmp_path, presence, learned):
    content = {
        "lannunet": 1,
        "learner": {name: torch.ones(3) for name in ("network.weight", "loss.width", "label_width.log")},
        "config": {"solver": {"seed": 3}},
        "run": {**RUN, "outputs": ("a", "b")},
        "plugins": [{"name": "net", "distribution": "a-net", "version": "0.1.0"}],
        "sizing": {"max_epochs": 2},
        "presence": presence,
        "provenance": {"git": "abc"},
        "progress": {},
        "optimizer": {},
        "scheduler": {},
    }
    (tmp_path / "checkpoints").mkdir()
    torch.save(content, tmp_path / "checkpoints" / "best.pt")
    read = checkpoint.load_checkpoint(tmp_path)
    assert read.learned == learned
    assert list(read.learner) == ["network.weight", "loss.width", "label_width.log"]
    assert (read.run, read.provenance) == (content["run"], content["provenance"])


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(tmp_path, legacy):
    trace = tmp_path / "trace"
    content = {"lannunet": checkpoint.FORMAT, "learner": Evil(trace)}
    if legacy:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt: cannot be loaded safely") as refused:
        checkpoint.load_checkpoint(tmp_path / "evil.pt")
    assert not trace.exists()
    assert "weights_only" not in str(refused.value)  # torch's message explains how to load it anyway
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"run": {}},
        {"run": {**RUN, "dimensions": "many"}},
        {"run": None},
        {"plugins": []},
        {"plugins": [{"name": "unet"}]},
        {"plugins": {"name": 3}},
        {"config": [1]},
        {"learned": "x"},
    ],
)
def test_a_model_with_values_of_other_types_is_refused(tmp_path, change):
    good = Checkpoint({"a": torch.ones(2)}, {}, RUN, [PLUGIN], {})
    checkpoint.save_checkpoint(tmp_path / "a.pt", good)
    checkpoint.load_checkpoint(tmp_path / "a.pt")
    content = {checkpoint.METADATA: checkpoint.FORMAT, **asdict(replace(good, **change))}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="not a model of this version"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04", b"not a model", b".", bytes(200), b"\x80\x02}q\x00."]
)
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pt: .*lannunet train"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["best.safetensors", "latest.pt"])
def test_a_truncated_model_is_refused(tmp_path, trained, name):
    content = (trained.out / "checkpoints" / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{name}: cannot be loaded safely .*lannunet train"):
        checkpoint.load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"lannunet": "1"}])
def test_someone_elses_model_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="not a model of this version"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


def test_a_model_that_is_too_new_says_what_to_update(tmp_path):
    torch.save({"lannunet": checkpoint.FORMAT + 1, "weights": {}}, tmp_path / "a.pt")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"lannunet": json.dumps({"format": 99})})
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(UserError, match=r"newer version than .*: pip install --upgrade lannunet$"):
            checkpoint.load_checkpoint(tmp_path / name)


def test_a_model_names_files_and_its_run_knows_where_they_lie(trained, tmp_path):
    for name in ("best.safetensors", "latest.pt"):
        model = trained.out / "checkpoints" / name
        moved = Path(shutil.copy(model, tmp_path))
        assert checkpoint.load_checkpoint(model).config["dataset"]["src_targets"] == str(trained.json)
        assert checkpoint.load_checkpoint(moved).config["dataset"]["src_targets"] == trained.json.name
        assert str(trained.folder).encode() not in moved.read_bytes()


def test_a_runs_folder_stands_for_its_best_model(trained):
    best = checkpoint.load_checkpoint(trained.out)
    assert best.progress == {}
    assert best.run_info().outputs == ("0", "1")
    assert best.run_info().input_size == (32, 32)


def test_the_latest_model_has_all_that_goes_on(trained):
    latest = checkpoint.load_checkpoint(trained.out / "checkpoints" / "latest.pt")
    assert latest.progress["epoch"] == 2
    assert latest.optimizer["several"][0]["state"]
    assert latest.scheduler["several"][0]["last_epoch"] == 6


@pytest.mark.parametrize(
    "content", [{"lannunet": 1, "learner": {}}, {"lannunet": 1, "of a later version": 1}]
)
def test_a_model_with_other_entries_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: not a model of this version"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")
