"""The module that is optimised, wrapped, saved and resumed: network, loss and other learned parts."""

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
    """A batch that Fabric's wrapper leaves unchanged.

    Under mixed precision the wrapper rounds every tensor, and coordinates beyond 128 to half a pixel.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.batch = batch


class Learner(nn.Module):
    """Network and loss of a run; a task defines the labels, and adds other learned parts."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self.hooks = hooks
        self.network = hooks.network()
        self.loss: Loss = hooks.loss()

    @abstractmethod
    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        """The labels that the loss compares with the network's outputs."""

    def figures(self) -> dict[str, Any]:
        """Values of other learned parts, for the row of an epoch."""
        return {}

    def outputs(self, batch: Mapping[str, Any]) -> Any:
        """The network's outputs for a batch: its image, and the additional inputs that plugins provide."""
        return self.run_network(batch["image"], **self.hooks.network_inputs(batch=batch))

    def run_network(self, image: Tensor, **inputs: Any) -> Any:
        """The network's outputs for an image (B, C, *S) and its additional inputs.

        Raises:
            UserError: The network does not accept an image of this size.
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
        """The key that sets the input size (x, y[, z]), and the advice to use `nearest`."""
        return "dataset", f"Give images of another size, such as {list(nearest)}."

    def try_size(self, run: RunInfo) -> None:
        """Raise a UserError for a training size that the network does not accept, before the first sample.

        Networks with additional inputs are not checked, as these are unknown before the first sample.

        Raises:
            UserError: The network does not accept it.
        """
        if self.hooks.answered("network_inputs"):
            return
        self.network.eval()
        device = next((parameter.device for parameter in self.parameters()), None)
        with torch.no_grad():
            self.run_network(torch.zeros(1, run.in_channels, *reversed(run.input_size), device=device))

    def forward(self, given: Mapping[str, Any] | Unrounded) -> dict[str, Tensor]:
        """Compute the loss terms of a training batch; labels and loss in float32, outside of autocast."""
        batch = given.batch if isinstance(given, Unrounded) else given
        outputs = self.outputs(batch)
        with torch.autocast(batch["image"].device.type, enabled=False):
            outputs = map_tensors(outputs, Tensor.float)
            return self.loss(outputs, self.loss_labels(batch, outputs))

    def loss_labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        """The labels, with the additional fields of the samples as `extra`."""
        return {"extra": batch.get("extra", {}), **self.labels(batch, outputs)}

    def activate(self, outputs: Any, image_size: tuple[int, ...]) -> Any:
        """Convert raw outputs for an image of `image_size` (x, y[, z]) to activated maps in float32."""
        return self.loss.activation(map_tensors(outputs, Tensor.float))

    def maps(self, batch: Mapping[str, Any]) -> Any:
        """Compute the activated maps of a batch in float32."""
        return self.activate(self.outputs(batch), spatial_size(batch["image"]))
