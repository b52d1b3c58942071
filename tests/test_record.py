"""Claimed folders: one process at a time, and no third-party file is replaced."""

import os
import signal
import subprocess
import sys

import pytest

from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.record import LOCK, RECORD, earlier_results, lock_folder, releasing

HOLDING = """
import sys, time
from pathlib import Path
from lannunet_core.record import lock_folder
lock_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes into `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_are_kept_apart(tmp_path, holder):
    with pytest.raises(UserError, match=rf"another process \(number {holder.pid}\) writes into this folder"):
        lock_folder(tmp_path)


def test_a_dead_process_is_no_obstacle(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with releasing():
        lock_folder(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_what_a_dead_process_left_half_written_is_removed(tmp_path):
    ours, other = tmp_path / ".lannunet-123-map.npy", tmp_path / ".lannunet-notes"
    for path in (ours, other):
        path.write_text("half")
    with releasing():
        lock_folder(tmp_path)
    assert not ours.exists()
    assert other.exists()


def test_a_share_that_refuses_locks_links_and_times(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    fcntl = pytest.importorskip("fcntl")
    for module, names in ((os, ("chmod", "utime", "chown", "link", "symlink")), (fcntl, ("flock", "lockf"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    with releasing():
        lock_folder(tmp_path)
        write_text(tmp_path / "a", "1")
    assert [path.name for path in earlier_results(tmp_path)] == ["a"]


def test_what_is_claimed_and_not_used_leaves_nothing(tmp_path):
    with releasing():
        lock_folder(tmp_path / "a" / "b")
        lock_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_ours_are_replaced(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "theirs").write_text("theirs")
    with releasing():
        lock_folder(tmp_path)
        write_text(tmp_path / "ours", "1")
        write_text(tmp_path / "ours", "2")
        with pytest.raises(UserError, match="theirs: lannunet did not write this file"):
            write_text(tmp_path / "sub" / "theirs", "ours")
    assert (tmp_path / "sub" / "theirs").read_text() == "theirs"
    with releasing():
        lock_folder(tmp_path)
        write_text(tmp_path / "ours", "3")
    assert (tmp_path / RECORD).read_text() == "ours\n"
    write_text(tmp_path / "sub" / "theirs", "mine")  # in no claimed folder
