"""The processes of a run: one, or one per device, where lannunet-cluster joins those that were started."""

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
    """What a run asks of its processes, here the only one; `lannunet_cluster.joined` is the other answer."""

    rank, world, local = 0, 1, 1  # its number (0 writes and prints), how many there are, and on this machine

    def make_fabric(self, **options: Any) -> "Fabric":
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

        # Fabric would look for SLURM itself, and warn where srun is installed.
        return Fabric(plugins=[LightningEnvironment()], **options)

    def gathered(self, items: Sequence[T]) -> list[T]:
        return list(items)

    def most(self, value: int) -> int:
        """The greatest value of all processes."""
        return value

    def sum(self, value: "Tensor") -> "Tensor":
        return value

    def average_gradients(self, optimizers: Sequence[Any]) -> None:
        """Average those of a step that did not go through the wrapped module."""

    def share_statistics(self, learner: "nn.Module", device: str) -> None:
        """Make batch normalisation one of the whole batch, in place."""

    def lost(self, error: BaseException) -> bool:
        """Whether an error reports that another process ended or hangs."""
        return False


_now = Processes()


def now() -> Processes:
    return _now


def started() -> bool:
    """Whether torchrun, srun or `lannunet train` started this process, and others beside it."""
    # A batch script of SLURM has variables of its job as well, but is no task of a step.
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


@contextmanager
def taking_part(trainer: "TrainerConfig") -> Iterator[None]:
    """Be one of the processes that were started for a run."""
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
    """Whether this process writes and prints; a run in one process has no other."""
    return _now.rank == 0


def on_this_machine() -> int:
    """How many processes of a run share this machine's memory and cores."""
    return _now.local


def share(items: Sequence[T]) -> Sequence[T]:
    """The part of a work that this process of a run does."""
    begin, end = (len(items) * rank // _now.world for rank in (_now.rank, _now.rank + 1))
    return items[begin:end]


def gathered(items: Sequence[T]) -> list[T]:
    """The items that all processes of a run made of their `share`, in its order. Every process calls it."""
    return _now.gathered(items)


def from_first(value: T) -> T:
    """The value of the first process of a run, once all processes have called this."""
    return _now.gathered([value])[0]


def sum_over_processes(value: "Tensor") -> "Tensor":
    """The sum of a tensor over the processes of a run, the tensor itself where there is one.

    Each process of a run on several devices has its share of a batch, and gradients are averaged over them.
    A loss that takes sums over its batch takes them through this function, normalisers too: its value and
    its gradients are then those of the whole batch, however the annotations are spread. Every process has to
    call it in the same way, whatever is in its share.

    Args:
        value: Of any shape, the same in all processes.
    """
    return _now.sum(value)
