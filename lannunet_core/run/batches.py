"""The order of training samples, and batches of them."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lannunet_core.errors import UserError


def collate(
    items: Sequence[Mapping[str, Any]], fills: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """One batch: tensors stacked, everything else in lists.

    Tensors of different sizes get on their far sides what augmentation finds outside of them anyway: the value
    that `fills` has for their key, else 0.
    """
    return {
        key: _stack([item[key] for item in items], fills.get(key, 0))
        if isinstance(value, Tensor)
        else [item[key] for item in items]
        for key, value in items[0].items()
    }


def _stack(tensors: Sequence[Tensor], fill: float) -> Tensor:
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return torch.stack(list(tensors))
    largest = [max(sides) for sides in zip(*(tensor.shape for tensor in tensors), strict=True)]
    batch = tensors[0].new_full((len(tensors), *largest), fill)
    for into, tensor in zip(batch, tensors, strict=True):
        into[tuple(slice(side) for side in tensor.shape)] = tensor
    return batch


class EpochOrder(Sampler[list[tuple[int, int, int]]]):
    """Batches of (epoch, draw, index), a function of (seed, epoch) only.

    Epochs have a fixed number of batches and cut an endless row of permutations, so that every sample is used
    equally often.

    Args:
        length: Samples of the split.
        batch_size: Samples a batch.
        batches: Batches an epoch.
        seed: The run's seed.
    """

    def __init__(self, length: int, batch_size: int, batches: int, seed: int) -> None:
        self.length = length
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.set_position(0)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """What the next iteration gives: an epoch, from one of its batches on."""
        self.epoch = epoch
        self.first = batch

    def __len__(self) -> int:
        return self.batches - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch, draws = self.epoch, self.batches * self.batch_size
        permutation: NDArray[np.int64] = np.empty(0, np.int64)
        number = -1
        for batch in range(self.first, self.batches):
            places = []
            for draw in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                wanted, position = divmod(epoch * draws + draw, self.length)
                if wanted != number:
                    # The last number keeps these apart from the samples' own generators.
                    permutation = np.random.default_rng([self.seed, wanted, 0, 1]).permutation(self.length)
                    number = wanted
                places.append((epoch, draw, int(permutation[position])))
            yield places


def loaded_batches(loader: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches of a loader; a user's mistake found in a worker comes without the worker's traceback."""
    try:
        yield from loader
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a batch's tensors; float64 matrices go as they are, except where the device has no float64."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            if device.type == "mps" and value.dtype == torch.float64:
                value = value.float()
            value = value.to(device, non_blocking=True)
        moved[key] = value
    return moved


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the workers leave when the main process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(
    dataset: Any,
    workers: int,
    device: torch.device,
    fills: Mapping[str, float] = MappingProxyType({}),
    **options: Any,
) -> DataLoader[Any]:
    """A loader of `dataset`; `fills` as `collate` takes it, `options` as torch's DataLoader does."""
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=partial(collate, fills=dict(fills)),
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # the loader's own draws must not move the global generator
        **options,
    )
