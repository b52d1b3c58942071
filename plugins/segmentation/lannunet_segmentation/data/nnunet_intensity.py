"""The intensity changes of the scheme `nnunet`, in torch on the image's device.

Each takes one channel (*S) and returns one of the same shape; noise takes the whole image (C, *S).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lannunet_images import queued_copy
from torch import Tensor
from torch.nn import functional


def noise(image: Tensor, deviation: float, seed: int) -> Tensor:
    """Independent Gaussian noise in each channel."""
    generator = torch.Generator(image.device).manual_seed(seed)
    return image + deviation * torch.randn(image.shape, generator=generator, device=image.device)


def change_channels(image: Tensor, name: str, channels: Sequence[Mapping[str, Any] | None]) -> Tensor:
    """One change, with parameters per channel, or one for all channels; None: the channel is unchanged."""
    every = channels if len(channels) == len(image) else [channels[0]] * len(image)
    changed = [
        channel if parameters is None else CHANGES[name](channel, **parameters)
        for channel, parameters in zip(image, every, strict=True)
    ]
    return torch.stack(changed)


def blur(channel: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian blur with its own sigma (x, y[, z]) along each axis; mirrored at the edges."""
    for sigma, length in zip(sigmas, reversed(channel.shape), strict=False):
        # The last axis is filtered and moved to the front D times: x, then y[, then z].
        matrix = queued_copy(_gaussian_matrix(length, sigma), channel.device, channel.dtype)
        channel = (channel @ matrix.T).movedim(-1, 0)
    return channel


def contrast(channel: Tensor, factor: float) -> Tensor:
    """Contrast about the mean, clipped to the channel's own range."""
    low, high = channel.aminmax()
    return (channel * factor).add_(channel.mean() * (1 - factor)).clamp_(low, high)


def low_resolution(channel: Tensor, scale: float, kept: int | None) -> Tensor:
    """Down to `scale` times the size, except for the axis `kept` (0 for x), and up again, linearly."""
    fewer = [max(1, round(scale * length)) for length in channel.shape]
    if kept is not None:
        fewer[-1 - kept] = channel.shape[-1 - kept]
    mode = "bilinear" if channel.ndim == 2 else "trilinear"
    small = functional.interpolate(channel[None, None], fewer, mode=mode)
    return functional.interpolate(small, list(channel.shape), mode=mode)[0, 0]


def gamma(channel: Tensor, gamma: float, inverted: bool) -> Tensor:
    """A power of the values between the minimum and the maximum or, if inverted, of those between the maximum
    and the minimum; the mean and standard deviation are kept."""
    sign = -1 if inverted else 1
    values = sign * channel
    deviation, mean = torch.std_mean(values)
    low, high = values.aminmax()
    powers = (values - low).div_((high - low).clamp_(min=_TINY)).pow_(gamma)
    changed_deviation, changed_mean = torch.std_mean(powers)
    stretch = deviation / changed_deviation.clamp_(min=_TINY)
    return powers.mul_(sign * stretch).add_(sign * (mean - stretch * changed_mean))


_TINY = torch.finfo(torch.float32).tiny

CHANGES: dict[str, Callable[..., Tensor]] = {
    "blur": blur,
    "brightness": lambda channel, factor: channel * factor,
    "contrast": contrast,
    "low_resolution": low_resolution,
    "gamma": gamma,
}


def _gaussian_matrix(length: int, sigma: float) -> Tensor:
    """(length, length): the weights of all pixels of a mirrored line for each pixel."""
    radius = max(1, round(4 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-((offsets / sigma) ** 2) / 2)
    period = max(2 * length - 2, 1)
    near = (torch.arange(length)[:, None] + offsets).remainder(period)
    near = torch.minimum(near, period - near).clamp_(min=0)
    matrix = torch.zeros(length, length)
    return matrix.scatter_add_(1, near, (weights / weights.sum()).expand(length, -1))
