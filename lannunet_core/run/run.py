"""A run of any task from its configuration to its results: what `lannunet train` does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.hookspecs import Event
from lannunet_core.plugins import recorded, tasks
from lannunet_core.run import checkpoint as model_file
from lannunet_core.run.batches import EpochOrder, loaded_batches, make_loader
from lannunet_core.run.checkpoint import Checkpoint, plugin_versions
from lannunet_core.run.loop import Training
from lannunet_core.run.output import claim_folder, provenance, refuse_folder, refuse_to_empty, write_run
from lannunet_core.run.session import Session, make_fabric, training_precision
from lannunet_core.run.sizing import (
    MEASURED_BATCHES,
    WARM_UP,
    Sizing,
    seconds_per_batch,
    size_run,
    workers_for,
)
from lannunet_core.task import TrainingSet, Validated, Work

BASE_LR = {"adamw": 2e-3, "sgd": 0.01}
W = TypeVar("W", bound=Work[Any])
MEASURING_EPOCH = 2**31  # its random numbers are no other epoch's


def carry_out(loaded: LoadedConfig, open_work: Callable[[], W], *, resume: bool, overwrite: bool) -> W:
    """A run of any task, from its configuration to its results.

    Args:
        loaded: The run's configuration.
        open_work: Reads what the data set says of itself.
        resume: Go on with the run in the output folder.
        overwrite: Replace it.
    """
    config, folder = loaded.run, loaded.run.output.output_dir
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    ways_out = None if resume or overwrite else "go on with it (--resume), replace it (--overwrite)"
    refuse_folder(folder, "output.output_dir", ways_out)
    if overwrite and config.model.checkpoint is not None:
        refuse_to_empty(folder, "model.checkpoint", [config.model.checkpoint])
    work = open_work()
    fabric = make_fabric(config)
    run = work.describe(fabric.device.type)
    session = tasks.find(config.task).start_session(loaded, run, fabric)
    work.read(session)

    training: Training | None = None
    if config.trainer.inference_only:
        if config.model.checkpoint is None:
            raise UserError("trainer.inference_only: needs a model; name it in model.checkpoint.")
        start_from(session, config.model.checkpoint, same_plugins=True)
        fabric.to_device(session.learner)
        claim_folder(folder, resume=resume)
        resolved, description = loaded.resolved(), provenance(loaded, run, fabric.device)
    else:
        training, resolved, description = prepare_training(session, work, resume)
    write_run(folder, resolved, description)

    done = training.progress.epoch if training is not None else 0
    try:
        session.hooks.observe(event=Event("start", folder, {**description, "epoch": done}))
    except BaseException:
        claim_folder(folder, resume=resume)  # nothing has been trained: leave nothing behind
        raise
    try:
        if training is not None:
            training.run()
            start_from(session, training.best_path)
        history = training.progress.history if training is not None else []
        summary = work.evaluate(session, history, resolved, description)
    except BaseException as error:
        session.hooks.observe(event=Event("failure", folder, {"error": str(error) or type(error).__name__}))
        if isinstance(error, OSError):
            raise RunFailed(f"{error}. When that is mended, go on with --resume.") from error
        raise
    session.hooks.observe(event=Event("end", folder, summary))
    return work


def start_from(session: Session, path: Path, *, same_plugins: bool = False) -> None:
    """Put a model file's weights into the session's learner.

    `same_plugins`: those that the model and this run both name have to be of compatible versions.
    """
    trained = model_file.load_checkpoint(path)
    if same_plugins:
        names = [plugin.installed.name for plugin in session.loaded.plugins]
        recorded.require([plugin for plugin in trained.plugins if plugin["name"] in names], str(path))
    architecture = session.loaded.architecture.installed.name
    model_file.load_weights(session.learner, trained, session.run, architecture, path)
    session.recall(trained.learned)


def prepare_training(
    session: Session, work: Work[Any], resume: bool
) -> tuple[Training, dict[str, Any], dict[str, Any]]:
    """Everything between a session and its first step, its resolved configuration and its provenance."""
    config, run, fabric, hooks, learner = (
        session.config, session.run, session.fabric, session.hooks, session.learner,
    )  # fmt: skip
    solver, folder = config.solver, config.output.output_dir
    validation = work.validation(session)

    latest = folder / "checkpoints" / "latest.pt"
    earlier = model_file.load_checkpoint(latest) if resume and latest.exists() else None
    requested = session.loaded.resolved()
    if earlier is not None:
        recorded.require(earlier.plugins, str(latest))
        refuse_changes(earlier.config, requested, latest)
    elif config.model.checkpoint is not None:
        start_from(session, config.model.checkpoint)
        session.recall({})  # what it learned of its own predictions says nothing of these

    samples = work.training_samples(session)
    claim_folder(folder, resume=resume)
    fabric.to_device(learner)
    sizing, workers = measure(session, samples, validation, earlier)
    order = EpochOrder(len(samples), solver.data_loader_batch_size_train, sizing.mini_batch_size, run.seed)
    loader = make_loader(samples, workers, fabric.device, samples.fills, batch_sampler=order)

    base_lr = BASE_LR[solver.optimizer] if solver.base_lr == "auto" else solver.base_lr
    optimizer, scheduler = hooks.optimizer_and_scheduler(
        module=learner,
        solver=solver,
        base_lr=base_lr,
        total_steps=sizing.max_epochs * sizing.mini_batch_size,
    )
    description = provenance(
        session.loaded,
        run,
        fabric.device,
        precision=training_precision(config),
        sizing=asdict(sizing),
        num_workers=workers,
    )
    training = Training(
        learner,
        hooks,
        fabric,
        samples,
        loader,
        order,
        sizing,
        optimizer,
        scheduler,
        validate=validation or (lambda: None),
        checkpoint=partial(
            Checkpoint,
            config=requested,
            run=asdict(run),
            plugins=plugin_versions(session.loaded),
            sizing=asdict(sizing),
            provenance=description,
        ),
        patience=solver.early_stopping_patience,
        seed=run.seed,
        folder=folder,
        debug_folder=folder / "debug" if config.sampler.debug else None,
    )
    (folder / "checkpoints").mkdir(exist_ok=True)
    if earlier is not None:
        training.resume(earlier)
        at = training.progress
        print(f"resumed from {latest}: epoch {at.epoch + 1}, batch {at.step + 1}", flush=True)
    elif resume:
        print(f"nothing to resume in {folder}: starting from the beginning", flush=True)
    return training, with_sizing(requested, sizing, base_lr), description


def with_sizing(requested: Mapping[str, Any], sizing: Sizing, base_lr: float) -> dict[str, Any]:
    """A configuration with what was measured in place of each `auto`: a repeat is the same run."""
    resolved = json.loads(json.dumps(requested))
    resolved["solver"] |= {
        "max_epochs": sizing.max_epochs,
        "mini_batch_size": sizing.mini_batch_size,
        "base_lr": base_lr,
    }
    resolved["trainer"]["validate_every"] = sizing.validate_every
    return resolved  # type: ignore[no-any-return]


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """A resumed run is the same run: only what does not change its result may differ."""
    free = {
        "sampler.num_workers",
        "sampler.patch.centres",
        "trainer.cache_data",
        "output.output_dir",
        "dataset.root",
        "dataset.src_targets",
    }
    old, new = dict(leaves(before)), dict(leaves(now))
    changed = [
        key
        for key in old.keys() | new.keys()
        if old.get(key) != new.get(key) and key not in free and not key.startswith("refine.")
    ]
    if changed:
        rows = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in sorted(changed))
        raise UserError(
            f"--resume: {where} was trained differently: {rows}. Set it back, or start a new run."
        )


def leaves(nest: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nest.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def measure(
    session: Session,
    samples: TrainingSet,
    validation: Callable[[], Validated] | None,
    earlier: Checkpoint | None,
) -> tuple[Sizing, int]:
    """Resolve `max_epochs: auto` and `num_workers: auto` by a few trial steps that leave no trace."""
    config, learner, fabric = session.config, session.learner, session.fabric
    workers = config.sampler.num_workers
    sized = Sizing(**earlier.sizing) if earlier is not None else None
    if sized is None and config.solver.max_epochs != "auto":
        sized = size_run(config, step=0, validation=0)
    if sized is not None and workers != "auto":
        return sized, workers

    before = {name: value.clone() for name, value in learner.state_dict().items()}

    def step(loaded: Mapping[str, Any]) -> None:
        batch = samples.on_device(loaded, fabric.device)
        with fabric.autocast():
            terms = learner(batch)
        fabric.backward(torch.stack(list(terms.values())).sum())
        learner.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()

    order = EpochOrder(
        len(samples), config.solver.data_loader_batch_size_train, WARM_UP + MEASURED_BATCHES, 0
    )
    order.set_position(MEASURING_EPOCH)
    learner.train()
    trial = make_loader(samples, 0, fabric.device, samples.fills, batch_sampler=order)
    loading, using = seconds_per_batch(loaded_batches(trial), step)
    if workers == "auto":
        workers = workers_for(loading, using)
    if sized is None:
        started = time.perf_counter()
        if validation is not None:
            validation()
        validating = time.perf_counter() - started
        seconds = max(loading / workers, using) if workers else loading + using
        sized = size_run(config, seconds, validating)
        print(
            f"{seconds:.2f} s a batch, {validating:.1f} s a validation: {sized.max_epochs} epochs of "
            f"{sized.mini_batch_size} batches fit into {config.solver.budget_minutes:g} minutes",
            flush=True,
        )
    learner.load_state_dict(before)
    return sized, workers
