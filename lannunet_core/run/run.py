"""A run of any task, from its configuration to its results: `lannunet train`."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.schema import before, canonical
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.hookspecs import Event
from lannunet_core.names import dotted, without_places
from lannunet_core.plugins import recorded, tasks
from lannunet_core.record import releasing
from lannunet_core.run.batches import EpochOrder, make_loader
from lannunet_core.run.checkpoint import (
    BEST_MODEL_BEFORE,
    Checkpoint,
    load_checkpoint,
    load_weights,
    plugin_versions,
    save_checkpoint,
)
from lannunet_core.run.loop import VALIDATION_ERROR, Training
from lannunet_core.run.memory import naming_memory
from lannunet_core.run.output import claim_folder, provenance, refuse_folder, refuse_to_empty, write_run
from lannunet_core.run.processes import from_first, now
from lannunet_core.run.session import Session, make_fabric, training_precision
from lannunet_core.run.sizing import (
    TRIAL_BATCHES,
    Sizing,
    seconds_per_batch,
    size_run,
    too_short,
    workers_for,
)
from lannunet_core.run.step import needs_closure, several, total
from lannunet_core.run.workers import loaded_batches
from lannunet_core.task import TrainingSet, Validated, Work
from lannunet_core.telling import echo

BASE_LR = {"adamw": 2e-3, "sgd": 0.01}
W = TypeVar("W", bound=Work[Any])
MEASURING_EPOCH = 2**31  # a number that no real epoch has, for its random numbers


def carry_out(loaded: LoadedConfig, open_work: Callable[[], W], *, resume: bool, overwrite: bool) -> W:
    """Run a task, from its configuration to its results.

    `open_work` opens the data set. With `resume` a run in the folder is continued, with `overwrite` replaced.
    """
    with releasing():
        return _carry_out(loaded, open_work, resume, overwrite)


def _carry_out(loaded: LoadedConfig, open_work: Callable[[], W], resume: bool, overwrite: bool) -> W:
    config, folder = loaded.run, loaded.run.output.output_dir
    for warning in loaded.warnings:
        echo(f"warning: {warning}", err=True)
    ways_out = None if resume or overwrite else "continue with it (--resume), replace it (--overwrite)"
    refuse_folder(folder, "output.output_dir", ways_out)
    if overwrite and config.model.checkpoint is not None:
        refuse_to_empty(folder, "model.checkpoint", [config.model.checkpoint])
    work = open_work()
    fabric = make_fabric(config)
    run = work.describe(fabric.device.type)
    session = tasks.find(config.task).start_session(loaded, run, fabric)
    needs = session.memory_needs()
    with naming_memory(needs):
        fabric.to_device(session.learner)
        session.learner.try_size(run)
    work.read(session)

    training: Training | None = None
    if config.trainer.inference_only:
        if config.model.checkpoint is None:
            raise UserError("trainer.inference_only: needs a model; name it in model.checkpoint.")
        start_from(session, config.model.checkpoint, same_plugins=True)
        claim_folder(folder, resume=resume)
        resolved, description = loaded.resolved(), provenance(loaded, run, fabric.device)
    else:
        with naming_memory(needs):
            training, resolved, description = prepare_training(session, work, resume)
    write_run(folder, resolved, description)
    say_start(session, training, description["device"])

    done = training.progress.epoch if training is not None else 0
    try:
        session.hooks.observe(event=Event("start", folder, {**description, "epoch": done}, session.learner))
    except BaseException:
        claim_folder(folder, resume=resume)  # nothing was trained: leave no files
        raise
    try:
        if training is not None:
            with naming_memory(needs):
                training.run()
            from_first(None)  # the file of the best model exists now
            start_from(session, training.best_path)
        history = training.progress.history if training is not None else []
        summary = work.evaluate(session, history, resolved, description)
    except BaseException as error:
        session.hooks.observe(
            event=Event("failure", folder, {"error": str(error) or type(error).__name__}, session.learner)
        )
        if isinstance(error, OSError):
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise RunFailed(f"{what}. When that is fixed, continue with --resume.") from error
        raise
    session.hooks.observe(event=Event("end", folder, summary, session.learner))
    return work


def parameters_of(session: Session) -> int:
    return sum(parameter.numel() for parameter in session.learner.network.parameters())


def say_start(session: Session, training: Training | None, device: str) -> None:
    """Print a summary of the run before it starts: device, plan and folder."""
    architecture = session.loaded.architecture.installed.name
    echo(f"{architecture}: {parameters_of(session):,} parameters, on {device}")
    if training is not None:
        cases, sizing = len(training.samples), training.sizing
        echo(
            f"plan: {cases} training case{'s'[: cases > 1]}, {sizing.end} epochs of {sizing.mini_batch_size} "
            f"batches of {session.config.solver.data_loader_batch_size_train}, validation after every "
            f"{sizing.validate_every}",
        )
    echo(f"results: {session.config.output.output_dir}")


def start_from(session: Session, path: Path, *, same_plugins: bool = False, transfer: bool = False) -> None:
    """Load the weights of a model file, or of a run's folder, into the session's learner; see `load_weights`.

    With `same_plugins`, plugins that the model and this run both name must have compatible versions.
    """
    trained = load_checkpoint(path)
    if same_plugins:
        names = [plugin.installed.name for plugin in session.loaded.plugins]
        recorded.require([plugin for plugin in trained.plugins if plugin["name"] in names], str(path))
    architecture = session.loaded.architecture.installed.name
    load_weights(session.learner, trained, session.run, architecture, path, transfer=transfer)
    session.recall(trained.learned)


def prepare_training(
    session: Session, work: Work[Any], resume: bool
) -> tuple[Training, dict[str, Any], dict[str, Any]]:
    """Set up the training, and return it with the resolved configuration and the provenance."""
    config, run, fabric = session.config, session.run, session.fabric
    hooks, learner = session.hooks, session.learner
    solver, folder = config.solver, config.output.output_dir
    validation = work.validation(session)

    latest = folder / "checkpoints" / "latest.pt"
    earlier = load_checkpoint(latest) if resume and latest.exists() else None
    requested = session.loaded.resolved()
    if earlier is not None:
        recorded.require(earlier.plugins, str(latest))
        refuse_changes(earlier, session.loaded, latest)
    elif config.model.checkpoint is not None:
        start_from(session, config.model.checkpoint, transfer=True)
        session.recall({})  # its calibrations do not apply to the new model
    elif hooks.initial_weights(network=learner.network):
        echo("the network starts from a plugin's initial weights")
    if validation is None and config.trainer.monitor != VALIDATION_ERROR:
        raise UserError(
            f"trainer.monitor: {config.trainer.monitor} is measured on validation data, and there are none. "
            "Hold some out, or remove the key."
        )
    for key in ("trainer.validate_every", "solver.early_stopping_patience"):
        if validation is None and earlier is None and (at := session.loaded.given.get(key)):
            echo(f"warning: {at}: {key} has no effect: there is no annotated validation sample.", err=True)
    samples = work.training_samples(session)
    if solver.data_loader_batch_size_train < now().world:
        raise UserError(
            f"solver.data_loader_batch_size_train: {now().world} processes share a batch of "
            f"{solver.data_loader_batch_size_train} samples. Raise it, or use fewer devices."
        )
    claim_folder(folder, resume=resume)
    sizing, workers = from_first(measure(session, samples, validation, earlier))
    if earlier is None and (warning := too_short(config, sizing)):
        echo(f"warning: {warning}", err=True)
    asked = hooks.training_order(samples=samples.entries)
    batch_size = solver.data_loader_batch_size_train
    order = EpochOrder(len(samples), batch_size, sizing.mini_batch_size, run.seed, asked)
    loader = make_loader(samples, workers, fabric.device, samples.fills, batch_sampler=order)

    base_lr = BASE_LR[solver.optimizer] if solver.base_lr == "auto" else solver.base_lr
    updates = math.ceil(sizing.mini_batch_size / solver.accumulate)
    optimizers, schedulers = hooks.optimizer_and_scheduler(
        module=learner, solver=solver, base_lr=base_lr, total_steps=sizing.max_epochs * updates
    )
    # An optimizer that evaluates the loss again would get one batch of several.
    if solver.accumulate > 1 and any(map(needs_closure, several(optimizers))):
        raise UserError(
            f"solver.accumulate: {solver.accumulate} batches cannot be one step of an optimizer that "
            "evaluates the loss several times. Set it to 1, and data_loader_batch_size_train as high."
        )
    measured = {"precision": training_precision(config), "sizing": asdict(sizing), "num_workers": workers}
    measured |= {"processes": now().world, "parameters": parameters_of(session)}
    description = provenance(session.loaded, run, fabric.device, **measured)
    checkpoint = partial(
        Checkpoint,
        config=requested,
        run=asdict(run),
        plugins=plugin_versions(session.loaded),
        learned=session.learned(),
        provenance=description,
    )
    validate, resolved = validation or (lambda: None), with_sizing(requested, sizing, base_lr)

    def record(shortened: Sizing) -> None:
        resolved["solver"] |= with_sizing(requested, shortened, base_lr)["solver"]
        description["sizing"] = asdict(shortened)
        write_run(folder, resolved, description)

    training = Training(
        session, samples, loader, order, sizing, optimizers, schedulers, validate, checkpoint, record
    )
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    if earlier is not None:
        training.resume(earlier, latest)
        before = folder / BEST_MODEL_BEFORE
        if before.exists() and not training.best_path.exists():
            save_checkpoint(training.best_path, load_checkpoint(before))
        done = training.progress
        echo(f"resumed from {latest}: epoch {done.epoch + 1}, batch {done.step + 1}")
    elif resume:
        echo(f"nothing to resume in {folder}: starting from the beginning")
    return training, resolved, description


def with_sizing(requested: Mapping[str, Any], sizing: Sizing, base_lr: float | None) -> dict[str, Any]:
    """A configuration with the measured value of each `auto`, so that a repetition is the same run."""
    resolved = json.loads(json.dumps(requested))
    solver, trainer = resolved["solver"], resolved["trainer"]
    solver["max_epochs"], solver["mini_batch_size"] = sizing.max_epochs, sizing.mini_batch_size
    solver["shortened"] = [list(one) for one in sizing.shortened]
    if "validate_every" in trainer:  # absent without validation
        trainer["validate_every"] = sizing.validate_every
    solver.pop("budget_minutes", None)  # without effect if the number of epochs is set
    if solver.get("base_lr") == "auto":  # otherwise it is given, or belongs to a plugin's optimizer
        solver["base_lr"] = base_lr
    return resolved  # type: ignore[no-any-return]


FREE_TO_CHANGE = {  # keys that do not influence the training of a resumed run
    "sampler.num_workers",
    "sampler.patch.centres",
    "preprocess.previous_stage",
    "sampler.debug",
    "trainer.cache_data",
    "trainer.device",
    "trainer.devices",
    "trainer.num_nodes",
    "dataset.root",
    "dataset.src_targets",
    "inference.debug",
    "inference.split",
}
FREE_SECTIONS = ("output.", "refine.")


def refuse_changes(trained: Checkpoint, loaded: LoadedConfig, where: Path) -> None:
    """Raise a UserError unless a resumed run has the same training configuration.

    The configuration may be as given, or as the run resolved it. A key that an earlier version did not
    have has its `before` value; a key that this version no longer has is ignored.
    """
    new = dict(dotted(tasks.find(loaded.run.task).as_trained(loaded, trained.config).resolved()))
    old, solver = dict(dotted(trained.config)), trained.config["solver"]
    base_lr = BASE_LR[solver.get("optimizer", "adamw")] if solver.get("base_lr") == "auto" else None
    settled = dict(dotted(with_sizing(trained.config, Sizing(**trained.sizing), base_lr)))
    for key in new.keys() - old.keys():
        field = canonical(tuple(key.split(".")), type(loaded.run))[1]
        old[key] = None if field is None else before(field)
    changed = [
        key
        for key, value in new.items()
        if value not in (old[key], settled.get(key, old[key]))
        and key not in FREE_TO_CHANGE
        and without_places(value) != old[key]  # for a model outside of its run's folder
    ]
    if changed := sorted(key for key in changed if not key.startswith(FREE_SECTIONS)):
        rows = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in changed)
        raise UserError(
            f"--resume: {where} was trained differently: {rows}. Set it back, or start a new run."
        )


def measure(
    session: Session,
    samples: TrainingSet,
    validation: Callable[[], Validated] | None,
    earlier: Checkpoint | None,
) -> tuple[Sizing, int]:
    """Resolve `max_epochs: auto` and `num_workers: auto` with a few trial steps, which are then undone."""
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
        fabric.backward(total(terms))
        learner.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()

    order = EpochOrder(len(samples), config.solver.data_loader_batch_size_train, TRIAL_BATCHES, 0)
    order.set_position(MEASURING_EPOCH)
    learner.train()
    trial = make_loader(samples, 0, fabric.device, samples.fills, batch_sampler=order)
    loading, using = seconds_per_batch(loaded_batches(trial), step)
    if workers == "auto":
        workers = workers_for(loading, using, on_cpu=fabric.device.type == "cpu")
    if sized is None:
        started = time.perf_counter()
        if validation is not None:
            validation()
        validating = time.perf_counter() - started
        seconds = max(loading / workers, using) if workers else loading + using
        sized = size_run(config, seconds, validating)
        validated = "" if validation is None else f", {validating:.1f} s per validation"
        fitting = f"{sized.max_epochs} epochs of {sized.mini_batch_size} batches fit into"
        echo(f"{seconds:.2f} s per batch{validated}: {fitting} {config.solver.budget_minutes:g} minutes")
    learner.load_state_dict(before)
    return sized, workers
