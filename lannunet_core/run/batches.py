"""The order of training samples, and batches of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lannunet_core.calling import call_accepting
from lannunet_core.errors import UserError
from lannunet_core.images.nests import map_tensors
from lannunet_core.run.processes import share
from lannunet_core.run.workers import TURN, packed, start_worker


def collate(
    items: Sequence[Mapping[str, Any]], fills: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """One batch: tensors and mappings of them are stacked, everything else is collected in lists.

    Tensors of different sizes are padded at their far ends with the fill value of augmentation: the value in
    `fills` for their key, else 0.
    """
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if isinstance(first, Tensor):
            batch[key] = _stack(values, fills.get(key, 0))
        elif isinstance(first, Mapping):
            batch[key] = collate(values, fills)
        else:
            batch[key] = values
    return batch


def _stack(tensors: Sequence[Tensor], fill: float) -> Tensor:
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return torch.stack(list(tensors))
    largest = [max(sides) for sides in zip(*(tensor.shape for tensor in tensors), strict=True)]
    batch = tensors[0].new_full((len(tensors), *largest), fill)
    for into, tensor in zip(batch, tensors, strict=True):
        into[tuple(slice(side) for side in tensor.shape)] = tensor
    return batch


Order = Callable[..., Sequence[int]]
"""Return type of the hook `training_order`."""


class EpochOrder(Sampler[list[tuple[int, int, int]]]):
    """Batches of (epoch, draw, index), a function of (seed, epoch) only; this process's share of each.

    Epochs have a fixed number of batches from an endless sequence of permutations, so that every sample is
    used equally often. `order` may choose other samples of the `length` ones for each epoch.
    """

    def __init__(
        self, length: int, batch_size: int, batches: int, seed: int, order: Order | None = None
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.order = order
        self._number = -1
        self._permutation: NDArray[np.int64] = np.empty(0, np.int64)
        self.set_position(0)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Set the start of the next iteration: an epoch and one of its batches."""
        self.epoch = epoch
        self.first = batch

    def __len__(self) -> int:
        return self.batches - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        index_of = self._permuted if self.order is None else self._ordered(self.order)
        for batch in range(self.first, self.batches):
            draws = share(range(batch * self.batch_size, (batch + 1) * self.batch_size))
            yield [(self.epoch, draw, index_of(draw)) for draw in draws]

    def _ordered(self, order: Order) -> Callable[[int], int]:
        count = self.batches * self.batch_size
        rng = np.random.default_rng([self.seed, self.epoch, 0, 2])
        indices = np.asarray(call_accepting(order, epoch=self.epoch, count=count, rng=rng))
        if indices.shape != (count,) or indices.min() < 0 or indices.max() >= self.length:
            raise UserError(
                f"The function that the hook 'training_order' returned must return {count} indices of "
                f"{self.length} samples, but returned {np.array2string(indices, threshold=6)}. "
                "Report it to its author."
            )
        return lambda draw: int(indices[draw])

    def _permuted(self, draw: int) -> int:
        wanted, position = divmod(self.epoch * self.batches * self.batch_size + draw, self.length)
        if wanted != self._number:
            # The last number distinguishes these generators from the samples'.
            self._permutation = np.random.default_rng([self.seed, wanted, 0, 1]).permutation(self.length)
            self._number = wanted
        return int(self._permutation[position])


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a batch's tensors; float64 matrices keep their type, unless the device has no float64."""

    def moved(value: Tensor) -> Tensor:
        exact = value.float() if device.type == "mps" and value.dtype == torch.float64 else value
        return exact.to(device, non_blocking=True)

    return dict(map_tensors(batch, moved))


def _collate(items: Sequence[Mapping[str, Any]], fills: Mapping[str, float]) -> dict[str, Any]:
    return packed(collate(items, fills))


def make_loader(
    dataset: Any,
    workers: int,
    device: torch.device,
    fills: Mapping[str, float] = MappingProxyType({}),
    **options: Any,
) -> DataLoader[Any]:
    """A loader for `loaded_batches`; `fills` is an argument of `collate`, `options` of torch's DataLoader."""
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=partial(_collate, fills=dict(fills)),
        timeout=TURN if workers > 0 else 0,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # so that the loader does not change the global generator
        **options,
    )
