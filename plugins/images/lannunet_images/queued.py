"""Asynchronous copies from the host to a device."""

from typing import Any

import torch
from torch import Tensor


def queued_copy(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a copy of host values on a device, without synchronising with it.

    `torch.tensor(values, device=device)` makes the host wait until a GPU has finished all queued work.

    Args:
        values: A host tensor, an array, or numbers.
        device: Device of the result.
        dtype: Type of the result.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # the host waits for a copy of memory that is not pinned
    return tensor.to(device, non_blocking=True)
