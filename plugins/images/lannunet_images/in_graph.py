"""`prepare_image` in operations of an exported graph, for images of any size, and the description of a graph.

Image sizes are tensors, so a graph that was traced with one image is valid for all sizes. The method is that
of `prepare.py`. Sizes, spacings and strides are (x, y[, z]); tensors are (C, *S).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lannunet_core import Floats, UserError
from lannunet_images.geometry import ResizeMode
from lannunet_images.normalise import PADDING, PERCENTILES, ROUNDING, Window

InGraph = Callable[[Tensor, Tensor], Tensor]
"""A normalisation: maps a channel (*S) float32 and the mask of the image (*S) to the normalised channel."""


@dataclass(frozen=True)
class Graph:
    """A trained model as one module of tensors, for export.

    Attributes:
        module: The module, in evaluation mode, on the CPU.
        inputs: The names of its inputs.
        outputs: The names of its outputs.
        examples: Inputs that differ in all sizes that are variable. The graph is traced with the first; its
            outputs for all are compared with those of the model.
        free: Axes of variable size of the first input, with their minimum size.
        about: Metadata for users, ready for JSON.
        wanted: Returns the model's outputs for an example, by name; outputs that it does not return are
            compared with those of the module.
        tolerance: Maximum difference between graph and model, by output.
        decoder: The source of a NumPy module with `decoded(answers, about)`, which converts the graph's
            outputs, by name, to those of `wanted`; None: there is nothing to decode.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: Sequence[tuple[NDArray[Any], ...]]
    free: Mapping[int, int]
    about: Mapping[str, Any]
    wanted: Callable[..., Mapping[str, Floats]]
    tolerance: Mapping[str, float]
    decoder: str | None = None


