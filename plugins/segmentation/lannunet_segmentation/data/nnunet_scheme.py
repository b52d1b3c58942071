"""The augmentation schemes `nnunet`, what nnU-Net draws for a training patch, and `nnunet_upright`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lannunet_core import Drawn, RandomAffine, SpatialTransform, make_scheme
from lannunet_segmentation.data.prepared import PreparedCase

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Gaussian noise with one deviation, independent in each channel, from a seed."""

    deviation: float
    seed: int

    def __call__(self, image: Tensor) -> Tensor:
        from lannunet_segmentation.data.nnunet_intensity import noise

        return noise(image, self.deviation, self.seed)


@dataclass(frozen=True)
class PerChannel:
    """A change of `nnunet_intensity` by name, with parameters for each channel; None: it is unchanged."""

    name: str
    channels: tuple[Mapping[str, Any] | None, ...]

    def __call__(self, image: Tensor) -> Tensor:
        from lannunet_segmentation.data.nnunet_intensity import change_channels

        return change_channels(image, self.name, self.channels)


@dataclass(frozen=True)
class RandomChange:
    """A change that is drawn with `probability`, and then for each channel with the probability `each`."""

    name: str
    probability: float
    draw_parameters: Callable[[np.random.Generator, int | None], Mapping[str, Any]]
    each: float = 1.0

    def draw(self, rng: np.random.Generator, channels: int, thick: int | None) -> list[PerChannel]:
        if rng.random() >= self.probability:
            return []
        changed = rng.random(channels) < self.each
        drawn = (self.draw_parameters(rng, thick) if one else None for one in changed)
        return [PerChannel(self.name, tuple(drawn))]


def _about_one(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor that is below 1 and above 1 with equal probability."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _sigmas(rng: np.random.Generator, thick: int | None) -> Mapping[str, Any]:
    return {"sigmas": tuple(rng.uniform(0.5, 1, 3).tolist())}


def _factor(rng: np.random.Generator, thick: int | None) -> Mapping[str, Any]:
    return {"factor": float(rng.uniform(0.75, 1.25))}


def _scale(rng: np.random.Generator, thick: int | None) -> Mapping[str, Any]:
    return {"scale": float(rng.uniform(0.5, 1)), "kept": thick}


def _gamma(inverted: bool, rng: np.random.Generator, thick: int | None) -> Mapping[str, Any]:
    return {"gamma": _about_one(rng, 0.7, 1.5), "inverted": inverted}


ANISOTROPIC = 3.0  # see `slice_axis`
MOVES = make_scheme("UprightElastic")
CHANGES = (
    RandomChange("blur", 0.2, _sigmas, each=0.5),
    RandomChange("brightness", 0.15, _factor),
    RandomChange("contrast", 0.15, _factor),
    RandomChange("low_resolution", 0.25, _scale, each=0.5),
    RandomChange("gamma", 0.1, partial(_gamma, True)),
    RandomChange("gamma", 0.3, partial(_gamma, False)),
)


@dataclass(frozen=True)
class NnunetScheme:
    """nnU-Net's default augmentation (Isensee et al., Nature Methods 18, 2021), as version 2 draws it.

    Exception: the noise of a channel is independent, as in version 1 and the paper. There is no elastic
    deformation. If an axis has thick slices, a volume is rotated, scaled and downsampled only within them.
    """

    ELONGATED = 1.5
    """Images with a larger ratio of sides are rotated little: otherwise most of the result would be
    outside."""

    def draw(
        self, rng: np.random.Generator, size: tuple[int, ...], sample: PreparedCase | None = None
    ) -> Drawn:
        """See `lannunet_core.Scheme`. Without a sample, there is one draw for all channels."""
        dimensions = len(size)
        thick = slice_axis(size, sample)
        moving = [axis for axis in range(dimensions) if axis != thick]
        if len(moving) == 3:
            angle = 30.0
        else:
            square = thick is not None or max(size) / min(size) <= self.ELONGATED
            angle = 180.0 if square else 15.0
        turned, _ = RandomAffine(0.2, rotation=angle).draw(rng, tuple(size[axis] for axis in moving))
        zoom = rng.uniform(0.7, 1.4) if rng.random() < 0.2 else 1.0  # values above 1 show more
        linear = np.eye(dimensions)
        linear[np.ix_(moving, moving)] = zoom * turned.T
        linear = linear * rng.choice([-1.0, 1.0], dimensions)
        return Drawn(SpatialTransform(linear, np.zeros(dimensions)), draw_changes(rng, sample, thick))


@dataclass(frozen=True)
class NnunetUprightScheme:
    """The moves of `UprightElastic`, which mirror nothing, with nnU-Net's changes of intensity.

    If an axis has thick slices, a volume is moved only within them.
    """

    def draw(
        self, rng: np.random.Generator, size: tuple[int, ...], sample: PreparedCase | None = None
    ) -> Drawn:
        """See `lannunet_core.Scheme`. Without a sample, there is one draw for all channels."""
        thick = slice_axis(size, sample)
        spatial = MOVES.draw(rng=rng, size=size).spatial
        if thick is not None:
            spatial = within_slices(spatial, thick)
        return Drawn(spatial, draw_changes(rng, sample, thick))


def within_slices(spatial: SpatialTransform, thick: int) -> SpatialTransform:
    """A transform of a volume without its part that leaves the slices across an axis (0 for x)."""
    linear, offset, elastic = spatial.linear.copy(), spatial.offset.copy(), spatial.elastic
    linear[thick], linear[:, thick], offset[thick] = 0, 0, 0
    linear[thick, thick] = 1
    if elastic is not None:
        control = elastic.control.copy()
        control[thick] = 0
        elastic = replace(elastic, control=control)
    return SpatialTransform(linear, offset, elastic)


def draw_changes(
    rng: np.random.Generator, sample: PreparedCase | None, thick: int | None
) -> tuple[Callable[[Tensor], Tensor], ...]:
    """nnU-Net's changes of intensity for one sample."""
    changes: list[Callable[[Tensor], Tensor]] = []
    if rng.random() < 0.1:
        changes.append(Noise(float(rng.uniform(0, 0.1)), int(rng.integers(2**31))))
    for change in CHANGES:
        changes += change.draw(rng, sample.channels if sample else 1, thick)
    return tuple(changes)


def slice_axis(size: tuple[int, ...], sample: PreparedCase | None) -> int | None:
    """The axis (0 for x) across thick slices, None: there are none.

    It is the axis with the largest spacing, if the patch is more than `ANISOTROPIC` times longer along
    another one. Among equal axes, it is the one with the fewest voxels, then the last.
    """
    if len(size) == 2:
        return None
    spacing = sample.spacing if sample else (1.0,) * 3
    coarsest = max(range(3), key=lambda axis: (spacing[axis], -size[axis], axis))
    return coarsest if max(size) / size[coarsest] > ANISOTROPIC else None
