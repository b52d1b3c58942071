"""Errors of a device, or the host, that is out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lannunet_core.errors import RunFailed

SAID = ("out of memory", "you tried to allocate", "ALLOC_FAILED")  # messages of allocators, cuDNN and cuBLAS


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is an allocator's that is out of memory."""
    if error is None or isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return error is not None
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)
    return said or out_of_memory(error.__cause__)


@contextmanager
def naming_memory(remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error within into one sentence that ends the run."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise RunFailed(f"There is not enough memory to train: {remedy}.") from None
