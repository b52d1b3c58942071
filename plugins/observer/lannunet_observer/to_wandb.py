"""Weights & Biases. It reads key, entity and mode from WANDB_… variables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import wandb

from lannunet_observer.tracker import Start


class WandB:
    def __init__(self, given: Start) -> None:
        self.run: str = given.known or uuid4().hex[:12]
        settings = wandb.Settings(  # nothing of the machine, the source or the terminal is sent
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=given.project,
            name=given.name,
            id=self.run,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(given.folder)),
            config=dict(given.config),
            settings=settings,
            reinit="create_new",
        )
        self._run.define_metric("*", step_metric="epoch")

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        self._run.log({"epoch": epoch, **figures})

    def results(self, figures: Mapping[str, float], pictures: Sequence[Path], report: Path) -> None:
        self._run.summary.update(dict(figures))
        shown = [wandb.Image(str(picture), caption=picture.stem) for picture in pictures]
        self._run.log({"predictions": shown, "report": wandb.Html(str(report))})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
