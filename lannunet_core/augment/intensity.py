"""Intensity operations in torch, by the names and parameters that a scheme draws.

Each takes one image (C, *S) and gives one of the same shape. `FILTERS` work in the x-y plane; a volume is
filtered slice by slice. `CHANGES` see all axes. Images are z-scored, so `contrast` turns about 0, their mean.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lannunet_core.augment.schemes import IntensityOp

Parameters = Mapping[str, float]


def apply_intensity(image: Tensor, operation: IntensityOp | Callable[[Tensor], Tensor]) -> Tensor:
    """One drawn operation on one image (C, *S), on the image's device."""
    if not isinstance(operation, IntensityOp):
        return operation(image)
    if operation.name in NOISE:
        generator = torch.Generator(image.device).manual_seed(operation.seed)
        return NOISE[operation.name](image, operation.parameters, generator)
    if operation.name in CHANGES:
        return CHANGES[operation.name](image, operation.parameters)
    planes = image.reshape(-1, 1, *image.shape[-2:])  # (C · z, 1, y, x)
    return FILTERS[operation.name](planes, operation.parameters).reshape(image.shape)


def gaussian_blur(planes: Tensor, parameters: Parameters) -> Tensor:
    sigma = max(parameters["sigma"], 1e-3)
    radius = max(1, round(4 * sigma))
    line = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    line = line / line.sum()
    return _correlate(planes, line[:, None] * line)


def mean_blur(planes: Tensor, parameters: Parameters) -> Tensor:
    size = int(parameters["size"])
    return _correlate(planes, torch.full((size, size), 1 / size**2))


