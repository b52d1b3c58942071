"""The processes of a run: one, or one per device, which lannunet-cluster connects."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from lannunet_core.config.schema import TrainerConfig

T = TypeVar("T")


class Processes:
    """The process group of a run, here of one process; `lannunet_cluster.joined` implements several."""

    rank, world, local = 0, 1, 1  # its number (0 writes and prints), the number of all, and on this machine

    def make_fabric(self, **options: Any) -> "Fabric":
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

        # Fabric would detect SLURM itself, and warn if srun is installed.
        return Fabric(plugins=[LightningEnvironment()], **options)

    def gathered(self, items: Sequence[T]) -> list[T]:
        return list(items)

    def most(self, value: int) -> int:
        """The largest value over all processes."""
        return value

    def sum(self, value: "Tensor") -> "Tensor":
        return value

    def average_gradients(self, optimizers: Sequence[Any]) -> None:
        """Average the gradients of a step that did not use the wrapped module."""

    def share_statistics(self, learner: "nn.Module", device: str) -> None:
        """Make batch normalisation use the whole batch, in place."""

    def lost(self, error: BaseException) -> bool:
        """Whether an error means that another process ended or hangs."""
        return False


_now = Processes()


def now() -> Processes:
    return _now


def started() -> bool:
    """Whether torchrun, srun or `lannunet train` started this process as one of several."""
    # A batch script of SLURM has variables of its job as well, but is not a task of a step.
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


@contextmanager
def taking_part(trainer: "TrainerConfig") -> Iterator[None]:
    """Join the processes that were started for a run."""
    from lannunet_core.plugins.launchers import launcher

    global _now
    alone = not started() and trainer.processes == 1
    devices: Any = None if alone else launcher("processes", "trainer.devices")
    with nullcontext(Processes()) if alone else devices.join(trainer) as joined:
        before, _now = _now, joined
        try:
            yield
        finally:
            _now = before


def is_first() -> bool:
    """Whether this process writes and prints; true in a run with one process."""
    return _now.rank == 0


def on_this_machine() -> int:
    """How many processes of a run share this machine's memory and cores."""
    return _now.local


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's share of the items."""
    begin, end = (len(items) * rank // _now.world for rank in (_now.rank, _now.rank + 1))
    return items[begin:end]


def gathered(items: Sequence[T]) -> list[T]:
    """The results of all processes for their `share`, in its order. Every process must call it."""
    return _now.gathered(items)


def from_first(value: T) -> T:
    """The value of the first process of a run, once all processes have called this function."""
    return _now.gathered([value])[0]


def sum_over_processes(value: "Tensor") -> "Tensor":
    """The sum of a tensor over the processes of a run; the tensor itself if there is one process.

    Each process of a run on several devices has its share of a batch, and gradients are averaged over them. A
    loss that sums over its batch, also for normalisers, must use this function: its value and its gradients
    are then those of the whole batch, whatever the distribution of annotations. Every process has to call it
    in the same way, whatever its share contains.

    Args:
        value: Tensor of any shape, equal in all processes.
    """
    return _now.sum(value)
