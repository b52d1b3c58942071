"""The augmentation schemes: what each draws, in which order, and with which probability.

A scheme is drawn in a loader's worker from its own random generator, so that it is a function of (seed,
epoch, sample). A draw rotates the image about its centre, scales, shears, translates, mirrors, and then
deforms it elastically; the intensity operations follow in their listed order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lannunet_core.augment.elastic import Elastic
from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.names import choose
from lannunet_core.types import Floats

if TYPE_CHECKING:
    from torch import Tensor

Range = tuple[float, float]


@dataclass(frozen=True)
class IntensityOp:
    """One drawn operation on the pixel values.

    Attributes:
        name: Name in `FILTERS` or `NOISE` of `intensity`.
        seed: Seed of its noise; the result is a function of the operation and the image alone.
    """

    name: str
    parameters: Mapping[str, float]
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """The draw of a scheme for one sample. Its pickle is small.

    Attributes:
        spatial: Source of each output pixel.
        intensity: Operations on the pixel values, in their order. A plugin's operation is any picklable
            callable that takes an image (C, *S) and returns one of the same shape, on the image's device; its
            random numbers are drawn before, by the scheme.
    """

    spatial: SpatialTransform
    intensity: tuple[IntensityOp | Callable[[Tensor], Tensor], ...] = ()


class Scheme(Protocol):
    """An augmentation. It is sent to the loader's workers, so it must pickle."""

    @property
    def draw(self) -> Callable[..., Drawn]:
        """Draw the augmentation of one sample: a method that takes, by name, what it needs of these.

        Args:
            rng: A NumPy generator that belongs to this draw.
            size: Size (x, y[, z]) of the sample.
            sample: The data set's entry; None if a scheme is inspected before a run.
            epoch: Epoch of the run, from 0.
        """


