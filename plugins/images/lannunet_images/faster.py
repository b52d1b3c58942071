"""Faster training of a network: compilation, and the memory format of weights that tensor cores use."""

import time
from typing import Any

import torch
from torch import nn

from lannunet_core import UserError, echo


def prepare_to_train(network: nn.Module, dimensions: int, *, compile: bool, channels_last: bool) -> None:
    """Apply `trainer.compile` and `trainer.channels_last` to a network, in place.

    Args:
        network: The network; names in its state do not change, so checkpoints depend on neither setting.
        dimensions: D.
        compile: Whether `torch.compile` compiles it, for training only.
        channels_last: Whether weights of convolutions are in the memory format channels-last.
    """
    layout = torch.channels_last_3d if dimensions == 3 else torch.channels_last
    for parameter in network.parameters() if channels_last else ():
        if parameter.ndim == 2 + dimensions:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    if compile:
        compile_in_training(network)


def compile_in_training(network: nn.Module) -> None:
    """Compile a network at its first training step, and print how long that takes.

    Prediction is not compiled: images and windows have various sizes, each of which needs a compilation.
    """
    plain = network.forward
    compiled = torch.compile(plain)
    called = False

    def forward(*inputs: Any, **named: Any) -> Any:
        nonlocal called
        if not network.training:
            return plain(*inputs, **named)
        started = time.perf_counter()
        try:
            outputs = compiled(*inputs, **named)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"trainer.compile: the network cannot be compiled here ({reason}). Set it to false."
            ) from error
        if not called:
            seconds = time.perf_counter() - started
            echo(f"trainer.compile: compiled the network in {seconds:.1f} s")
        called = True
        return outputs

    network.forward = forward
