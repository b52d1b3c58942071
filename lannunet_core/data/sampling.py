"""Where training samples are cut from their image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.types import Floats


@dataclass(frozen=True)
class FullImage:
    """Every training sample is the whole image; implements `hookspecs.Sampling`.

    Attributes:
        output_size: (x, y[, z]) of a sample, the input size.
    """

    output_size: tuple[int, ...]

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        landmarks: Floats,
        states: NDArray[np.int64],
        transform: SpatialTransform,
    ) -> Floats:
        return (np.asarray(image_size, np.float64) - 1) / 2
