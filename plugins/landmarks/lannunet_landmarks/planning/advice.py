"""Advice for a run whose configuration was not planned: what a plan would choose instead."""

from __future__ import annotations

import math
from typing import Any, cast

from lannunet_core import LoadedConfig, NetworkRequest, PlannedNetwork, PlanRequest, RunInfo
from lannunet_landmarks.data.annotations import LandmarkDataset
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.cost import Budget, cores
from lannunet_landmarks.planning.fit import about, fit
from lannunet_landmarks.planning.look import look
from lannunet_landmarks.schema import RunConfig

WORTH_IT = 2.0  # a plan is worth mentioning if it fits this many times the batches


def advice(loaded: LoadedConfig, run: RunInfo, dataset: LandmarkDataset) -> str | None:
    """A message for a run on the CPU, on whole images, with few batches in its budget; None: no advice.

    Nothing is measured and no image is read: the cost of the network is estimated from its architecture's
    figures. If the architecture has none for this network, there is no advice.
    """
    config = cast(RunConfig, loaded.run)
    solver, sampler = config.solver, config.sampler
    if solver.max_epochs != "auto" or sampler.in_patches or config.model.checkpoint is not None:
        return None
    if run.device != "cpu":  # GPUs differ too much for an estimate without a measurement
        return None
    try:
        network = costs_of(loaded, run)
    except Exception as error:  # errors of a plugin's estimate must not end a run
        plugin = loaded.architecture.installed
        return (
            f"plugin {plugin} fails when it estimates the cost of its networks ({type(error).__name__}: "
            f"{error}). Update {plugin.distribution}, or report it to its author; the run continues."
        )
    if network is None:
        return None
    machine = cores()
    budget = Budget(math.inf, 60 * solver.budget_minutes, machine)
    batches = budget.batches_of(network, solver.data_loader_batch_size_train)
    if batches >= recipe.FEW_BATCHES:
        return None
    name = loaded.architecture.installed.name
    request = PlanRequest(
        dataset.path,
        dataset.path.parent,
        (loaded.architecture.installed, loaded.architecture.plugin_class),
        minutes=solver.budget_minutes,
    )
    budget = Budget(request.memory_gb * 1e9, budget.seconds, machine)
    fitted = fit(look(dataset, recipe.SYMMETRIC), request, budget)
    if fitted.batches < WORTH_IT * batches:
        return None
    chosen = {
        "sampler.input_size": list(fitted.network.size),
        "solver.data_loader_batch_size_train": fitted.batch,
        **{
            f"model.{name}.{key}": value
            for key, (value, _) in fitted.network.settings.items()
            if isinstance(value, int)
        },
    }
    now: dict[str, Any] = {
        "sampler.input_size": list(sampler.input_size),
        "solver.data_loader_batch_size_train": solver.data_loader_batch_size_train,
        **{f"model.{name}.{key}": value for key, value in loaded.architecture.config.model_dump().items()},
    }
    others = ", ".join(f"{key} {value}" for key, value in chosen.items() if value != now.get(key, value))
    return (
        f"only about {max(batches, 1):.0f} batches fit into {solver.budget_minutes:g} minutes of "
        f"{machine.name}; lannunet plan would choose {others}, of which {about(fitted.batches)} fit."
    )


def costs_of(loaded: LoadedConfig, run: RunInfo) -> PlannedNetwork | None:
    """The offered network with the same first setting as the run, which determines most of its cost.

    None: there is none.
    """
    asked = NetworkRequest(
        tuple(map(float, run.input_size)),
        run.spacing or (1.0,) * run.dimensions,
        run.in_channels,
        len(run.outputs),
    )
    settings = loaded.architecture.config.model_dump()
    for network in loaded.architecture.plugin_class.networks(asked):
        for key, (value, _) in list(network.settings.items())[:1]:
            if settings.get(key) == value:
                return network
    return None
