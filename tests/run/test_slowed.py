"""A run that gets slower after it was sized keeps its budget; a repeat of its record is the same run."""

import json
from functools import partial

import pytest
import torch
import yaml

from lannunet_core.run import run
from lannunet_core.run.checkpoint import load_checkpoint

SLOWED = """
import os
import signal
import time
from pathlib import Path

from lannunet_core import Plugin, hookimpl


class Slowed(Plugin):
    rates = []

    @hookimpl(wrapper=True)
    def training_step(self, step):
        self.rates.append(step.optimizers[0].param_groups[0]["lr"])
        if "SLOWED" in os.environ and step.epoch >= 3:
            time.sleep(0.3)
        return (yield)

    @hookimpl
    def observe(self, event):
        if event.name == "epoch" and "STOPPED" in os.environ:
            if "shortened: []" not in Path(event.output_dir, "config.yaml").read_text():
                os.kill(os.getpid(), signal.SIGINT)


class Own(Slowed):
    @hookimpl
    def optimizer_and_scheduler(self, module, total_steps):
        import torch
        from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
        line = LinearLR(optimizer, 1.0, 0.1, total_steps)
        return optimizer, [line, ReduceLROnPlateau(optimizer, patience=1000)]
"""


BUDGET = 2.0  # seconds


def latest(folder):
    return load_checkpoint(folder / "checkpoints" / "latest.pt")


@pytest.mark.parametrize(
    ("task", "plugin"), [("project", "slowed"), pytest.param("segmentation", "own", marks=pytest.mark.slow)]
)
def test_the_budget_is_kept_and_recorded(request, distribution, monkeypatch, capsys, task, plugin):
    project = request.getfixturevalue(task)
    distribution("slowed", {"slowed": "slowed:Slowed", "own": "slowed:Own"}, {"slowed.py": SLOWED})
    project.set(
        solver={"max_epochs": "auto", "budget_minutes": BUDGET / 60, "mini_batch_size": 1},
        trainer={"plugins": [plugin], "validate_every": 2},
    )
    quiet = partial(run.size_run, step=0.15, validation=0.01)  # as measured on a quiet machine
    monkeypatch.setattr(run, "size_run", lambda config, *_, **__: quiet(config))
    with monkeypatch.context() as patch:
        patch.setenv("SLOWED", "yes")
        patch.setenv("STOPPED", "yes")
        assert project.train() == 130
        patch.delenv("STOPPED")
        assert project.train("--resume") == 0
    printed = capsys.readouterr().out

    solver = yaml.safe_load((project.out / "config.yaml").read_text())["solver"]
    (after, _), *_ = solver["shortened"]
    end = solver["shortened"][-1][1]
    rows = project.metrics()
    assert after < end == len(rows) < solver["max_epochs"]
    took = sum(row["seconds"] for row in rows)
    assert took < 1.1 * BUDGET + rows[-1]["seconds"] or end == solver["shortened"][-1][0] + 1
    said = [line for line in printed.splitlines() if line.startswith("epochs got slower")]
    assert len(said) == len(solver["shortened"])
    assert f"ends with epoch {end}, at about " in said[-1]
    assert said[-1].endswith("(solver.shortened)")
    assert [list(row) for row in latest(project.out).sizing["shortened"]] == solver["shortened"]
    assert json.loads((project.out / "run.json").read_text())["sizing"]["shortened"] == solver["shortened"]
    if plugin == "own":
        assert "LinearLR is shortened from here, ReduceLROnPlateau stays as it is" in said[-1]
        assert rows[-1]["lr"] == pytest.approx(1e-4)
    else:
        assert "PolySchedule is shortened from here" in said[-1]
        planned = [2e-3 * (1 - epoch / solver["max_epochs"]) ** 0.9 for epoch in range(1, after + 1)]
        assert [row["lr"] for row in rows[:after]] == pytest.approx(planned)
        assert "validation_error" in rows[-1]
        assert rows[-1]["lr"] == 0 < rows[-2]["lr"]

    repeat = project.folder / "repeat"
    recorded = project.out / "config.yaml"
    assert project.lannunet("train", recorded, "--set", f"output.output_dir={repeat}") == 0
    one, other = (latest(folder).learner for folder in (project.out, repeat))
    assert all(torch.equal(one[name], other[name]) for name in one)
    settings = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (project.out, repeat)]
    assert settings[0]["solver"] == settings[1]["solver"]
    assert project.lannunet("train", recorded, "--resume") == 0
