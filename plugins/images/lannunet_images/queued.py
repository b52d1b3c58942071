"""Copies from the host to a device that nobody waits for."""

from typing import Any

import torch
from torch import Tensor


def queued_copy(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of the host on a device, copied behind the work that it has been given.

    `torch.tensor(values, device=device)` would make the host wait until a GPU has done all of that work.

    Args:
        values: A tensor on the host, an array, or numbers.
        device: Of the result.
        dtype: Likewise.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # what is not pinned is copied while the host waits
    return tensor.to(device, non_blocking=True)
