"""The training loop. Where it stands is a small record, so that a run goes on exactly where it stopped."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from lannunet_core.errors import RunFailed
from lannunet_core.files import atomic_path
from lannunet_core.hookspecs import Event
from lannunet_core.plugins.hooks import Hooks
from lannunet_core.run import progress as terminal
from lannunet_core.run.batches import EpochOrder, loaded_batches
from lannunet_core.run.checkpoint import Checkpoint, save_checkpoint
from lannunet_core.run.learner import Learner, Unrounded
from lannunet_core.run.output import write_metrics
from lannunet_core.run.sizing import Sizing
from lannunet_core.task import TrainingSet, Validated

MAX_GRADIENT_NORM = 12.0


@dataclass
class Progress:
    """Where a training run stands.

    Attributes:
        epoch: Epochs finished.
        step: Batches finished of the epoch under way.
        sums: Sums of the loss terms over those batches.
        best_error: The lowest validation error so far.
        best_epoch: The epoch it was measured after.
        stale: Validations since.
        history: One row an epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_error: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the run was saved."""


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that no step is torn; a second one ends at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_workers(loader: DataLoader[Any]) -> None:
    """End persistent workers now. The garbage collector, which would do it, takes its time and then waits."""
    iterator = loader._iterator
    if iterator is not None and loader.num_workers > 0:
        iterator._shutdown_workers()  # type: ignore[attr-defined]  # there is no public way
    loader._iterator = None


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Dropout and the like are a function of (seed, epoch, step), so that a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0]))


class Training:
    """Trains a learner to the end of its run.

    Args:
        learner: What is trained.
        hooks: The run's hooks; `optimizer_and_scheduler` and `observe` are asked here.
        fabric: Device and precision.
        samples: Of the training split.
        loader: Their batches; `order` says which.
        order: The loader's batch sampler.
        sizing: How long to train.
        optimizer: Over the learner's parameters.
        scheduler: Stepped after every batch.
        validate: The current validation error, see `Validated`.
        checkpoint: Makes the part of a checkpoint that does not change.
        patience: Validations without improvement after which training ends.
        seed: The run's seed.
        folder: The run's folder.
        debug_folder: Where pictures of the first batch go; None: nowhere.
    """

    def __init__(
        self,
        learner: Learner,
        hooks: Hooks,
        fabric: Fabric,
        samples: TrainingSet,
        loader: DataLoader[Any],
        order: EpochOrder,
        sizing: Sizing,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        validate: Callable[[], Validated],
        checkpoint: Callable[..., Checkpoint],
        patience: int,
        seed: int,
        folder: Path,
        debug_folder: Path | None = None,
    ) -> None:
        self.learner, self.hooks, self.fabric = learner, hooks, fabric
        self.samples, self.loader, self.order, self.sizing = samples, loader, order, sizing
        self.wrapped, self.optimizer = fabric.setup(learner, optimizer)
        self.scheduler = scheduler
        self.validate, self.checkpoint, self.patience = validate, checkpoint, patience
        self.seed, self.folder, self.debug_folder = seed, folder, debug_folder
        self.progress = Progress()

    def resume(self, checkpoint: Checkpoint) -> None:
        self.learner.load_state_dict(checkpoint.learner)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint.scheduler)
        self.progress = Progress(**checkpoint.progress)

    def run(self) -> None:
        try:
            with stop_requested() as stopping:
                while self.progress.epoch < self.sizing.max_epochs and self.progress.stale < self.patience:
                    self.train_epoch(stopping)
                    self.finish_epoch()
                    if stopping():
                        raise self.interrupted()
        finally:
            end_workers(self.loader)
        if not self.best_path.exists():  # nothing to validate on: the last model is the best
            self.save_best()

    def train_epoch(self, stopping: Callable[[], bool]) -> None:
        progress = self.progress
        self.learner.train()
        self.order.set_position(progress.epoch, progress.step)
        self.started = time.monotonic()
        title = f"epoch {progress.epoch + 1}/{self.sizing.max_epochs}"
        with terminal.progress_bar(title, self.sizing.mini_batch_size) as bar:
            bar.advance(progress.step)
            for loaded in loaded_batches(self.loader):
                batch = self.samples.on_device(loaded, self.fabric.device)
                seed_step(self.seed, progress.epoch, progress.step)
                terms = self.train_step(batch)
                for name, value in terms.items():
                    progress.sums[name] = progress.sums.get(name, 0.0) + value
                progress.step += 1
                bar.advance(1, f"loss {sum(terms.values()):.4g}")
                if stopping():
                    self.save_latest()
                    raise self.interrupted()

    def interrupted(self) -> Interrupted:
        at = self.progress
        print(f"saved at epoch {at.epoch + 1}, batch {at.step + 1}; go on with --resume", flush=True)
        return Interrupted("stopped on request")

    def train_step(self, batch: Mapping[str, Any]) -> dict[str, float]:
        if self.debug_folder is not None:
            self.learner.eval()  # looking on changes no running statistics and draws no dropout
            with torch.no_grad():
                labels = self.learner.labels(batch, self.learner.network(batch["image"]))
            self.learner.train()
            self.hooks.debug_sample(batch=batch, labels=labels, folder=self.debug_folder)
            self.debug_folder = None
        terms: dict[str, Tensor] = self.wrapped(Unrounded(batch))
        stacked = torch.stack(list(terms.values()))
        values = dict(zip(terms, stacked.tolist(), strict=True))
        if not math.isfinite(sum(values.values())):
            self.fail(batch, values)
        self.fabric.backward(stacked.sum())
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=MAX_GRADIENT_NORM, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step()
        return values

    def fail(self, batch: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """Name and save the batch whose loss is not a number."""
        folder = self.folder / "failure"
        folder.mkdir(exist_ok=True)
        tensors = {key: value.cpu() for key, value in batch.items() if isinstance(value, Tensor)}
        with atomic_path(folder / "batch.pt") as temporary:
            torch.save({**tensors, "id": list(batch["id"]), "terms": dict(values)}, temporary)
        terms = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise RunFailed(
            f"the loss is not a number in epoch {self.progress.epoch + 1}, batch {self.progress.step + 1} "
            f"({terms}), samples {', '.join(batch['id'])}; the batch is saved in {folder / 'batch.pt'}. "
            "Look at these images, or lower solver.base_lr."
        )

    def finish_epoch(self) -> None:
        progress = self.progress
        terms = {name: value / progress.step for name, value in progress.sums.items()}
        row: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "loss": sum(terms.values()),
            "terms": terms,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        row |= self.learner.figures()
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        last = progress.epoch == self.sizing.max_epochs
        if last or progress.epoch % self.sizing.validate_every == 0:
            found = self.validate()
            if found is not None:
                figures = found if isinstance(found, Mapping) else {"validation_error": found}
                row |= figures
                error = figures["validation_error"]
                better = error < progress.best_error
                progress.stale = 0 if better else progress.stale + 1
                if better:
                    progress.best_error, progress.best_epoch = error, progress.epoch
                    self.save_best()
        row["seconds"] = round(time.monotonic() - self.started, 3)
        progress.history.append(row)
        write_metrics(self.folder, progress.history)
        self.save_latest()
        errors = [f"{name} {value:.3f}" for name, value in row.items() if name.endswith("validation_error")]
        shown = "".join(f", {error}" for error in errors).replace("_", " ")
        print(f"epoch {progress.epoch}/{self.sizing.max_epochs}: loss {row['loss']:.4f}{shown}", flush=True)
        self.hooks.observe(event=Event("epoch", self.folder, row))

    @property
    def best_path(self) -> Path:
        return self.folder / "checkpoints" / "best.pt"

    def save_best(self) -> None:
        save_checkpoint(self.best_path, self.checkpoint(learner=self.learner.state_dict()))

    def save_latest(self) -> None:
        """A state to go on from: everything that training reads."""
        save_checkpoint(
            self.folder / "checkpoints" / "latest.pt",
            self.checkpoint(
                learner=self.learner.state_dict(),
                progress=asdict(self.progress),
                optimizer=self.optimizer.state_dict(),
                scheduler={} if self.scheduler is None else self.scheduler.state_dict(),
            ),
        )
