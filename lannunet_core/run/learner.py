"""The one module that is optimised: network, loss and what else a task learns, so that each is wrapped,
optimised, checkpointed and resumed alike."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import Loss
from lannunet_core.images.nests import map_tensors, spatial_size
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.hooks import Hooks
from lannunet_core.run.input_sizes import ERRORS, nearby_size
from lannunet_core.run.memory import out_of_memory


class Unrounded:
    """A batch that passes through Fabric's wrapper as it is.

    Under mixed precision the wrapper rounds every tensor that it sees, and 8 bits are half a pixel of a
    coordinate beyond 128.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.batch = batch


class Learner(nn.Module):
    """Network and loss of a run; a task says what the labels are, and adds what else is learned."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self.hooks = hooks
        self.network = hooks.network()
        self.loss: Loss = hooks.loss()

    @abstractmethod
    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        """What the loss compares the network's outputs with."""

    def figures(self) -> dict[str, Any]:
        """What else is learned, for the row of an epoch."""
        return {}

    def outputs(self, batch: Mapping[str, Any]) -> Any:
        """The network's outputs for a batch: its image, and the additional inputs that plugins provide."""
        return self.run_network(batch["image"], **self.hooks.network_inputs(batch=batch))

    def run_network(self, image: Tensor, **inputs: Any) -> Any:
        """The network's outputs for an image (B, C, *S) and its additional inputs.

        Raises:
            UserError: The network cannot take an image of this size.
        """
        try:
            return self.network(image, **inputs)
        except ERRORS as error:
            if out_of_memory(error) or (other := nearby_size(self.network, image, inputs)) is None:
                raise
            size, reason = spatial_size(image), " ".join(str(error).split())[:200]
            key, remedy = self.advice(size, other)
            raise UserError(
                f"{key}: the network of {self.hooks.answering('network')} cannot take an input of "
                f"{'×'.join(map(str, size))} ({reason}). {remedy}"
            ) from error

    def advice(self, size: tuple[int, ...], nearest: tuple[int, ...]) -> tuple[str, str]:
        """What gives the network an input of `size` (x, y[, z]), and what to do, as it takes `nearest`."""
        return "dataset", f"Give images of another size, such as {list(nearest)}."

    def try_size(self, run: RunInfo) -> None:
        """Refuse a size of training samples that the network cannot take, before there is one.

        What additional inputs there are is known only then.

        Raises:
            UserError: It cannot.
        """
        if self.hooks.answered("network_inputs"):
            return
        self.network.eval()
        device = next((parameter.device for parameter in self.parameters()), None)
        with torch.no_grad():
            self.run_network(torch.zeros(1, run.in_channels, *reversed(run.input_size), device=device))

    def forward(self, given: Mapping[str, Any] | Unrounded) -> dict[str, Tensor]:
        """A training batch to its loss terms; labels and loss in float32, outside of autocast."""
        batch = given.batch if isinstance(given, Unrounded) else given
        outputs = self.outputs(batch)
        with torch.autocast(batch["image"].device.type, enabled=False):
            outputs = map_tensors(outputs, Tensor.float)
            return self.loss(outputs, self.loss_labels(batch, outputs))

    def loss_labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        """The labels, with the additional fields of the samples as `extra`."""
        return {"extra": batch.get("extra", {}), **self.labels(batch, outputs)}

    def activate(self, outputs: Any, image_size: tuple[int, ...]) -> Any:
        """Raw outputs for an image of `image_size` (x, y[, z]) to activated maps in float32."""
        return self.loss.activation(map_tensors(outputs, Tensor.float))

    def maps(self, batch: Mapping[str, Any]) -> Any:
        """A batch to activated maps in float32."""
        return self.activate(self.outputs(batch), spatial_size(batch["image"]))
