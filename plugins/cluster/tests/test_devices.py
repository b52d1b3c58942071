"""Processes of a run that end in different ways."""

import subprocess
import sys

import pytest
from lannunet_cluster import devices
from lannunet_cluster.children import LOST


@pytest.fixture
def ending():
    """Starts processes, each of which waits some seconds and ends with a code."""
    started = []

    def start(*ends):
        for seconds, code in ends:
            program = f"import sys, time; time.sleep({seconds}); sys.exit({code})"
            started.append(subprocess.Popen([sys.executable, "-S", "-c", program]))
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("ends", "codes"),
    [
        ([(0, 2), (3, 0)], [2, None]),  # it saves, so there is nothing to wait for
        ([(0.5, LOST), (0, 1)], [LOST, 1]),
        ([(0.5, 0), (0, 0)], [0, 0]),
    ],
)
def test_others_are_waited_for_while_the_first_may_save(ending, monkeypatch, ends, codes):
    monkeypatch.setattr(devices, "AFTER", 0.1)
    assert devices.exit_codes(ending(*ends)) == codes
