"""The one module that is optimised: network, loss and what else a task learns, so that each is wrapped,
optimised, checkpointed and resumed alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.hookspecs import Loss
from lannunet_core.images.nests import map_tensors
from lannunet_core.plugins.hooks import Hooks


class Unrounded:
    """A batch that passes through Fabric's wrapper as it is.

    Under mixed precision the wrapper rounds every tensor that it sees, and 8 bits are half a pixel of a
    coordinate beyond 128.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.batch = batch


class Learner(nn.Module):
    """Network and loss of a run; a task says what the labels are, and adds what else is learned.

    Args:
        hooks: The run's hooks.
    """

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self.network = hooks.network()
        self.loss: Loss = hooks.loss()

    @abstractmethod
    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        """What the loss compares the network's outputs with."""

    def figures(self) -> dict[str, Any]:
        """What else is learned, for the row of an epoch."""
        return {}

    def forward(self, given: Mapping[str, Any] | Unrounded) -> dict[str, Tensor]:
        """A training batch to its loss terms; labels and loss in float32, outside of autocast."""
        batch = given.batch if isinstance(given, Unrounded) else given
        outputs = self.network(batch["image"])
        with torch.autocast(batch["image"].device.type, enabled=False):
            outputs = map_tensors(outputs, Tensor.float)
            return self.loss(outputs, self.labels(batch, outputs))

    def maps(self, image: Tensor) -> Any:
        """Image (B, C, *S) to activated maps in float32."""
        return self.loss.activation(map_tensors(self.network(image), Tensor.float))
