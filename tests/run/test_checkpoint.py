import pickle

import pytest
import torch

from lannunet_core.errors import UserError
from lannunet_core.run import checkpoint
from lannunet_core.run.checkpoint import Checkpoint


class Evil:
    """Unpickling it would leave a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_round_trip(tmp_path):
    written = Checkpoint(
        learner={"network.weight": torch.arange(6.0).reshape(2, 3)},
        config={"solver": {"seed": 3}},
        run={"outputs": ("a", "b"), "spacing": None},
        plugins=[{"name": "unet", "distribution": "lannunet-unet", "version": "1"}],
        sizing={"max_epochs": 2},
        progress={"best_error": float("inf"), "history": [{"epoch": 1}]},
    )
    checkpoint.save_checkpoint(tmp_path / "a.pt", written)
    read = checkpoint.load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(read.learner.pop("network.weight"), written.learner.pop("network.weight"))
    assert read == written
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(tmp_path, legacy):
    trace = tmp_path / "trace"
    content = {"lannunet": checkpoint.FORMAT, "learner": Evil(trace)}
    if legacy:
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt: cannot be loaded safely"):
        checkpoint.load_checkpoint(tmp_path / "evil.pt")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04", b"not a model", b".", bytes(200), b"\x80\x02}q\x00."]
)
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pt: .*lannunet train"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


def test_a_truncated_model_is_refused(tmp_path, trained):
    content = (trained.out / "checkpoints" / "best.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.pt: cannot be loaded safely .*lannunet train"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"lannunet": 99}])
def test_someone_elses_model_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="not a model of this version"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


def test_a_runs_folder_stands_for_its_best_model(trained):
    best = checkpoint.load_checkpoint(trained.out)
    assert best.progress == {}
    assert best.run_info().outputs == ("0", "1")
    assert best.run_info().input_size == (32, 32)


def test_the_latest_model_has_all_that_goes_on(trained):
    latest = checkpoint.load_checkpoint(trained.out / "checkpoints" / "latest.pt")
    assert latest.progress["epoch"] == 2
    assert latest.optimizer["state"]
    assert latest.scheduler["last_epoch"] == 6


@pytest.mark.parametrize(
    "content", [{"lannunet": 1, "learner": {}}, {"lannunet": 1, "of a later version": 1}]
)
def test_a_model_with_other_entries_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: not a model of this version"):
        checkpoint.load_checkpoint(tmp_path / "a.pt")
