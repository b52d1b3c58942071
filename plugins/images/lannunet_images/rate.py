"""The learning rate that plans choose for short runs."""

from __future__ import annotations

from lannunet_core import Choice, PlanRequest, ask_class

SHORT_STEPS = 10_000
RATE = 0.004
"""Twice the default. docs/recipe.md has the measurements, of runs of 500 to 1500 steps."""


def choose_rate(request: PlanRequest, task: str, steps: float) -> list[Choice]:
    """The learning rate, if a run is short and its plugins do not suggest one.

    Args:
        request: Request for the plan.
        task: Name of the task.
        steps: Steps of the run.
    """
    suggested = {
        key
        for plugin, found in (request.architecture, *request.extensions.items())
        for key in ask_class(plugin, found.suggestions, task)
    }
    if steps > SHORT_STEPS or suggested & {"solver.base_lr", "solver.optimizer"}:
        return []
    return [Choice("solver.base_lr", RATE, "twice the default: a network learns more in few steps")]
