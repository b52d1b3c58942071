"""The default hook implementations of every run. They use nothing that a plugin cannot use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lannunet_core.config.schema import RunConfig
from lannunet_core.names import choose
from lannunet_core.plugins.api import RunInfo, hookimpl
from lannunet_core.plugins.hooks import Hooks

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lannunet_core.config.schema import SolverConfig
    from lannunet_core.hookspecs import Loss, TrainingStep

NESTEROV_MOMENTUM = 0.99
SGD_WEIGHT_DECAY = 3e-5


class Defaults:
    """Default implementations, called last in every run; a task derives its own.

    Attributes:
        hooks: The run's hooks, set when they are built: they provide names.
        replaced: By hook, the key that chooses its result, or the keys that its default implementation reads.
    """

    replaced: ClassVar[dict[str, str | tuple[str, ...]]] = {
        "loss": "solver.loss_function",
        "optimizer_and_scheduler": ("solver.optimizer", "solver.base_lr", "solver.decay_policy"),
    }
    hooks: Hooks

    def __init__(self, config: Any, run: RunInfo) -> None:
        self.config: RunConfig = config
        self.run = run

    @hookimpl
    def optimizer_and_scheduler(
        self, module: nn.Module, solver: SolverConfig, base_lr: float, total_steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        import torch

        from lannunet_core.run.schedule import PolySchedule

        groups = self.parameter_groups(module, base_lr)
        optimizer: torch.optim.Optimizer
        if solver.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=base_lr, momentum=NESTEROV_MOMENTUM, nesterov=True, weight_decay=SGD_WEIGHT_DECAY
            )
        else:
            # On a GPU, Lightning cannot clip the float16 gradients of a fused optimizer.
            optimizer = torch.optim.AdamW(groups, lr=base_lr, fused=self.run.device == "cpu")
        if solver.decay_policy == "none":
            return optimizer, None
        return optimizer, PolySchedule(optimizer, total_steps, solver.decay_policy == "fine_tune")

    def parameter_groups(self, module: nn.Module, base_lr: float) -> list[dict[str, Any]]:
        """Parameter groups of the optimizer: all learnable parameters, in one group by default."""
        return [{"params": list(module.parameters())}]

    @hookimpl
    def loss(self) -> Loss:
        return choose("solver.loss_function", self.config.solver.loss_function, self.hooks.losses())()

    @hookimpl
    def training_step(self, step: TrainingStep) -> Mapping[str, Tensor]:
        return step.usual()

    @hookimpl
    def postprocess(self, prediction: Any) -> Any:
        return prediction

    @hookimpl
    def postprocess_all(self, predictions: Sequence[Any]) -> Sequence[Any]:
        return predictions
