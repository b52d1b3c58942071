"""Workers that die, hang, or find no shared memory."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from lannunet_core.run import batches, workers
from lannunet_core.run.batches import make_loader
from lannunet_core.run.workers import WorkersLost, end_workers, loaded_batches

# Warnings about forks of a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded")


class Doing(Dataset):
    """Call a function at the third sample."""

    def __init__(self, do=lambda: None):
        self.do = do

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 2:
            self.do()
        return {
            "image": torch.full((3, 4), float(index)),
            "extra": {"age": torch.tensor(index)},
            "id": str(index),
        }


def load(dataset, stopping=lambda: False, workers=1):
    loader = make_loader(dataset, workers, torch.device("cpu"), batch_size=1)
    try:
        yield from loaded_batches(loader, stopping)
    finally:
        end_workers(loader)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_worker_that_dies(number):
    batches = load(Doing(lambda: os.kill(os.getpid(), number)))
    with pytest.raises(WorkersLost, match=r"ended, or hang: .*num_workers lower"):
        list(batches)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_worker_leaves_signals_to_the_main_process(number):
    assert len(list(load(Doing(lambda: os.kill(os.getpid(), number))))) == 6


@pytest.fixture
def short_turn(monkeypatch):
    monkeypatch.setattr(workers, "TURN", 0.3)
    monkeypatch.setattr(batches, "TURN", 0.3)


def test_a_worker_that_hangs(monkeypatch, short_turn):
    monkeypatch.setattr(workers, "LIMIT", 0.5)
    with pytest.raises(WorkersLost, match="hang"):
        list(load(Doing(lambda: time.sleep(1000))))


def test_a_stop_while_a_worker_hangs(short_turn):
    """With two workers, torch would wait for them one after the other, ten seconds each."""
    asked, before = time.monotonic(), set(torch.multiprocessing.active_children())
    hang = Doing(lambda: time.sleep(1000))
    assert len(list(load(hang, stopping=lambda: True, workers=2))) == 2
    assert time.monotonic() - asked < 10
    assert set(torch.multiprocessing.active_children()) <= before


def test_without_shared_memory_batches_come_through_pipes(monkeypatch, capsys):
    plain = list(load(Doing()))
    assert "/dev/shm" not in capsys.readouterr().out
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    shared = []
    monkeypatch.setattr("torch.multiprocessing.reductions.reduce_storage", lambda *_: shared.append(1))
    piped = list(load(Doing()))
    assert capsys.readouterr().out.count("/dev/shm is short") == 1
    for one, other in zip(plain, piped, strict=True):
        assert one["id"] == other["id"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["extra"]["age"], other["extra"]["age"])


def start_late(folder):
    while os.getppid() == torch.multiprocessing.parent_process().pid:
        time.sleep(0.01)
    (folder / "begun").write_text(str(os.getpid()))
    workers.start_worker()
    (folder / "lives").touch()


def test_a_worker_that_starts_after_its_main_process_was_killed_ends(tmp_path):
    main = os.fork()
    if main == 0:
        torch.multiprocessing.get_context("fork").Process(target=start_late, args=(tmp_path,)).start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(main, 0)
    begun = tmp_path / "begun"
    while not (begun.exists() and begun.read_text()):
        time.sleep(0.01)
    wait_for_end(int(begun.read_text()))
    assert not (tmp_path / "lives").exists()


def wait_for_end(worker):
    status = Path(f"/proc/{worker}/status")
    until = time.monotonic() + 60
    while status.exists() and "State:\tZ" not in status.read_text():  # its new parent has not collected it
        assert time.monotonic() < until, "the worker lives on"
        time.sleep(0.05)


def test_workers_end_with_a_killed_main_process():
    made, give = os.pipe()
    of_tests = set(torch.multiprocessing.active_children())  # a fork treats them as its own
    main = os.fork()
    if main == 0:
        batches = load(Doing(lambda: time.sleep(1000)))
        next(batches)
        (worker,) = set(torch.multiprocessing.active_children()) - of_tests
        os.write(give, str(worker.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(main, 0)
    wait_for_end(int(os.read(made, 100)))
