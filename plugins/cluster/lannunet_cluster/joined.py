"""The processes of a run on several devices, connected by PyTorch: their ranks and shared data.

torchrun, srun of SLURM, or `lannunet train --devices` starts one process per device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lannunet_cluster.children import LOST, OURS, RUN_ID
from lannunet_core import Processes, RunFailed, TrainerConfig, UserError

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""Maximum time that processes wait for one that prepares data; a process that ends is detected
immediately."""


class Several(Processes):
    """See `lannunet_core.Processes`; its values come from the environment."""

    group: Any = None  # the group for Python objects; None: not connected yet

    def __init__(self) -> None:
        seen = os.environ
        self.slurm = RUN_ID not in seen and "SLURM_STEP_NUM_TASKS" in seen
        if self.slurm:
            self.rank, self.world = int(seen["SLURM_PROCID"]), int(seen["SLURM_STEP_NUM_TASKS"])
            self.local = self.world // int(seen["SLURM_STEP_NUM_NODES"])
        elif RUN_ID in seen:
            self.rank, self.world = int(seen["RANK"]), int(seen["WORLD_SIZE"])
            self.local = int(seen["LOCAL_WORLD_SIZE"])

    def make_fabric(self, **options: Any) -> Fabric:
        if self.world == 1:
            return super().make_fabric(**options)
        environment: ClusterEnvironment = SLURMEnvironment() if self.slurm else TorchElasticEnvironment()
        fabric = Fabric(
            strategy=DDPStrategy(find_unused_parameters=True),  # a loss may leave parameters out
            num_nodes=self.world // self.local,
            plugins=[environment],
            **options,
        )
        fabric.launch()
        if self.group is None:
            self.group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        return fabric

    def gathered(self, items: Sequence[T]) -> list[T]:
        if self.world == 1:
            return list(items)
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, list(items), group=self.group)
        return [item for part in found for item in part]

    def most(self, value: int) -> int:
        if self.world == 1:
            return value
        found = torch.tensor(value)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, self.group)
        return int(found)

    def sum(self, value: Tensor) -> Tensor:
        if self.group is None:
            return value
        total: Tensor = Sum.apply(value)  # type: ignore[no-untyped-call]
        return total

    def average_gradients(self, optimizers: Sequence[Any]) -> None:
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        every = [parameter for group in groups for parameter in group["params"]]
        used = torch.tensor([float(one.grad is not None) for one in every], device=every[0].device)
        distributed.all_reduce(used)
        for parameter, count in zip(every, used.tolist(), strict=True):
            if count:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                distributed.all_reduce(gradient)
                parameter.grad = gradient / self.world

    def share_statistics(self, learner: nn.Module, device: str) -> None:
        if self.world == 1 or not any(isinstance(part, _BatchNorm) for part in learner.modules()):
            return
        if device != "cuda":
            raise UserError(
                "trainer.devices: the network has batch normalisation, which several processes on "
                f"{device} cannot synchronise. Use one device, GPUs, or another network."
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(learner)  # type: ignore[no-untyped-call]

    def lost(self, error: BaseException) -> bool:
        known = isinstance(error, distributed.DistError) or any(w in str(error) for w in ("gloo", "NCCL"))
        return self.group is not None and known


class Sum(torch.autograd.Function):
    """The gradient is the sum of the processes' gradients: each computes the loss from a copy of the sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.forward(ctx, gradient)


@contextmanager
def joined(trainer: TrainerConfig) -> Iterator[Processes]:
    """This process, one of those started for a run; only the first one prints.

    Raises:
        UserError: Their number differs from `trainer.devices` and `trainer.num_nodes`.
        RunFailed: Another process ended or hangs.
    """
    own = Several()
    automatic = trainer.devices == "auto"
    here = own.local if automatic else trainer.devices_per_node
    machines = own.world // own.local if automatic and trainer.num_nodes == 1 else trainer.num_nodes
    if own.world != here * machines:
        raise UserError(
            f"trainer.devices: {own.world} processes were started for {here} devices on {machines} machines. "
            "lannunet train starts them itself on one machine; on several, and from Python, start it by "
            f"torchrun --nproc-per-node {here} --nnodes {machines}, or by srun with as many tasks."
        )
    with ExitStack() as stack:
        if own.rank > 0:
            nowhere = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield own
        except RuntimeError as error:
            if not own.lost(error):
                raise
            if os.environ.get(RUN_ID) == OURS:
                raise SystemExit(LOST) from error  # its parent reports which one it was
            raise RunFailed(
                f"process {own.rank} of {own.world} lost another one, which ended or hangs. Resume with "
                "--resume, on any number of devices."
            ) from error
