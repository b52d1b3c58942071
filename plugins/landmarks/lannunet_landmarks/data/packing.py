"""Storage of prepared images in fewer bits, so that more of them fit into memory."""

from typing import NamedTuple

import torch
from torch import Tensor

from lannunet_core import UserError

HIGHEST = 255  # of uint8


class Packed(NamedTuple):
    """A stored image.

    Attributes:
        values: (C, *S) float32, float16 or uint8.
        low: (C, 1, …) float32, the value that uint8 0 represents; None: `values` is the image.
            step: (C, 1, …) float32, the difference between two uint8 levels.
    """

    values: Tensor
    low: Tensor | None = None
    step: Tensor | None = None

    def image(self) -> Tensor:
        """(C, *S) float32."""
        image = self.values.float()
        return image if self.low is None or self.step is None else image * self.step + self.low


def pack(image: Tensor, dtype: torch.dtype) -> Packed:
    """Store an image with `dtype`; uint8 divides the range of each channel into 255 equal steps.

    Args:
        image: (C, *S) float32, finite.
        dtype: float32, float16 or uint8.

    Raises:
        UserError: A value exceeds the range of float16.
    """
    if dtype == torch.uint8:
        axes = tuple(range(1, image.ndim))
        low = image.amin(axes, keepdim=True)
        step = (image.amax(axes, keepdim=True) - low) / HIGHEST
        step = torch.where(step > 0, step, 1.0)
        return Packed(((image - low) / step).round().clamp(0, HIGHEST).to(dtype), low, step)
    values = image.to(dtype)
    if dtype != torch.float32 and not values.isfinite().all():
        raise UserError(
            f"has normalised values beyond {torch.finfo(dtype).max:g}, the most that float16 holds. Set "
            "trainer.cache_dtype to float32."
        )
    return Packed(values)
