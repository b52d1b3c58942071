"""A network of MONAI, built from its name, its arguments and the description of the run.

Shapes: B batch, C channels, L levels, N outputs, S spatial sizes ([z,] y, x).
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, isclass, signature
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from lannunet_core import RunInfo, UserError, choose

KEY = "model.monai.arguments"
INPUTS, OUTPUTS = {"in_channels", "num_channels"}, {"out_channels", "num_classes"}
OF_THE_RUN: dict[str, Callable[[RunInfo], Any]] = {
    **dict.fromkeys(INPUTS, lambda run: run.in_channels),
    **dict.fromkeys(OUTPUTS, lambda run: len(run.outputs)),
    **dict.fromkeys(("img_size", "image_size", "input_image_size"), lambda run: run.input_size[::-1]),
    "spatial_dims": lambda run: run.dimensions,
    "pretrained": lambda run: False,  # a third-party model file must not start a download
}
"""Arguments that follow from the run, by MONAI's names."""
DOWNLOADS = {"weights", "pretrained_url", "path_or_repo_id"}


class Maps(nn.Module):
    """A network that returns one map per output, at one resolution or several.

    Args:
        network: Instance of a MONAI class.
        outputs: N, the number of outputs.
    """

    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs
        for layer in network.modules():
            if isinstance(layer, _InstanceNorm):
                layer.register_forward_pre_hook(refuse_one_pixel)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Image (B, C, *S) → (B, N, *S), or a list of them with the finest resolution first."""
        answer = self.network(image)
        if isinstance(answer, Tensor) and answer.ndim == image.ndim + 1:  # (B, L, N, *S): DynUNet in training
            answer = answer.unbind(1)
        levels = answer if isinstance(answer, (list, tuple)) else [answer]
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in levels]
        if any(len(shape) != image.ndim or shape[1] != self.outputs for shape in shapes):
            raise UserError(
                f"model.monai.network: {type(self.network).__name__} returns {', '.join(map(str, shapes))}, "
                f"not maps of {self.outputs} outputs. Choose another network, or other model.monai.arguments."
            )
        return answer if isinstance(answer, Tensor) else list(levels)


def refuse_one_pixel(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Raise the training error of instance normalisation in evaluation too, to check a size early."""
    if inputs[0].shape[2:].numel() == 1:
        raise ValueError("Instance normalisation needs more than one pixel at the coarsest level")


def build(name: str, arguments: Mapping[str, Any], run: RunInfo) -> Maps:
    """Build a network of the class.

    Raises:
        UserError: The class or an argument does not exist, an argument is missing, or MONAI refuses them.
    """
    found = choose("model.monai.network", name, networks())
    parameters = {
        key: one for key, one in signature(found).parameters.items() if one.kind != Parameter.VAR_KEYWORD
    }
    filled = {key: value(run) for key, value in OF_THE_RUN.items() if key in parameters}
    for key in filled.keys() & arguments.keys():
        raise UserError(f"{KEY}.{key}: is set automatically, to {filled[key]} in this run. Remove this key.")
    settable = {key: key for key in parameters if key not in filled}
    given = {choose(f"{KEY} of {found.__name__}", key, settable): value for key, value in arguments.items()}
    if missing := [
        key for key in settable if parameters[key].default is Parameter.empty and key not in given
    ]:
        raise UserError(f"{KEY}: {found.__name__} needs {', '.join(missing)}. Set {' and '.join(missing)}.")
    try:
        network = found(**filled, **given)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"{KEY}: {found.__name__} cannot be built with these arguments ({reason}). Correct them."
        ) from error
    dimensions = {weights.ndim - 2 for weights in network.parameters()}
    if run.dimensions not in dimensions:
        raise UserError(
            f"model.monai.network: {found.__name__} is not for images of {run.dimensions} dimensions. Choose "
            "another network."
        )
    return Maps(network, len(run.outputs))


def networks() -> dict[str, type[nn.Module]]:
    """Classes with only an image as input and a number of outputs, by name."""
    found = {}
    for name, one in vars(import_networks()).items():
        if isclass(one) and issubclass(one, nn.Module) and one.__name__ == name:
            names, of_forward = (
                signature(one).parameters.keys(),
                [*signature(one.forward).parameters.values()],
            )
            alone = all(further.default is not further.empty for further in of_forward[2:])
            if names & INPUTS and names & OUTPUTS and not names & DOWNLOADS and alone:
                found[name] = one
    return found


def import_networks() -> ModuleType:
    """Import `monai.networks.nets` without torchvision, which is incompatible with some versions of torch."""
    absent = "torchvision" not in sys.modules
    if absent:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("monai.networks.nets")
    finally:
        if absent:
            del sys.modules["torchvision"]
