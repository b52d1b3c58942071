"""One stage or two: the second is trained on patches of the original images around the points of the first.

It is planned where 2D images are so large that the network sees them at half their resolution or less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from lannunet_core import Choice, PlannedNetwork, PlanRequest
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.cost import Budget
from lannunet_landmarks.planning.fit import Fitted, about, asked_of, coarseness, fit
from lannunet_landmarks.planning.look import Look
from lannunet_landmarks.planning.rate import rate_of_second
from lannunet_landmarks.planning.recipe import Machine


@dataclass(frozen=True)
class SecondStage:
    """A network on patches.

    Attributes:
        network: As the architecture offers it; its size is that of a patch, in pixels of the images.
        batch: Patches in a batch.
        batches: How many fit into the time.
        minutes: Of training.
        factor: Pixels of the image, along an axis, that a pixel of the first stage's input stands for.
    """

    network: PlannedNetwork
    batch: int
    batches: float
    minutes: float
    factor: float

    def choices(self, architecture: str, machine: Machine, rate: list[Choice]) -> list[Choice]:
        """The section `refine`, after a first stage with this choice of a learning rate."""
        wide = max(self.network.size) / self.factor
        reason = (
            f"a second stage on patches of the original image, of which {self.factor:.2g} pixels are one of "
            f"the first stage's input; a patch is about {wide:.0f} of those wide"
        )
        chosen = [
            Choice("sampler.patch.sample_patch_size", list(self.network.size), reason),
            Choice("solver.budget_minutes", self.minutes, "what the first stage leaves"),
            *rate_of_second(rate, self.batches),
            Choice("solver.data_loader_batch_size_train", self.batch, "patches"),
            epoch_of(self.batches, machine),
            *(Choice(f"model.{architecture}.{key}", *one) for key, one in self.network.settings.items()),
        ]
        return [replace(choice, key=f"refine.{choice.key}") for choice in chosen]


def plan_stages(found: Look, request: PlanRequest, budget: Budget) -> tuple[Fitted, SecondStage | None]:
    """The network of the only stage, or of the first, and the second stage."""
    if budget.seconds >= 60 * recipe.LEAST_MINUTES:
        first = fit(found, request, first_budget(budget))
        if (second := _second(found, request, budget, first)) is not None:
            return first, second
    return fit(found, request, budget), None


def first_budget(budget: Budget) -> Budget:
    """What the first of two stages may cost."""
    return replace(budget, seconds=max(recipe.FIRST_STAGE * budget.seconds, 60.0))


def epoch_of(batches: float, machine: Machine) -> Choice:
    """Batches per epoch, given how many fit into the time."""
    per_epoch = max(int(float(f"{batches / recipe.VALIDATIONS:.1g}")), 1)
    return Choice(
        "solver.mini_batch_size",
        per_epoch,
        f"batches per epoch, of which about {about(batches / per_epoch)} fit: {machine.name} may make "
        f"{about(batches)} batches in the time",
    )


def _second(found: Look, request: PlanRequest, budget: Budget, first: Fitted) -> SecondStage | None:
    """None: the images are not larger than what the first stage sees, a patch would be most of one, or there
    is no time for patches that are wide enough."""
    dimensions = found.dataset.dimensions
    own, sides = np.median(found.spacings, axis=0), np.median(found.sizes, axis=0)
    factor = (coarseness(found, first.network) / math.prod(own)) ** (1 / dimensions)
    if dimensions != 2 or factor < recipe.SECOND_STAGE_FROM:
        return None
    left = replace(budget, seconds=budget.seconds - first_budget(budget).seconds)
    batches = recipe.BATCHES[dimensions] * math.sqrt(left.seconds / 60)
    lengths = [wide * np.array(first.pixel) / own for wide in range(recipe.PATCH, recipe.LEAST_PATCH - 1, -1)]
    # For each length of a patch in pixels of the image, from the most to the least capable network.
    offers = [request.networks(asked_of(found, np.minimum(length, sides), own)) for length in lengths]
    sizes = range(recipe.MOST_PATCHES, recipe.LEAST_BATCH[dimensions] - 1, -1)
    for batch, rank, offer in product(sizes, range(len(offers[0])), offers):
        network = offer[rank]
        part = math.prod(network.size) / math.prod(sides)
        if part <= recipe.MOST_OF_IMAGE and left.affords(network, batch, batches):
            fitting = left.batches_of(network, batch)
            return SecondStage(network, batch, fitting, round(left.seconds / 60, 2), factor)
    return None