class PreparingInGraph(nn.Module):
    """Resizes and normalises an image.

    Args:
        input_size: (x, y[, z]); None: an image keeps its size.
        resize: `letterbox` or `stretch`.
        normalisations: One per channel.
        pixel_shape: Size of an input pixel in mm, if a letterbox keeps proportions in mm; None: in pixels.
        unknown: Shape of an image's pixels if their spacing is unknown; None: that of an input pixel.
    """

    def __init__(
        self,
        input_size: Sequence[int] | None,
        resize: ResizeMode,
        normalisations: Sequence[InGraph],
        pixel_shape: Sequence[float] | None = None,
        unknown: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.unknown = unknown or pixel_shape
        self.input_size, self.letterbox = input_size, resize == "letterbox"
        self.normalisations, self.pixel_shape = normalisations, pixel_shape

    def forward(self, image: Tensor, spacing: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The network's input for an image.

        Args:
            image: (C, *S) float32.
            spacing: (D,) float64, mm per pixel; 0 or less if unknown.

        Returns:
            The input (1, C, *input), the affine (D + 1, D + 1) float64 from its pixels to the image's, and
            the image's size (D,) float64.
        """
        lines = [torch.arange(side, dtype=torch.float64) for side in image.shape[:0:-1]]
        size = torch.stack([line[-1] + 1 for line in lines])
        dimensions = len(lines)
        if self.input_size is None:
            everywhere = torch.ones_like(image[0], dtype=torch.bool)
            return self.normalised(image, image, everywhere)[None], torch.eye(dimensions + 1).double(), size
        step, shift = self.resizing(size, spacing)
        resized, inside = image.float(), []
        for axis, wanted in enumerate(self.input_size):
            positions = step[axis] * torch.arange(wanted, dtype=torch.float64) + shift[axis]
            shown = (positions >= -0.5) & (positions < size[axis] - 0.5)
            inside.append(shown.reshape(-1, *[1] * axis))
        for axis in reversed(range(dimensions)):  # the first axis of the array first
            positions = step[axis] * torch.arange(self.input_size[axis], dtype=torch.float64) + shift[axis]
            weights = resample_rows(lines[axis], positions, step[axis])
            resized = (resized.movedim(-1 - axis, -1) @ weights.mT).movedim(-1, -1 - axis)
        prepared = self.normalised(resized, image, reduce(torch.logical_and, inside))
        affine = torch.cat([torch.diag(step), shift[:, None]], 1)
        last = torch.tensor([[*[0.0] * dimensions, 1.0]], dtype=torch.float64)
        return prepared[None], torch.cat([affine, last]), size

    def resizing(self, size: Tensor, spacing: Tensor | None) -> tuple[Tensor, Tensor]:
        """`resize_affine`: image pixels per input pixel, and the position of the first one, (D,) each."""
        wanted = torch.tensor(self.input_size, dtype=torch.float64)
        scale = wanted / size
        if self.letterbox:
            if spacing is None or self.pixel_shape is None or self.unknown is None:
                scale = scale.min().expand(len(wanted))
            else:
                shapes = (self.unknown, self.pixel_shape)
                assumed, shape = (torch.tensor(one, dtype=torch.float64) for one in shapes)
                pixel = torch.where((spacing > 0).all(), spacing, assumed) / shape
                lengths = pixel / pixel.min()
                lengths = torch.where(lengths < 1 + 1e-5, 1, lengths)
                scale = lengths * (scale / lengths).min()
        margin = (wanted - size * scale) / 2
        return 1 / scale, (0.5 - margin) / scale - 0.5

    def normalised(self, resized: Tensor, image: Tensor, inside: Tensor) -> Tensor:
        """The normalised channels (C, *S), 0 outside of the mask `inside` (*S)."""
        channels = []
        for index, normalise in enumerate(self.normalisations):
            varied = image[index].min() < image[index].max()  # else rounding errors would be amplified
            channel = torch.where(varied, resized[index], image[index].min())
            channels.append(torch.where(inside, normalise(channel, inside), 0))
        return torch.stack(channels)


def resample_rows(columns: Tensor, positions: Tensor, scale: Tensor) -> Tensor:
    """`resample_matrix`, dense (out, in) float32, from integrals of hat functions in closed form.

    Args:
        columns: (in,) 0, 1, 2 …
        positions: (out,) in pixels of the image.
        scale: Image pixels per output pixel.
    """
    window = (scale.square() - 1).clamp(min=0).sqrt()
    last = columns[-1]
    points = positions.clamp(min=0).minimum(last)
    linear = (1 - (points[:, None] - columns).abs()).clamp(min=0)

    def integral(until: Tensor) -> Tensor:  # (out, in) of each column's hat; edge pixels are extended
        away = until[:, None] - columns
        kept = torch.where(columns == 0, away.clamp(min=0), away)
        kept = torch.where(columns == last, kept.clamp(max=0), kept)
        bounded = kept.clamp(-1, 1)
        hat = torch.where(bounded < 0, (1 + bounded).square() / 2, 1 - (1 - bounded).square() / 2)
        return hat + (away - kept)

    area = integral(positions + window / 2) - integral(positions - window / 2)
    return torch.where(window < 1e-3, linear, area / window.clamp(min=1e-3)).float()


def zscore(channel: Tensor, counted: Tensor) -> Tensor:
    """The channel with mean 0 and deviation 1 within the mask `counted` (*S)."""
    values, count = channel.double(), counted.sum().clamp(min=1)
    mean = torch.where(counted, values, 0).sum() / count
    deviation = (torch.where(counted, values - mean, 0).square().sum() / count).sqrt()
    flat = deviation <= 1e-12 * mean.abs()
    return (channel - mean.float()) * torch.where(flat, 0, 1 / torch.where(flat, 1, deviation)).float()


def percentile_zscore(channel: Tensor, inside: Tensor) -> Tensor:
    """The same as `normalise.percentile_zscore`."""
    lowest = torch.where(inside, channel, torch.inf).min()
    highest = torch.where(inside, channel, -torch.inf).max()
    padding = inside & (channel <= lowest + ROUNDING * (highest - lowest))
    pool = functional.max_pool2d if channel.ndim == 2 else functional.max_pool3d
    inner = inside & (pool(padding.float()[None, None], 3, 1, 1)[0, 0] == 0)
    inner = inner | (inside & ~padding & ~inner.any())
    padded = padding.sum() >= PADDING * inside.sum()
    content = (padded & inner) | (~padded & inside)
    ordered = torch.where(content, channel, torch.inf).flatten().sort().values
    low, high = (_quantile(ordered, content.sum(), share / 100) for share in PERCENTILES)
    clipped = channel.clamp(min=low).minimum(high)
    return torch.where(lowest < highest, zscore(clipped, content), 0)


def _quantile(ordered: Tensor, count: Tensor, share: float) -> Tensor:
    """The quantile of the first `count` ascending values, interpolated linearly."""
    place = share * (count - 1).clamp(min=0).double()
    below, above = (ordered[at.long().reshape(1)][0] for at in (place.floor(), place.ceil()))
    return (below + (above - below) * (place - place.floor()).float()).float()


def windowed(window: Window) -> InGraph:
    """The same as `Window`."""

    def normalise(channel: Tensor, inside: Tensor) -> Tensor:
        factor = 1 / window.deviation if window.deviation > 0 else 0.0
        return (channel.clamp(window.low, window.high) - window.mean) * factor

    return normalise


def unchanged(channel: Tensor, inside: Tensor) -> Tensor:
    return channel


def normalising_in_graph(key: str, names: Sequence[str], windows: Sequence[Window | None]) -> list[InGraph]:
    """The normalisation of each channel in a graph.

    Args:
        key: Key of the configuration, for messages.
        names: One per channel: `zscore`, `percentile`, `ct` or `none`.
        windows: One per channel, for `ct`.

    Raises:
        UserError: A normalisation cannot be exported.
    """
    found: list[InGraph] = []
    for name, window in zip(names, windows, strict=True):
        known: dict[str, InGraph] = {"zscore": zscore, "percentile": percentile_zscore, "none": unchanged}
        if name == "ct" and window is not None:
            found.append(windowed(window))
        elif name in known:
            found.append(known[name])
        else:
            raise UserError(f"{key}: {name} cannot be exported. Choose one of {', '.join(known)}, ct.")
    return found
