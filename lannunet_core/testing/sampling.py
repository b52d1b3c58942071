"""Checks of `sampling`. Each docstring is the contract."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.testing.running import build, isolated, shown, untouched
from lannunet_core.testing.subject import Broken, Subject
from lannunet_core.types import Floats, Sample, State

if TYPE_CHECKING:
    from lannunet_core.hookspecs import Sampling

DRAWS = 20


def sampling_is_complete(subject: Subject) -> None:
    """The answer has `output_size` (x, y[, z]) in whole pixels, and `centre` with the hook's arguments."""
    from lannunet_core.hookspecs import Sampling

    for dimensions, sampling in _samplings(subject):
        size = sampling.output_size
        if not (
            isinstance(size, tuple)
            and len(size) == dimensions
            and all(isinstance(s, int) and s > 0 for s in size)
        ):
            raise Broken(
                f"in {dimensions}D output_size is {size!r}, should be {dimensions} whole numbers (x, y[, z])"
            )
        wanted = list(inspect.signature(Sampling.centre).parameters)[1:]
        taken = inspect.signature(sampling.centre).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
        if not takes_all and set(wanted) - set(taken):
            raise Broken(f"`centre` takes ({', '.join(taken)}), should take ({', '.join(wanted)})")


def centres_lie_in_the_image(subject: Subject) -> None:
    """A centre is D finite floats (x, y[, z]) in pixels of the image, and without augmentation lies in it."""
    for dimensions, sampling in _samplings(subject):
        for image in _images(dimensions, sampling.output_size):
            for draw in range(DRAWS):
                centre = np.asarray(_centre(sampling, image, draw))
                if centre.shape != (dimensions,) or centre.dtype.kind != "f" or not np.isfinite(centre).all():
                    raise Broken(
                        f"in {dimensions}D a centre is {centre!r}, should be {dimensions} finite floats"
                    )
                if not ((centre >= -0.5) & (centre <= np.array(image) - 0.5)).all():
                    hint = "; is it (y, x)?" if (centre[::-1] <= np.array(image) - 0.5).all() else ""
                    raise Broken(
                        f"of an image of {image} pixels (x, y[, z]) a centre is {shown(centre)}{hint}"
                    )


def sampling_draws_from_rng_only(subject: Subject) -> None:
    """A centre is a function of its arguments: random numbers are those of `rng` alone."""
    for dimensions, sampling in _samplings(subject):
        image = _images(dimensions, sampling.output_size)[0]
        drawn = []
        for seed in (1, 2):  # of the global generators
            with isolated(seed), untouched("sampling"):
                drawn.append([_centre(sampling, image, draw) for draw in range(DRAWS)])
        if not np.array_equal(drawn[0], drawn[1]):
            raise Broken(f"in {dimensions}D the same rng gave {shown(drawn[0][0])} and {shown(drawn[1][0])}")


def sampling_pickles(subject: Subject) -> None:
    """What travels to the loader's workers pickles, and samples there as it does here."""
    for dimensions, sampling in _samplings(subject):
        try:
            travelled = pickle.loads(pickle.dumps(sampling))
        except Exception as error:
            raise Broken(f"{type(sampling).__name__} does not pickle: {error}") from None
        image = _images(dimensions, sampling.output_size)[0]
        here, there = (
            np.array([_centre(s, image, draw) for draw in range(DRAWS)]) for s in (sampling, travelled)
        )
        if not np.array_equal(here, there):
            raise Broken(
                f"in {dimensions}D the centres are {shown(here[0])} here and {shown(there[0])} after pickling"
            )


def sampling_does_without_landmarks(subject: Subject) -> None:
    """An image without any visible landmark is sampled too, and what is given stays as it was."""
    for dimensions, sampling in _samplings(subject):
        image = _images(dimensions, sampling.output_size)[0]
        for state in (State.UNLABELLED, State.ABSENT, State.VISIBLE):
            states = np.full(2, int(state))
            landmarks = _landmarks(image)
            landmarks[states != State.VISIBLE] = np.nan
            before = landmarks.copy(), states.copy()
            for draw in range(DRAWS):
                centre = np.asarray(_centre(sampling, image, draw, landmarks, states))
                if not np.isfinite(centre).all():
                    raise Broken(f"with all landmarks {state.name.lower()} a centre is {shown(centre)}")
            if not (
                np.array_equal(before[0], landmarks, equal_nan=True) and np.array_equal(before[1], states)
            ):
                raise Broken(f"in {dimensions}D `centre` changes the landmarks or states that it is given")


def _samplings(subject: Subject) -> Iterator[tuple[int, Sampling]]:
    for dimensions in subject.dimensions():
        yield dimensions, build(subject, dimensions).hooks.sampling()


def _images(dimensions: int, output_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Long ones and small ones, each axis of another length."""
    factors = np.array([[7, 2, 3], [1, 3, 2]])[:, :dimensions]
    sizes = np.array(output_size) * factors + np.arange(dimensions)
    return [tuple(size) for size in sizes.tolist()]


def _landmarks(image: tuple[int, ...]) -> Floats:
    points: Floats = np.array(image) * np.array([[0.3], [0.6]]) + 0.25
    return points


def _centre(
    sampling: Sampling,
    image: tuple[int, ...],
    draw: int,
    landmarks: Floats | None = None,
    states: NDArray[np.int64] | None = None,
) -> Any:
    dimensions = len(image)
    landmarks = _landmarks(image) if landmarks is None else landmarks
    states = np.zeros(2, np.int64) if states is None else states
    return sampling.centre(
        rng=np.random.default_rng(draw),
        image_size=image,
        landmarks=landmarks,
        states=states,
        transform=SpatialTransform.identity(dimensions),
        sample=Sample("sample", Path("sample.png"), landmarks, states),
        affine=np.eye(dimensions + 1),
    )
