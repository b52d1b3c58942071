"""What a run, or a model in use, is made of: plugins and network on a device."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.schema import RunConfig
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.hooks import Hooks
from lannunet_core.run.learner import Learner

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass
class Session:
    """What a run, or a model in use, is made of; a task may derive its own."""

    loaded: LoadedConfig
    run: RunInfo
    fabric: Fabric
    hooks: Hooks
    learner: Learner

    @property
    def config(self) -> RunConfig:
        return self.loaded.run

    def memory_needs(self) -> str:
        """What to set for a training that takes less memory."""
        solver, size = self.config.solver, self.run.input_size
        key, _ = self.learner.advice(size, size)
        return (
            f"lower solver.data_loader_batch_size_train ({solver.data_loader_batch_size_train}), and raise "
            f"solver.accumulate ({solver.accumulate}) as much for the same steps, or {key} ({list(size)})"
        )

    def learned(self) -> dict[str, Any]:
        """Plain values beside the weights that are kept in the model's file."""
        return {}

    def recall(self, learned: dict[str, Any]) -> None:
        """Take such values from a model's file; an empty one where it starts a training."""


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, as far as the system tells."""
    described = Path("/proc/cpuinfo")
    return described.exists() and bool({"avx512_bf16", "amx_bf16"} & set(described.read_text().split()))


def training_precision(config: RunConfig) -> Precision:
    """Mixed precision where it is asked for and the device has it. Prediction is always in float32."""
    if not config.solver.auto_mixed_precision:
        return "32-true"
    if torch.cuda.is_available():
        # torch also counts GPUs that only emulate bfloat16, slowly.
        native = torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)
        return "bf16-mixed" if native else "16-mixed"
    on_cpu = not torch.backends.mps.is_available()
    return "bf16-mixed" if on_cpu and cpu_has_bfloat16() else "32-true"


def make_fabric(config: RunConfig) -> Fabric:
    """One device, the best there is."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # run.json tells device and precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator="auto", devices=1, precision=training_precision(config))
