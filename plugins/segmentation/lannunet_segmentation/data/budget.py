"""The budget of a run, and the network, patch and batch that fit into it.

Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lannunet_core import PlannedNetwork

SMALLEST_SIDE = 8  # smaller patches are not useful
ENOUGH_CONTEXT = {2: 256**2, 3: 64**3}
LEAST_STEPS = 1600
LEAST_BATCH, MOST_BATCH = 2, 16
SHARE_OF_VOXELS = 0.05
BYTES_A_NUMBER = 10  # float32, with the memory of the backward pass and of convolutions: measured


@dataclass(frozen=True)
class Machine:
    """The speed of a machine, approximately.

    Attributes:
        name: Name in reasons.
        products: Multiplications per second.
        numbers: Activations per second that are written and read again.
        voxels: Patch voxels per second that are augmented and labelled.
        overhead: Seconds per batch that do not depend on its size.
        batches: Batches per epoch.
    """

    name: str
    products: float
    numbers: float
    voxels: float
    overhead: float
    batches: int


TWO_CORES = Machine("two CPU cores", 580e9, 0.69e9, 4.8e6, 0.015, 50)
"""Measured with U-Net: ten networks, patches and batches in 2D and 3D, each within 18 %."""

GPU = Machine("a GPU", 2.4e12, 40e9, 1.6e8, 0.0, 250)
"""A cautious estimate for any GPU."""


@dataclass(frozen=True)
class Budget:
    """The budget of a run.

    Attributes:
        memory: Memory of a training step in bytes.
        seconds: Seconds of training.
        machine: Machine that trains.
    """

    memory: float
    seconds: float
    machine: Machine

    def bytes_of(self, network: PlannedNetwork, batch: int) -> float:
        """The memory of a training step in bytes."""
        return batch * network.numbers * BYTES_A_NUMBER

    def seconds_of(self, network: PlannedNetwork, batch: int) -> float:
        """The duration of a training step; the backward pass takes twice as long as the forward pass."""
        machine, voxels = self.machine, math.prod(network.size)
        return machine.overhead + batch * (
            3 * network.products / machine.products
            + network.numbers / machine.numbers
            + voxels / machine.voxels
        )

    def affords(self, network: PlannedNetwork) -> bool:
        """Whether the smallest batch fits into memory, and the minimum number of steps into the time."""
        return (
            self.bytes_of(network, LEAST_BATCH) <= self.memory
            and self.seconds_of(network, LEAST_BATCH) * LEAST_STEPS <= self.seconds
        )


def choose_network(
    median: Sequence[float], offers: Callable[[Sequence[float]], Sequence[PlannedNetwork]], budget: Budget
) -> PlannedNetwork:
    """The most capable network with a sufficient view: the median image, or a patch of a useful size.

    Args:
        median: Size of the median prepared image.
        offers: Returns the architecture's networks for patches with such sides, the most capable first.
        budget: Budget of the run.
    """
    enough = min(math.prod(median), ENOUGH_CONTEXT[len(median)])
    for place, network in enumerate(offers(median)):
        scale = 1.0
        while not budget.affords(network) and scale * max(median) > 2 * SMALLEST_SIDE:
            scale *= 0.95
            smaller = offers([max(scale * side, min(side, SMALLEST_SIDE)) for side in median])
            if place >= len(smaller):
                break
            network = smaller[place]
        if budget.affords(network) and math.prod(network.size) >= enough:
            break
    return network


def choose_batch(network: PlannedNetwork, voxels: float, budget: Budget) -> tuple[int, str]:
    """Patches per batch: two, or more small ones if memory, time and the number of voxels allow it."""
    overhead = budget.machine.overhead
    a_patch = budget.seconds_of(network, 1) - overhead
    limits = {
        f"as many as {budget.memory / 1e9:g} GB hold": budget.memory / budget.bytes_of(network, 1),
        f"as many as leave time for {2 * LEAST_STEPS} steps": (budget.seconds / (2 * LEAST_STEPS) - overhead)
        / a_patch,
        f"{100 * SHARE_OF_VOXELS:g} % of all voxels": SHARE_OF_VOXELS * voxels / math.prod(network.size),
        "more would not help": float(MOST_BATCH),
    }
    reason = min(limits, key=lambda each: limits[each])
    if limits[reason] < LEAST_BATCH + 1:
        return LEAST_BATCH, "the least that trains steadily"
    return int(limits[reason]), reason
