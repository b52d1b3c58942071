"""The plugin for mypy, on a correct and on a wrong plugin."""

import os
import re
import subprocess
import sys
from pathlib import Path

import lannunet_landmarks
import pytest

import lannunet_core

# torch and NumPy are left out, because reading them takes mypy half a minute.
SETTINGS = """
[mypy]
strict = true
plugins = lannunet_core.mypy
[mypy-torch.*,numpy.*]
follow_imports = skip
[mypy-lannunet_core.*,lannunet_landmarks.*,pydantic.*]
follow_imports = silent
"""
RIGHT = """
from collections.abc import Mapping, Sequence
from pathlib import Path

from lannunet_core import Coordinates, EvaluationMode, Event, Plugin, hookimpl
from lannunet_landmarks import Prediction
from torch import Tensor, nn


class Right(Plugin):
    @hookimpl
    def network(self) -> nn.Module:
        return nn.Identity()

    @hookimpl
    def get_coords_from_heatmap(self, evaluation_mode: EvaluationMode, heatmaps: Tensor) -> Coordinates:
        return Coordinates(heatmaps, heatmaps)

    @hookimpl
    def metrics(self, predictions: Sequence[Prediction]) -> Mapping[str, float]:
        return {"count": len(predictions)}

    @hookimpl
    def observe(self, event: Event) -> None:
        print(event.name)

    @hookimpl
    def debug_sample(self, folder: Path):  # type: ignore[no-untyped-def]
        return True

    @hookimpl(wrapper=True)
    def loss(self):  # type: ignore[no-untyped-def]
        return (yield)

    def helper(self, landmark: int) -> int:
        return landmark
"""
WRONG = """
from collections.abc import Mapping
from pathlib import Path

from lannunet_core import Plugin, hookimpl
from lannunet_core.hookspecs import Event


class Wrong(Plugin):
    @hookimpl
    def metric(self) -> Mapping[str, float]:
        return {}

    @hookimpl
    def observe(self, events: Event) -> None: ...

    @hookimpl
    def debug_sample(self, folder: str) -> bool:
        return True

    @hookimpl
    def metrics(self) -> Mapping[str, str]:
        return {}

    @hookimpl
    def sampling(self) -> int:
        return 3

    @hookimpl
    def debug_prediction(self, folder: Path = Path()) -> bool:
        return True
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[str]:
    """The output of mypy for the two."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    folders = [str(Path(package.__file__).parents[1]) for package in (lannunet_core, lannunet_landmarks)]
    (folder / "mypy.ini").write_text(SETTINGS)
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "right.py", "wrong.py"],
        cwd=folder,
        env=os.environ | {"MYPYPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_a_right_plugin_has_no_error(said):
    assert [line for line in said if line.startswith("right.py")] == []


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def metric(", 'There is no hook "metric"; did you mean "metrics"?'),
        ("def observe(", 'The hook "observe" has no argument "events"; did you mean "event"?'),
        ("def debug_sample(", 'Argument "folder" of the hook "debug_sample" is "Path", not "str"'),
        ("def metrics(", 'The hook "metrics" returns "Mapping[str, float]", not "Mapping[str, str]"'),
        ("def sampling(", 'The hook "sampling" returns "Sampling | None", not "int"'),
        ("def debug_prediction(", 'Argument "folder" of the hook "debug_prediction" must be a plain one'),
    ],
)
def test_what_is_wrong_is_said(said, method, message):
    (line,) = [line for line in said if message in line]
    number = int(re.match(r"wrong\.py:(\d+): error: .*  \[hookimpl\]$", line)[1])
    assert method in "".join(WRONG.splitlines()[number - 1 : number + 1])


def test_nothing_else_is_said(said):
    assert len([line for line in said if line.startswith("wrong.py")]) == len(said) == 6
