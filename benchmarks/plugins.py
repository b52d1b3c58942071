"""The command line with 50 installed plugins against one; none of them is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import Row, seconds

MANY = 50
PROGRAM = "import sys; from lannunet_core.cli import main; main(sys.argv[1:])"
PLUGIN = """
from pathlib import Path

Path(__file__).with_suffix(".imported").touch()

from lannunet_core import Plugin, PluginConfig, hookimpl


class Config(PluginConfig):
    features: int = 8


class Net(Plugin):
    Config = Config

    @hookimpl
    def network(self):
        from torch import nn

        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 3, padding=1)
"""


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        one, many = (installed(Path(folder) / str(count), count) for count in (1, MANY))
        found = []
        for arguments in (["--help"], ["plugins", "list"]):
            plain, ours = seconds(call(one, arguments), call(many, arguments), repeats=15)
            listed = call(many, arguments)().count("dummy-")
            found.append(
                Row(
                    f"lannunet {' '.join(arguments)}, {MANY} plugins",
                    "the same with one",
                    plain,
                    ours,
                    at_most=1.5,
                    note="none is imported",
                    same=listed in (0, MANY) and not list(many.glob("*.imported")),
                )
            )
    return found


def installed(folder: Path, count: int) -> Path:
    """Write a folder with dummy distributions, for PYTHONPATH."""
    for i in range(count):
        info = folder / f"dummy_{i}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"dummy_{i}.py").write_text(PLUGIN)
        requires = "Requires-Dist: lannunet-core>=0.1,<0.2\nRequires-Dist: torch>=2.4\n"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dummy-{i}\nVersion: 1.0\n{requires}")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "entry_points.txt").write_text(f"[lannunet.plugins]\ndummy{i} = dummy_{i}:Net\n")
    return folder


def call(path: Path, arguments: list[str]) -> Callable[[], str]:
    """Run the command with these distributions on PYTHONPATH, and return its output."""
    environment = os.environ | {"PYTHONPATH": str(path)}

    def run() -> str:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return ended.stdout + ended.stderr

    return run