def median_blur(planes: Tensor, parameters: Parameters) -> Tensor:
    size = int(parameters["size"])
    padded = functional.pad(planes, (size // 2,) * 4, mode="replicate")
    height, width = planes.shape[-2:]
    rest = [padded[..., y : y + height, x : x + width] for y in range(size) for x in range(size)]
    # Of (n + 3) / 2 of n values neither the least nor the greatest is the median: drop both, take in one
    # more, and so on until one is left. On a CPU several times as fast as sorting each window.
    pool = [rest.pop() for _ in range((size**2 + 3) // 2)]
    while True:
        for index in range(1, len(pool)):
            pool[0], pool[index] = torch.minimum(pool[0], pool[index]), torch.maximum(pool[0], pool[index])
        for index in range(1, len(pool) - 1):
            pool[index], pool[-1] = torch.minimum(pool[index], pool[-1]), torch.maximum(pool[index], pool[-1])
        pool = pool[1:-1]
        if not rest:
            return pool[0]
        pool.append(rest.pop())


def average_pooling(planes: Tensor, parameters: Parameters) -> Tensor:
    """Means of blocks, each put back over its whole block; blocks at the far edge may be smaller."""
    size = int(parameters["size"])
    means = functional.avg_pool2d(planes, size, ceil_mode=True, count_include_pad=False)
    spread = means.repeat_interleave(size, -2).repeat_interleave(size, -1)
    return spread[..., : planes.shape[-2], : planes.shape[-1]]


def sharpen(planes: Tensor, parameters: Parameters) -> Tensor:
    """Blend with 8 + lightness times the pixel minus its neighbours, as in imgaug."""
    kernel = -torch.ones(3, 3)
    kernel[1, 1] = 8 + parameters["lightness"]
    return _blend(planes, kernel, parameters["alpha"])


def emboss(planes: Tensor, parameters: Parameters) -> Tensor:
    """Blend with the image lit from one corner, as in imgaug."""
    strength = parameters["strength"]
    kernel = torch.tensor(
        [[-1 - strength, -strength, 0], [-strength, 1, strength], [0, strength, 1 + strength]]
    )
    return _blend(planes, kernel, parameters["alpha"])


FILTERS: dict[str, Callable[[Tensor, Parameters], Tensor]] = {
    "gaussian_blur": gaussian_blur,
    "mean_blur": mean_blur,
    "median_blur": median_blur,
    "average_pooling": average_pooling,
    "sharpen": sharpen,
    "emboss": emboss,
}


def smooth(image: Tensor, parameters: Parameters) -> Tensor:
    """Gaussian blur with a sigma of its own along each axis; the image is mirrored at its edges."""
    for axis, length in zip("xyz", image.shape[:0:-1], strict=False):
        # The last axis is filtered and rolled to the front D times: x, then y[, then z].
        image = (image @ _gaussian_matrix(length, parameters[f"sigma_{axis}"]).to(image).T).movedim(-1, 1)
    return image


def contrast_in_range(image: Tensor, parameters: Parameters) -> Tensor:
    """Contrast about each channel's mean, cut to the channel's own range."""
    factor, values = parameters["factor"], image.flatten(1)
    low, high = (limit.reshape(-1, *[1] * (image.ndim - 1)) for limit in values.aminmax(dim=1))
    mean = values.mean(1).reshape(low.shape)
    return (image * factor).add_(mean * (1 - factor)).clamp_(low, high)


def low_resolution(image: Tensor, parameters: Parameters) -> Tensor:
    """Down to `scale` times the size, in the x-y plane alone where `planar`, and up again, linearly."""
    scale, shape = parameters["scale"], image.shape[1:]
    fewer = [max(1, round(scale * length)) for length in shape]
    if parameters["planar"] and len(shape) == 3:
        fewer[0] = shape[0]
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    small = functional.interpolate(image[None], fewer, mode=mode)
    return functional.interpolate(small, list(shape), mode=mode)[0]


def gamma(image: Tensor, parameters: Parameters) -> Tensor:
    """A power of the values between each channel's least and greatest, or, inverted, of those between its
    greatest and least; the mean and standard deviation stay."""
    sign = -1 if parameters["inverted"] else 1
    values = sign * image.flatten(1)
    deviation, mean = torch.std_mean(values, 1, keepdim=True)
    low, high = (limit[:, None] for limit in values.aminmax(dim=1))
    powers = (values - low).div_((high - low).clamp_(min=_TINY)).pow_(parameters["gamma"])
    changed_deviation, changed_mean = torch.std_mean(powers, 1, keepdim=True)
    stretch = deviation / changed_deviation.clamp_(min=_TINY)
    return powers.mul_(sign * stretch).add_(sign * (mean - stretch * changed_mean)).reshape(image.shape)


_TINY = torch.finfo(torch.float32).tiny

CHANGES: dict[str, Callable[[Tensor, Parameters], Tensor]] = {
    "contrast": lambda image, parameters: image * parameters["factor"],
    "brightness": lambda image, parameters: image * parameters["factor"],
    "contrast_in_range": contrast_in_range,
    "gamma": gamma,
    "low_resolution": low_resolution,
    "smooth": smooth,
}


def _uniform(image: Tensor, parameters: Parameters, generator: torch.Generator) -> Tensor:
    values = torch.rand(image.shape[1:], generator=generator, device=image.device)
    return (values * 2 - 1) * parameters["amplitude"]


def _normal(image: Tensor, parameters: Parameters, generator: torch.Generator) -> Tensor:
    return torch.randn(image.shape[1:], generator=generator, device=image.device) * parameters["deviation"]


# The same in all channels, as imgaug has it.
NOISE: dict[str, Callable[[Tensor, Parameters, torch.Generator], Tensor]] = {
    "add": lambda image, parameters, generator: image + _uniform(image, parameters, generator),
    "multiply": lambda image, parameters, generator: image * (1 + _uniform(image, parameters, generator)),
    "normal_noise": lambda image, parameters, generator: image + _normal(image, parameters, generator),
}


def _gaussian_matrix(length: int, sigma: float) -> Tensor:
    """(length, length): what each pixel of a mirrored line takes of each."""
    radius = max(1, round(4 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-((offsets / max(sigma, 1e-3)) ** 2) / 2)
    period = max(2 * length - 2, 1)
    near = (torch.arange(length)[:, None] + offsets).remainder(period)
    near = torch.minimum(near, period - near).clamp_(min=0)
    matrix = torch.zeros(length, length)
    return matrix.scatter_add_(1, near, (weights / weights.sum()).expand(length, -1))


def _blend(planes: Tensor, kernel: Tensor, alpha: float) -> Tensor:
    unchanged = torch.zeros(3, 3)
    unchanged[1, 1] = 1
    return _correlate(planes, (1 - alpha) * unchanged + alpha * kernel)


def _correlate(planes: Tensor, kernel: Tensor) -> Tensor:
    """Correlation with a small (k, k) kernel; the image is mirrored at its edges."""
    radius = len(kernel) // 2
    padded = functional.pad(planes, (radius,) * 4, mode="reflect")
    return functional.conv2d(padded, kernel.to(planes)[None, None])
