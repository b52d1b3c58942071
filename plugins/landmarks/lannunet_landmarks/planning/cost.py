"""The cost of a batch: memory and seconds, from the multiplications and stored numbers of the
architecture."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from lannunet_core import PlannedNetwork
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.recipe import Machine

TRIALS = 10  # the fastest counts


@dataclass(frozen=True)
class Budget:
    """The budget of a run.

    Attributes:
        memory: Bytes that a training step may take.
        seconds: Duration of the training.
        machine: Machine that trains.
    """

    memory: float
    seconds: float
    machine: Machine

    def bytes_of(self, network: PlannedNetwork, batch: int) -> float:
        """The memory of a training step in bytes."""
        return batch * network.numbers * recipe.BYTES_A_NUMBER

    def seconds_of(self, network: PlannedNetwork, batch: int) -> float:
        """The duration of a training step; the backward pass takes twice as long as the forward pass."""
        machine = self.machine
        return machine.overhead + batch * (
            3 * network.products / machine.products
            + network.numbers / machine.numbers
            + math.prod(network.size) / machine.pixels
        )

    def batches_of(self, network: PlannedNetwork, batch: int) -> float:
        """The number of batches that fit into the time."""
        return self.seconds / self.seconds_of(network, batch)

    def affords(self, network: PlannedNetwork, batch: int, batches: float) -> bool:
        return self.bytes_of(network, batch) <= self.memory and self.batches_of(network, batch) >= batches


def cores(speed: float = 1.0) -> Machine:
    """The CPU of this machine; `speed` is that of a core relative to a reference core."""
    import torch

    count = torch.get_num_threads()
    base, factor = recipe.TWO_CORES, speed * (count / 2) ** recipe.SCALING
    return replace(
        base,
        name="one CPU core" if count == 1 else f"{'two' if count == 2 else count} CPU cores",
        products=factor * base.products,
        numbers=factor * base.numbers,
        pixels=factor * base.pixels,
    )


def measured_speed() -> float:
    """The speed of a core of this machine relative to a reference core, rounded to a power of two.

    It is the processor time of a trial: two convolutions with the layers that most networks have between
    them, forward and backward. Processor time and rounding make a plan independent of other load on the
    machine.
    """
    import torch
    from torch import nn

    layers = [nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.LeakyReLU(inplace=True)]
    block = nn.Sequential(*layers, nn.Conv2d(16, 16, 3, padding=1))
    image = torch.zeros(4, 16, 192, 256)
    seconds, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for half in (False, True):  # a run trains in bfloat16 if that is faster
            for _ in range(TRIALS):
                start = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    total = block(image).float().mean()
                total.backward()
                seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return float(2.0 ** round(math.log2(recipe.SECONDS_OF_TRIAL / max(min(seconds), 1e-6))))
