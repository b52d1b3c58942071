"""Intensity operations in torch, by the names and parameters that a scheme draws.

Each operation maps an image (C, *S) to one of the same shape. `FILTERS` work in the x-y plane; a volume is
filtered slice by slice. Images are z-scored, so `contrast` scales about 0, their mean.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from lannunet_core import IntensityOp
from lannunet_images.queued import queued_copy

Parameters = Mapping[str, float]


def apply_intensity(image: Tensor, operation: IntensityOp | Callable[[Tensor], Tensor]) -> Tensor:
    """Apply one drawn operation to one image (C, *S), on the image's device."""
    if not isinstance(operation, IntensityOp):
        return operation(image)
    if operation.name in NOISE:
        generator = torch.Generator(image.device).manual_seed(operation.seed)
        return NOISE[operation.name](image, operation.parameters, generator)
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
    # Among (n + 3) / 2 of n values, neither the minimum nor the maximum is the median: drop both, add one
    # value, and repeat until one is left. On a CPU this is several times as fast as sorting each window.
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
    """Replace each block by its mean; blocks at the far edge may be smaller."""
    size = int(parameters["size"])
    means = functional.avg_pool2d(planes, size, ceil_mode=True, count_include_pad=False)
    spread = means.repeat_interleave(size, -2).repeat_interleave(size, -1)
    return spread[..., : planes.shape[-2], : planes.shape[-1]]


def sharpen(planes: Tensor, parameters: Parameters) -> Tensor:
    """Blend the image with 8 + lightness times the pixel minus its neighbours, as in imgaug."""
    kernel = -torch.ones(3, 3)
    kernel[1, 1] = 8 + parameters["lightness"]
    return _blend(planes, kernel, parameters["alpha"])


def emboss(planes: Tensor, parameters: Parameters) -> Tensor:
    """Blend the image with its emboss filter, lit from one corner, as in imgaug."""
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
    "contrast": lambda planes, parameters: planes * parameters["factor"],
}


def _uniform(image: Tensor, parameters: Parameters, generator: torch.Generator) -> Tensor:
    values = torch.rand(image.shape[1:], generator=generator, device=image.device)
    return (values * 2 - 1) * parameters["amplitude"]


# The same noise in all channels, as in imgaug.
NOISE: dict[str, Callable[[Tensor, Parameters, torch.Generator], Tensor]] = {
    "add": lambda image, parameters, generator: image + _uniform(image, parameters, generator),
    "multiply": lambda image, parameters, generator: image * (1 + _uniform(image, parameters, generator)),
}


def _blend(planes: Tensor, kernel: Tensor, alpha: float) -> Tensor:
    unchanged = torch.zeros(3, 3)
    unchanged[1, 1] = 1
    return _correlate(planes, (1 - alpha) * unchanged + alpha * kernel)


def _correlate(planes: Tensor, kernel: Tensor) -> Tensor:
    """Correlate with a small (k, k) kernel; the image is mirrored at its edges."""
    radius = len(kernel) // 2
    padded = functional.pad(planes, (radius,) * 4, mode="reflect")
    return functional.conv2d(padded, queued_copy(kernel, planes.device, planes.dtype)[None, None])