@dataclass(frozen=True)
class RandomAffine:
    """One affine map, drawn with `probability` as a whole.

    Attributes:
        probability: Probability of drawing any of it.
        rotation: Degrees in either direction; in 3D about each axis, z first, then y, then x.
        scale: Factor of all axes together.
        scale_each: Additional factor of each axis.
        translation: Share of the output's size in either direction, per axis.
        translation_pixels: Output pixels in either direction, per axis.
        shear: Degrees in either direction: x by y, and in 3D also x by z and y by z.
    """

    probability: float = 1.0
    rotation: float = 0.0
    scale: Range = (1.0, 1.0)
    scale_each: Range = (1.0, 1.0)
    translation: float = 0.0
    translation_pixels: float = 0.0
    shear: float = 0.0

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Floats, Floats]:
        """The matrix (D, D) and shift (D,) that move content about the centre of the image."""
        dimensions = len(size)
        if rng.random() >= self.probability:
            return np.eye(dimensions), np.zeros(dimensions)
        planes = list(combinations(range(dimensions), 2))  # xy, then xz, yz
        rotation, shear = np.eye(dimensions), np.eye(dimensions)
        for plane in planes:
            angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
            turn = np.eye(dimensions)
            turn[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            rotation = turn @ rotation
        scale = rng.uniform(*self.scale) * rng.uniform(*self.scale_each, dimensions)
        for plane in planes:
            shear[plane] = np.tan(np.deg2rad(rng.uniform(-self.shear, self.shear)))
        shift = rng.uniform(-1, 1, dimensions) * (self.translation * np.array(size) + self.translation_pixels)
        return shear @ np.diag(scale) @ rotation, shift


@dataclass(frozen=True)
class RandomElastic:
    """An elastic deformation with imgaug's alpha and sigma in pixels; `Elastic` limits large alphas."""

    alpha: Range
    sigma: Range
    probability: float = 1.0

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> Elastic | None:
        if rng.random() >= self.probability:
            return None
        return Elastic.draw(rng, size, rng.uniform(*self.alpha), rng.uniform(*self.sigma))


@dataclass(frozen=True)
class RandomIntensity:
    """An intensity operation. A tuple parameter is a range, a list is a set to choose from."""

    name: str
    parameters: Mapping[str, Range | list[float]]

    def draw(self, rng: np.random.Generator) -> IntensityOp:
        drawn = {
            key: float(rng.uniform(*values) if isinstance(values, tuple) else rng.choice(values))
            for key, values in self.parameters.items()
        }
        return IntensityOp(self.name, drawn, int(rng.integers(2**31)))


@dataclass(frozen=True)
class SomeOf:
    """With `probability`, from `fewest` to `most` (equally likely) different operations, in listed order."""

    operations: tuple[RandomIntensity, ...]
    fewest: int
    most: int
    probability: float = 1.0

    def draw(self, rng: np.random.Generator) -> list[IntensityOp]:
        if rng.random() >= self.probability:
            return []
        count = rng.integers(self.fewest, self.most + 1)
        chosen = np.sort(rng.choice(len(self.operations), count, replace=False))
        return [self.operations[index].draw(rng) for index in chosen]


@dataclass(frozen=True)
class RandomScheme:
    """A scheme made of the parts above; `flip` is the probability of a vertical flip, along y also in 3D."""

    affine: RandomAffine = RandomAffine(probability=0.0)
    flip: float = 0.0
    elastic: RandomElastic | None = None
    intensity: tuple[SomeOf, ...] = ()

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> Drawn:
        forward, shift = self.affine.draw(rng, size)
        if rng.random() < self.flip:
            mirror = np.ones(len(size))
            mirror[1] = -1
            forward, shift = mirror[:, None] * forward, mirror * shift
        elastic = self.elastic.draw(rng, size) if self.elastic else None
        # The image is resampled from the source position of each output pixel: the inverse of the content's
        # move.
        linear: Floats = np.linalg.inv(forward).astype(np.float64)
        intensity = tuple(operation for step in self.intensity for operation in step.draw(rng))
        return Drawn(SpatialTransform(linear, -linear @ shift, elastic), intensity)


_AFFINE_COMPLEX = RandomScheme(
    RandomAffine(0.5, rotation=45, scale_each=(0.8, 1.2), translation=0.07, shear=16), flip=0.5
)
_BLURS = (
    RandomIntensity("gaussian_blur", {"sigma": (0, 0.2)}),
    # Odd sizes only: a window of even size moves the image by half a pixel.
    RandomIntensity("mean_blur", {"size": [3, 5]}),
    RandomIntensity("median_blur", {"size": [3, 5]}),
    RandomIntensity("average_pooling", {"size": [2]}),
)
_BLUR = SomeOf(_BLURS, fewest=1, most=1, probability=0.5)
_EDGES = (
    RandomIntensity("sharpen", {"alpha": (0, 0.75), "lightness": (0, 0.5)}),
    RandomIntensity("emboss", {"alpha": (0, 0.5), "strength": (0, 1)}),
    RandomIntensity("contrast", {"factor": (0.4, 1.6)}),
)
_SHARP = SomeOf(_EDGES, fewest=0, most=3, probability=0.5)
_NOISES = tuple(RandomIntensity(name, {"amplitude": [0.25]}) for name in ("add", "multiply"))
_NOISE = SomeOf(_NOISES, fewest=2, most=2)
_ROUGH = RandomElastic(alpha=(0, 50), sigma=(2, 5))
_NOISY = RandomScheme(elastic=_ROUGH, intensity=(_NOISE,))
_ELASTIC_BLUR = replace(_AFFINE_COMPLEX, elastic=replace(_ROUGH, probability=0.5), intensity=(_BLUR,))

_UPRIGHT = RandomScheme(
    RandomAffine(rotation=15, scale=(0.85, 1.15), scale_each=(0.9, 1.1), translation=0.05),
    intensity=(
        SomeOf(
            (
                RandomIntensity("contrast", {"factor": (0.8, 1.2)}),
                RandomIntensity("add", {"amplitude": (0, 0.1)}),
            ),
            fewest=2,
            most=2,
        ),
    ),
)

_BUILT_IN: dict[str, Scheme] = {
    "Upright": _UPRIGHT,
    "UprightElastic": replace(_UPRIGHT, elastic=_ROUGH),
    "Turned": replace(_UPRIGHT, affine=replace(_UPRIGHT.affine, rotation=45)),
    "AnyRotation": replace(_UPRIGHT, affine=replace(_UPRIGHT.affine, rotation=180)),
    "AffineSimple": RandomScheme(RandomAffine(0.75, rotation=45, scale=(0.8, 1.2)), flip=0.5),
    "AffineComplex": _AFFINE_COMPLEX,
    "AffineComplexElastic": replace(_AFFINE_COMPLEX, elastic=RandomElastic((0, 200), (9, 13), 0.5)),
    "AffineComplexElasticLight": replace(_AFFINE_COMPLEX, elastic=RandomElastic((0, 50), (5, 10), 0.5)),
    "AffineComplexElasticBlur": _ELASTIC_BLUR,
    "AffineComplexElasticBlurSharp": replace(_ELASTIC_BLUR, intensity=(_BLUR, _SHARP)),
    "payer19": replace(_NOISY, affine=RandomAffine(rotation=15, scale=(0.6, 1.4), translation_pixels=20)),
    "thaler21": replace(
        _NOISY,
        affine=RandomAffine(rotation=15, scale=(0.8, 1.2), scale_each=(0.8, 1.2), translation_pixels=10),
    ),
    "CenterCropOnly": RandomScheme(),
    "None": RandomScheme(),
}

SCHEMES: dict[str, Callable[[], Scheme]] = {
    name: lambda scheme=scheme: scheme  # type: ignore[misc]
    for name, scheme in _BUILT_IN.items()
}
"""The schemes by name; values of `sampler.data_aug`, besides those of plugins."""


def make_scheme(name: str, extra: Mapping[str, Callable[[], Scheme]] | None = None) -> Scheme:
    """The scheme with this name, in any case and punctuation; `extra` ones override the built-in ones."""
    return choose("sampler.data_aug", name, {**SCHEMES, **(extra or {})})()
