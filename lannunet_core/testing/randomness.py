"""The global random generators: seed them temporarily, and detect code that uses them."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lannunet_core.testing.outcomes import Broken


@contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """Seed the three global generators, and restore their states at the end."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def global_generators() -> dict[str, bytes]:
    """The state of each generator, comparable."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": pickle.dumps(random.getstate()),
    }


@contextmanager
def untouched(what: str, *, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Raise `Broken` if `what` uses a global generator other than `but`."""
    before = global_generators()
    yield
    after = global_generators()
    moved = [name for name in before if before[name] != after[name] and name not in but]
    if moved:
        raise Broken(
            f"{what} draws from, or seeds, the global generator of {' and of '.join(moved)}, "
            "so a run is not a function of its seed"
        )
