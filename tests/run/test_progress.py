import sys

import pytest

from lannunet_core.run import progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_quick_work_is_silent(clock, capsys):
    with progress.progress_bar("reading", 3) as bar:
        for _ in range(3):
            clock.now += 0.1
            bar.advance()
    assert capsys.readouterr().out == ""


def test_plain_lines_tell_losses_and_time_left(clock, capsys):
    with progress.progress_bar("epoch 1/2", 40) as bar:
        for n in range(40):
            clock.now += 1
            bar.advance(1, f"loss {n}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch 1/2: 11/40, 29 s left loss 10"
    assert lines[-1] == "epoch 1/2: 40/40, 0 s left loss 39"
    assert len(lines) == 4


def test_on_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress.progress_bar("epoch 1/2", 4) as bar:
        bar.advance(2, "loss 0.5")
        bar.advance(2)
