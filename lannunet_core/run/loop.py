"""The training loop. Its state is a small record, so that a run resumes exactly where it stopped."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from lannunet_core.errors import RunFailed, UserError
from lannunet_core.files import atomic_path
from lannunet_core.hookspecs import Event
from lannunet_core.plugins import tasks
from lannunet_core.run import progress as terminal
from lannunet_core.run.batches import EpochOrder
from lannunet_core.run.checkpoint import BEST_MODEL, Checkpoint, save_checkpoint
from lannunet_core.run.output import write_metrics
from lannunet_core.run.processes import from_first, gathered, is_first, now
from lannunet_core.run.session import Session, training_precision
from lannunet_core.run.sizing import Sizing, seconds_left, within_budget
from lannunet_core.run.step import Step, several
from lannunet_core.run.workers import SIGNALS, WorkersLost, end_workers, loaded_batches
from lannunet_core.task import TrainingSet, Validated
from lannunet_core.telling import echo, terminal_text

VALIDATION_ERROR = "validation_error"
MOST_NAMES = 8  # per line


@dataclass
class Progress:
    """The state of a training run.

    Attributes:
        epoch: Finished epochs.
        step: Finished batches of the current epoch.
        sums: Sums of the loss terms over those batches.
        seconds: Duration of those batches.
        best_error: Best value of the monitored metric so far, negative if higher is better.
        best_epoch: Epoch of that value.
        stale: Validations since then.
        history: One row per epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best_error: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP, after the run was saved; `args[0]` is the signal's number."""


