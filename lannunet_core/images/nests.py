"""Outputs of networks: one tensor, a list of resolutions with the finest first, or any nest of tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor


def map_tensors(nest: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply `function` to every tensor of a nest of lists, tuples and dicts."""
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, Mapping):
        return {key: map_tensors(value, function) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return type(nest)(map_tensors(value, function) for value in nest)
    return nest


def spatial_size(tensor: Tensor) -> tuple[int, ...]:
    """(x, y[, z]) of a tensor (B, C, *S)."""
    return tuple(reversed(tensor.shape[2:]))


def level_sizes_of(outputs: Any, dimensions: int | None = None) -> list[tuple[int, ...]]:
    """Sizes (x, y[, z]) of a network's outputs, finest first; those of the first tensors for other nests.

    With `dimensions` (D), only those of tensors (B, K, *S) with spatial axes.
    """
    if isinstance(outputs, Tensor):
        spatial = dimensions is None or outputs.ndim == 2 + dimensions
        return [spatial_size(outputs)] if spatial else []
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [size for output in outputs for size in level_sizes_of(output, dimensions)[:1]]


def levels(outputs: Any) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs
