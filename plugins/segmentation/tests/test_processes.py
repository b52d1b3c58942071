import os
import subprocess
import sys
import time

import pytest
from lannunet_segmentation import in_processes

from lannunet_core.errors import RunFailed, UserError


def square(number: int) -> tuple[int, int]:
    if number == 7:
        raise UserError("7 is not squared.")
    if number == 13:
        os._exit(1)
    return number**2, os.getpid()


def late(number: int) -> int:
    time.sleep(0.5 * number)
    return number


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_every_item_is_worked_on_once(jobs):
    found = [result for result, _ in in_processes(square, [1, 2, 3], jobs)]

    assert sorted(found) == [1, 4, 9]


def test_one_job_stays_in_this_process():
    assert [pid for _, pid in in_processes(square, [1, 2], 1)] == [os.getpid()] * 2
    assert os.getpid() not in [pid for _, pid in in_processes(square, [1, 2], 2)]


def test_results_come_as_they_are_done():
    assert list(in_processes(late, [2, 0], 2)) == [0, 2]


def test_nothing_is_nothing():
    assert list(in_processes(square, [])) == []


def test_errors_come_through():
    with pytest.raises(UserError, match="7 is not squared"):
        list(in_processes(square, [7, 8], 2))
    with pytest.raises(RunFailed, match="ended from outside"):
        list(in_processes(square, [13, 13], 2))


HANGS_UP = """
import os
import signal
import sys

from lannunet_segmentation import in_processes


def hang_up(number):
    os.killpg(os.getpgrp(), signal.SIGHUP)
    return number


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: None)
    print(sorted(in_processes(hang_up, [1, 2, 3], 2)))
"""


def test_a_signal_to_the_group_leaves_nothing_behind(tmp_path):
    """The semaphore tracker of multiprocessing, which ends at SIGHUP itself, prints nothing."""
    (tmp_path / "hangs_up.py").write_text(HANGS_UP)
    ended = subprocess.run(
        [sys.executable, tmp_path / "hangs_up.py"], capture_output=True, text=True, start_new_session=True
    )
    assert (ended.stdout, ended.stderr) == ("[1, 2, 3]\n", "")