@contextmanager
def stop_requested() -> Iterator[Callable[[], int]]:
    """Turn the first stop signal into its number, so that a step is completed; a second one stops at once."""
    asked = 0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise Interrupted(number)
        asked = number

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seed_step(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Make dropout etc. a function of (seed, epoch, step), so that a resumed run draws the same numbers."""
    words = [seed, epoch, step, *([rank] if rank else [])]  # unchanged for a run in one process
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))


@contextmanager
def measured_kernels() -> Iterator[None]:
    """Let cuDNN measure the fastest kernels within: all batches of training have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Training:
    """Trains a learner until the end of its run.

    Args:
        session: Session of the run; its hooks `training_step` and `observe` are called here.
        order: The batch sampler of `loader`.
        optimizers: The return value of `optimizer_and_scheduler`: one, or several.
        schedulers: Schedulers that it returned, or None.
        validate: Computes the current metrics, see `Validated`.
        checkpoint: Builds the constant part of a checkpoint.
        record: Writes a changed `sizing` to the run's folder.
    """

    def __init__(
        self,
        session: Session,
        samples: TrainingSet,
        loader: DataLoader[Any],
        order: EpochOrder,
        sizing: Sizing,
        optimizers: Any,
        schedulers: Any,
        validate: Callable[[], Validated],
        checkpoint: Callable[..., Checkpoint],
        record: Callable[[Sizing], None],
    ) -> None:
        self.learner, self.hooks, self.fabric = session.learner, session.hooks, session.fabric
        self.own_step = self.hooks.answering("training_step") is not None
        now().share_statistics(self.learner, self.fabric.device.type)
        config, folder = session.config, session.config.output.output_dir
        self.samples, self.loader, self.order, self.sizing = samples, loader, order, sizing
        self.module, *self.optimizers = self.fabric.setup(self.learner, *several(optimizers))
        self.schedulers: list[LRScheduler] = several(schedulers)
        self.validate, self.checkpoint, self.record = validate, checkpoint, record
        self.solver, self.folder, self.seed = config.solver, folder, config.solver.seed
        self.patience = config.solver.early_stopping_patience
        self.clip = config.solver.clip_gradient_norm
        self.monitor = config.trainer.monitor
        self.unit = tasks.find(config.task).error_unit
        mixed = training_precision(config) != "32-true"
        self.other_precision = ", or set solver.auto_mixed_precision: false" if mixed else ""
        self.debug_folder = folder / "debug" if config.sampler.debug and is_first() else None
        self.progress = Progress()
        self.whole = True

    def resume(self, checkpoint: Checkpoint, path: Path) -> None:
        try:
            self._resume(checkpoint)
        except (TypeError, ValueError, LookupError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"{path}: is damaged, or of another version; start a new run ({type(error).__name__})."
            ) from error

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.learner.load_state_dict(checkpoint.learner)
        for one, state in zip(self.optimizers, checkpoint.optimizer["several"], strict=True):
            one.load_state_dict(state)
        for one, state in zip(self.schedulers, checkpoint.scheduler["several"], strict=True):
            one.load_state_dict(state)
        if checkpoint.scaler:
            self.fabric.strategy.precision.load_state_dict(checkpoint.scaler)
        self.progress = TypeAdapter(Progress).validate_python(checkpoint.progress)

    def run(self) -> None:
        try:
            with stop_requested() as asked:

                def stopping() -> int:
                    return now().most(asked())  # a signal may reach only one of several processes

                while self.progress.epoch < self.sizing.end and self.progress.stale < self.patience:
                    self.train_epoch(stopping)
                    self.check_weights()
                    self.finish_epoch()
                    if stopping():
                        raise self.interrupted(stopping())
        finally:
            end_workers(self.loader)
        if is_first() and not self.best_path.exists():  # nothing to validate on: the last model is the best
            self.save_best()
        echo(self.say_kept())

    def train_epoch(self, stopping: Callable[[], int]) -> None:
        progress = self.progress
        self.whole = True  # False: accumulated gradients are pending, which are not saved
        self.learner.train()
        self.order.set_position(progress.epoch, progress.step)
        self.started = time.monotonic() - progress.seconds
        self.unread: list[Step] = []
        title = f"epoch {progress.epoch + 1}/{self.sizing.end}"
        if progress.history:
            title += f", the last ends at about {self.clock_at_end()}"
        alone, step = now().world == 1, None
        with terminal.progress_bar(title, self.sizing.mini_batch_size) as bar, measured_kernels():
            bar.advance(progress.step)
            try:
                for loaded in loaded_batches(self.loader, lambda: alone and self.whole and stopping() > 0):
                    step = self.step(self.samples.on_device(loaded, self.fabric.device))
                    seed_step(self.seed, progress.epoch, progress.step, now().rank)
                    self.train_step(step)
                    progress.step, self.whole, step.stepped = progress.step + 1, step.last, False
                    self.unread.append(step)
                    self.read_losses(bar, but=1)
                    if self.whole and stopping():
                        break
            except WorkersLost:
                self.read_losses(bar)
                if self.whole:
                    self.save_latest()
                raise
            except RuntimeError as error:
                if now().lost(error) and self.whole and not (step and step.stepped):
                    self.read_losses(bar)
                    self.save_latest()
                raise
            self.read_losses(bar)
        if self.whole and stopping():
            self.save_latest()
            raise self.interrupted(stopping())

    def step(self, batch: Mapping[str, Any]) -> Step:
        number, every = self.progress.step, self.solver.accumulate
        of_update = min(every, self.sizing.mini_batch_size - number // every * every)
        last = number % every == of_update - 1
        updates = math.ceil(self.sizing.mini_batch_size / every)
        update = self.progress.epoch * updates + number // every
        step = Step(self, batch, self.progress.epoch, number, share=1 / of_update, last=last)
        step.planned = self.sizing.planned(update + 1, updates) - self.sizing.planned(update, updates)
        return step

    def interrupted(self, number: int) -> Interrupted:
        at = self.progress
        echo(f"saved at epoch {at.epoch + 1}, batch {at.step + 1}; continue with --resume")
        return Interrupted(number)

    def train_step(self, step: Step) -> None:
        if self.debug_folder is not None:
            self.draw(step.batch, self.debug_folder)
        try:
            with self.fabric.no_backward_sync(self.module, enabled=self.own_step or not step.last):
                step.take()
        except Exception:
            for one in (*self.unread, step) if now().world == 1 else ():  # several would wait for each other
                one.values()  # the failure may be due to an earlier loss that is not a number
            raise

    def read_losses(self, bar: terminal.Bar, but: int = 0) -> None:
        """Read the losses of the finished steps, except the latest ones, which keep the device busy.

        All losses are read before a model is saved, and its weights checked then, so NaN is never written.
        """
        progress = self.progress
        while len(self.unread) > but:
            step = self.unread.pop(0)
            values = step.values()
            for name, value in values.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.seconds = time.monotonic() - self.started
            bar.advance(1, f"loss {sum(values.values()):.4g}")
            at = {"epoch": step.epoch + 1, "batch": step.number + 1, "terms": values}
            self.hooks.observe(event=Event("batch", self.folder, at, self.learner))

    def check_weights(self) -> None:
        progress, weights = self.progress, [one.isfinite().all() for one in self.learner.parameters()]
        if weights and not torch.stack(weights).all():  # read at once
            raise RunFailed(
                f"weights are not numbers after epoch {progress.epoch + 1}, batch {progress.step}, though "
                "its loss is: a gradient of the loss is not. Inspect the loss, or lower solver.base_lr"
                f"{self.other_precision}."
            )

    def draw(self, batch: Mapping[str, Any], folder: Path) -> None:
        self.learner.eval()  # pictures must not change running statistics or draw dropout
        with torch.no_grad():
            labels = self.learner.labels(batch, self.learner.outputs(batch))
        self.learner.train()
        if self.hooks.debug_sample(batch=batch, labels=labels, folder=folder):
            self.debug_folder = None

    def fail(self, step: Step, batch: Mapping[str, Any], values: Mapping[str, float]) -> NoReturn:
        """Name and save the batch whose loss is not a number."""
        folder = self.folder / "failure"
        folder.mkdir(exist_ok=True)
        names, own = gathered(batch["id"]), "batch.pt" if is_first() else f"batch-{now().rank}.pt"
        tensors = {key: value.cpu() for key, value in batch.items() if isinstance(value, Tensor)}
        with atomic_path(folder / own) as temporary:
            torch.save({**tensors, "id": list(batch["id"]), "terms": dict(values)}, temporary)
        terms = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise RunFailed(
            f"the loss is not a number in epoch {step.epoch + 1}, batch {step.number + 1} "
            f"({terms}), samples {', '.join(names)}; the batch is saved in {folder / 'batch.pt'}. "
            f"Inspect these images, or lower solver.base_lr{self.other_precision}."
        )

    def finish_epoch(self) -> None:
        progress = self.progress
        terms = {name: value / progress.step for name, value in progress.sums.items()}
        row: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "loss": sum(terms.values()),
            "terms": terms,
            "lr": self.optimizers[0].param_groups[0]["lr"],
            **self.learner.figures(),
        }
        progress.epoch, progress.step, progress.sums, progress.seconds = progress.epoch + 1, 0, {}, 0.0
        last = progress.epoch == self.sizing.end
        if last or progress.epoch % self.sizing.validate_every == 0:
            found = from_first(self.validate())
            if found is not None:
                figures = found if isinstance(found, Mapping) else {VALIDATION_ERROR: found}
                row |= figures
                self.judge(figures)
        row["seconds"] = from_first(round(time.monotonic() - self.started, 3))
        progress.history.append(row)
        write_metrics(self.folder, progress.history)
        before, self.sizing = self.sizing, within_budget(self.sizing, progress.history)
        self.save_latest()
        shown = [name for name in row if name.endswith(VALIDATION_ERROR) or name == self.monitor.lstrip("-")]
        told = [self.told(name, row[name]) for name in shown]
        told += [
            f"{name.replace('_', ' ')}: {shortened(value)}"
            for name, value in row.items()
            if isinstance(value, (list, tuple)) and value
        ]
        if not last and progress.stale < self.patience:
            told.append(f"{timedelta(seconds=round(seconds_left(self.sizing, progress.history)))} left")
        at = f"epoch {progress.epoch}/{before.end}"
        echo(", ".join([f"{at}: loss {row['loss']:.4f}", *told]))
        if self.sizing is not before:
            self.record(self.sizing)
            self.say_shortened()
        self.hooks.observe(event=Event("epoch", self.folder, row, self.learner))

    def told(self, name: str, value: float) -> str:
        unit = f" {self.unit}" if self.unit and name.endswith(VALIDATION_ERROR) else ""
        return f"{name.replace('_', ' ')} {value:.3f}{unit}"

    def say_kept(self) -> str:
        at, name = self.progress, self.monitor.removeprefix("-")
        if not at.best_epoch:
            return f"kept: the model of the last epoch, {at.epoch}, as nothing is held out"
        value = -at.best_error if name != self.monitor else at.best_error
        why = f", after which {at.stale} validations were no better" if at.stale >= self.patience else ""
        return (
            f"kept: the model of epoch {at.best_epoch} of {at.epoch}, the best {self.told(name, value)}{why}"
        )

    def say_shortened(self) -> None:
        told = [f"the run ends with epoch {self.sizing.end}, at about {self.clock_at_end()}"]
        for one in self.schedulers:
            kept = isinstance(one, ReduceLROnPlateau)
            told.append(f"{type(one).__name__} {'stays as it is' if kept else 'is shortened from here'}")
        echo(f"epochs got slower; to keep the budget, {', '.join(told)} (solver.shortened)")

    def clock_at_end(self) -> str:
        left = seconds_left(self.sizing, self.progress.history)
        return time.strftime("%H:%M" if left < 43_200 else "%a %H:%M", time.localtime(time.time() + left))

    def judge(self, validated: Mapping[str, float | Sequence[str]]) -> None:
        """Save the model if it is the best so far by the monitored metric."""
        progress, name = self.progress, self.monitor.removeprefix("-")
        figures = {key: value for key, value in validated.items() if not isinstance(value, Sequence)}
        if name not in figures:
            raise UserError(
                f"trainer.monitor: there is no metric '{name}' at a validation; there are "
                f"{', '.join(figures)}. Name one of them, with a minus if higher is better."
            )
        value = -figures[name] if self.monitor.startswith("-") else figures[name]
        better = value < progress.best_error
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best_error, progress.best_epoch = value, progress.epoch
            self.save_best()
        for scheduler in self.schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(value)

    @property
    def best_path(self) -> Path:
        return self.folder / BEST_MODEL

    def save_best(self) -> None:
        save_checkpoint(
            self.best_path, self.checkpoint(learner=self.learner.state_dict(), sizing=asdict(self.sizing))
        )

    def save_latest(self) -> None:
        """Save the state for a resume: everything that training reads."""
        self.check_weights()
        save_checkpoint(
            self.folder / "checkpoints" / "latest.pt",
            self.checkpoint(
                learner=self.learner.state_dict(),
                sizing=asdict(self.sizing),
                progress=asdict(self.progress),
                optimizer={"several": [optimizer.state_dict() for optimizer in self.optimizers]},
                scheduler={"several": [scheduler.state_dict() for scheduler in self.schedulers]},
                scaler=self.fabric.strategy.precision.state_dict(),
            ),
        )


def shortened(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = len(names) - MOST_NAMES
    return terminal_text(", ".join(names[:MOST_NAMES])) + (f" and {more} more" if more > 0 else "")
