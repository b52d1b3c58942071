"""The parts of a run, or of a model in use: plugins and network on a device."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.schema import DEVICE, RunConfig
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.hooks import Hooks
from lannunet_core.run.learner import Learner
from lannunet_core.run.processes import now

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass
class Session:
    """The parts of a run, or of a model in use; a task may derive its own."""

    loaded: LoadedConfig
    run: RunInfo
    fabric: Fabric
    hooks: Hooks
    learner: Learner

    @property
    def config(self) -> RunConfig:
        return self.loaded.run

    def memory_needs(self) -> str:
        """Advice for a training that needs less memory."""
        solver, size = self.config.solver, self.run.input_size
        key, _ = self.learner.advice(size, size)
        return (
            f"lower solver.data_loader_batch_size_train ({solver.data_loader_batch_size_train}), and raise "
            f"solver.accumulate ({solver.accumulate}) as much for the same steps, or {key} ({list(size)})"
        )

    def learned(self) -> dict[str, Any]:
        """Plain values that are stored in the model file with the weights."""
        return {}

    def recall(self, learned: dict[str, Any]) -> None:
        """Restore such values from a model file; empty if it is the start of a new training."""


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, as far as the system reports."""
    described = Path("/proc/cpuinfo")
    return described.exists() and bool({"avx512_bf16", "amx_bf16"} & set(described.read_text().split()))


def accelerator_of(device: str, key: str = "trainer.device") -> str:
    """The kind of the device that `trainer.device`, or another `key`, names; auto: the best available.

    Raises:
        UserError: There is no such device.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cuda, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    kind, _, number = device.partition(":")
    if kind == "auto":
        return "mps" if there["mps"] else "cuda" if cuda else "cpu"
    if not re.match(DEVICE, device) or int(number or 0) >= there[kind]:
        raise UserError(
            f"{key}: there is no {device} here; PyTorch {torch.__version__} finds {cuda} CUDA devices. Set "
            "it to auto, cpu, cuda, cuda:1 or mps, or install a PyTorch for the device."
        )
    return kind


def training_precision(config: RunConfig, kind: str | None = None) -> Precision:
    """Mixed precision if it is configured and the device supports it. Prediction is always in float32."""
    kind = kind or accelerator_of(config.trainer.device)
    if not config.solver.auto_mixed_precision or kind == "mps":
        return "32-true"
    if kind == "cuda":
        # torch also counts GPUs that only emulate bfloat16, slowly.
        native = torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)
        return "bf16-mixed" if native else "16-mixed"
    return "bf16-mixed" if cpu_has_bfloat16() else "32-true"


def make_fabric(config: RunConfig, device: str | None = None) -> Fabric:
    """The device of a run; for several processes, this one's, connected to the others.

    Args:
        config: Configuration of the run, or of a model.
        device: Value of `--device` for a model in use; None: the configured device.

    Raises:
        UserError: There is no such device.
    """
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # run.json has device and precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    trainer = config.trainer
    kind = accelerator_of(trainer.device) if device is None else accelerator_of(device, "--device")
    _, _, number = (device or trainer.device).partition(":")
    devices: list[int] | int = [int(number)] if number else now().local
    if device is None and isinstance(trainer.devices, tuple) and kind == "cuda":
        devices = list(trainer.devices)
    precision = training_precision(config, kind)
    return now().make_fabric(accelerator=kind, devices=devices, precision=precision)
