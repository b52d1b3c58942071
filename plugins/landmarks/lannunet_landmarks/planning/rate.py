"""The learning rate of short runs."""

from __future__ import annotations

from lannunet_core import Choice, PlanRequest, ask_class
from lannunet_landmarks.planning import recipe

KEY = "solver.base_lr"


def choose_rate(request: PlanRequest, batches: float) -> list[Choice]:
    """The learning rate of a run, or of the first of two stages, if it is short and plugins suggest none.

    Args:
        request: Request for the plan.
        batches: Batches of the run, or of the stage.
    """
    suggested = {
        key
        for plugin, found in (request.architecture, *request.extensions.items())
        for key in ask_class(plugin, found.suggestions, "landmarks")
    }
    if request.gpu or batches > recipe.SHORT_RUN or suggested & {KEY, "solver.optimizer"}:
        return []  # a GPU may make many more batches than its cautious estimate
    return [Choice(KEY, recipe.SHORT_RATE, "twice the default: a network learns more in few batches")]


def rate_of_second(first: list[Choice], batches: float) -> list[Choice]:
    """The learning rate of a second stage, which otherwise has that of the first.

    Args:
        first: Result of `choose_rate` for the first stage.
        batches: Batches of the second stage.
    """
    longer = bool(first) and batches > recipe.SHORT_RUN
    return [Choice(KEY, "auto", "the default, for more batches")] if longer else []
