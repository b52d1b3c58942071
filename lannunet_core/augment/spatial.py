"""The spatial part of an augmentation, exact for points and identical for the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lannunet_core.augment.elastic import Elastic
from lannunet_core.types import Floats


@dataclass(frozen=True, eq=False)
class SpatialTransform:
    """The source position of an output pixel q:

        source = centre + offset + linear · (q' + u(q')),    q' = q − (output_size − 1) / 2

    `centre` is the centre of the sample in its image. Points are (x, y[, z]), pixel centres at integers.

    Attributes:
        linear: (D, D).
        offset: (D,) in source pixels.
        elastic: The displacement u in output pixels, or None.
    """

    linear: Floats
    offset: Floats
    elastic: Elastic | None = None

    @staticmethod
    def identity(dimensions: int) -> SpatialTransform:
        return SpatialTransform(np.eye(dimensions), np.zeros(dimensions))

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.linear) < 0)

    @property
    def is_identity(self) -> bool:
        still = np.array_equal(self.linear, np.eye(len(self.offset))) and not self.offset.any()
        return still and self.elastic is None

    def to_source(self, points: Floats, centre: Floats, output_size: Sequence[int]) -> Floats:
        """The source positions of the output pixels `points` (…, D); NaN stays NaN."""
        relative = points - (np.asarray(output_size) - 1) / 2
        return centre + self.offset + (relative + self._displacement(relative)) @ self.linear.T

    def to_output(self, points: Floats, centre: Floats, output_size: Sequence[int]) -> Floats:
        """The output positions of the source pixels `points` (…, D); NaN stays NaN."""
        moved = (points - centre - self.offset) @ np.linalg.inv(self.linear).T
        relative = moved
        # u is a contraction, so iterating q' = moved − u(q') converges from anywhere: 32 steps divide the
        # error by 10^12, and the remaining error is smaller than the last step.
        for _ in range(32):
            following = moved - self._displacement(relative)
            step = np.max(np.abs(np.nan_to_num(following - relative)), initial=0.0)
            relative = following
            if step < 1e-6:
                break
        return relative + (np.asarray(output_size) - 1) / 2

    def source_box(self, centre: Floats, output_size: Sequence[int]) -> tuple[Floats, Floats]:
        """The lowest and the highest source position (D,) of any output pixel."""
        half = (np.asarray(output_size) - 1) / 2
        if self.elastic is not None:
            half = half + np.abs(self.elastic.control).max()  # a B-spline stays within its coefficients
        reach = np.abs(self.linear) @ half
        return centre + self.offset - reach, centre + self.offset + reach

    def _displacement(self, relative: Floats) -> Floats:
        if self.elastic is None:
            return np.zeros_like(relative)
        return self.elastic.at(relative.reshape(-1, relative.shape[-1])).reshape(relative.shape)
