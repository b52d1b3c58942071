"""The learning rate that plans choose for short runs."""

from __future__ import annotations

from lannunet_core import Choice, PlanRequest, ask_class

KEY, RATE, SHORT_STEPS = "solver.base_lr", 0.004, 1000
"""Runs of up to this many steps get twice the default. Of 500 to 1000 steps, the result is better on each
set that was measured, of 1500 or 3300 it is not (docs/recipe.md)."""


def choose_rate(request: PlanRequest, task: str, steps: float) -> list[Choice]:
    """The learning rate of a run, or of the first of two stages, if it is short and plugins suggest none.

    Args:
        request: Request for the plan.
        task: Name of the task.
        steps: Steps of the run, or of the stage.
    """
    suggested = {
        key
        for plugin, found in (request.architecture, *request.extensions.items())
        for key in ask_class(plugin, found.suggestions, task)
    }
    if steps > SHORT_STEPS or suggested & {KEY, "solver.optimizer"}:
        return []
    return [Choice(KEY, RATE, "twice the default: a network learns more in few steps")]


def rate_of_second(first: list[Choice], steps: float) -> list[Choice]:
    """The learning rate of a second stage, which otherwise has that of the first.

    Args:
        first: Result of `choose_rate` for the first stage.
        steps: Steps of the second stage.
    """
    return [Choice(KEY, "auto", "the default, for more steps")] if first and steps > SHORT_STEPS else []
