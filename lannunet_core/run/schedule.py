"""The learning rate over a run."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

EXPONENT = 0.9
WARM_UP, FINE_TUNING = 0.1, 0.25  # for fine-tuning: share of the run, and of the learning rate


class PolySchedule(LRScheduler):
    """The learning rate times (1 − progress)^0.9 (Chen et al. 2017, DeepLab).

    It reads the optimizer's groups at each step, so groups may be added later. A group with the entry `hold`
    has a rate of 0 for that share of `total_steps`; `fine_tune` warms up to ¼.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, fine_tune: bool = False) -> None:
        self.total_steps, self.fine_tune = total_steps, fine_tune
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch allows tensors too
        factor = max(0.0, 1 - self.last_epoch / self.total_steps) ** EXPONENT
        if self.fine_tune:
            factor *= FINE_TUNING * min(1.0, (self.last_epoch + 1) / (WARM_UP * self.total_steps))
        return [
            group.setdefault("initial_lr", group["lr"])
            * (factor if self.last_epoch >= group.get("hold", 0.0) * self.total_steps else 0.0)
            for group in self.optimizer.param_groups
        ]
