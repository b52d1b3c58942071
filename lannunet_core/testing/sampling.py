"""Checks of `sampling`. Each docstring is the contract."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lannunet_landmarks.types import Sample
from lannunet_segmentation.types import IGNORE, Labels
from numpy.typing import NDArray

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.hookspecs import State
from lannunet_core.plugins.api import Task
from lannunet_core.testing.running import build, isolated, shown, untouched
from lannunet_core.testing.subject import Broken, Kind, Subject
from lannunet_core.types import Floats

if TYPE_CHECKING:
    from lannunet_core.hookspecs import Sampling

DRAWS = 20


@dataclass(frozen=True)
class Source:
    """What a sample is cut from.

    Attributes:
        what: In words.
        size: (x, y[, z]).
        sample: A `Sample` or a `PreparedCase`.
        landmarks: (N, D).
        states: (N,) of `State`.
    """

    what: str
    size: tuple[int, ...]
    sample: Any
    landmarks: Floats
    states: NDArray[np.int64]


def sampling_is_complete(subject: Subject) -> None:
    """The answer has `output_size` (x, y[, z]) in whole pixels, and `centre` with the hook's arguments."""
    from lannunet_core.hookspecs import Sampling

    for kind, sampling in _samplings(subject):
        size = sampling.output_size
        if not (
            isinstance(size, tuple)
            and len(size) == kind.dimensions
            and all(isinstance(s, int) and s > 0 for s in size)
        ):
            raise Broken(
                f"in {kind} output_size is {size!r}, should be {kind.dimensions} whole numbers (x, y[, z])"
            )
        wanted = list(inspect.signature(Sampling.centre).parameters)[1:]
        taken = inspect.signature(sampling.centre).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
        if not takes_all and set(wanted) - set(taken):
            raise Broken(f"`centre` takes ({', '.join(taken)}), should take ({', '.join(wanted)})")


def samples_show_their_image(subject: Subject) -> None:
    """A centre is D finite floats (x, y[, z]), and the sample around it shows a part of its image."""
    for kind, sampling in _samplings(subject):
        with _sources(kind, sampling) as sources:
            for source in sources if kind.task == "landmarks" else sources[:1]:
                _check_shown(kind, sampling, source)


def sampling_draws_from_rng_only(subject: Subject) -> None:
    """A centre is a function of its arguments: random numbers are those of `rng` alone."""
    for kind, sampling in _samplings(subject):
        with _sources(kind, sampling) as (source, *_):
            drawn = []
            for seed in (1, 2):  # of the global generators
                with isolated(seed), untouched("sampling"):
                    drawn.append([_centre(sampling, source, draw) for draw in range(DRAWS)])
        if not np.array_equal(drawn[0], drawn[1]):
            raise Broken(f"in {kind} the same rng gave {shown(drawn[0][0])} and {shown(drawn[1][0])}")


def sampling_pickles(subject: Subject) -> None:
    """What travels to the loader's workers pickles, and samples there as it does here."""
    for kind, sampling in _samplings(subject):
        try:
            travelled = pickle.loads(pickle.dumps(sampling))
        except Exception as error:
            raise Broken(f"{type(sampling).__name__} does not pickle: {error}") from None
        with _sources(kind, sampling) as (source, *_):
            here, there = (
                np.array([_centre(s, source, draw) for draw in range(DRAWS)]) for s in (sampling, travelled)
            )
        if not np.array_equal(here, there):
            raise Broken(
                f"in {kind} the centres are {shown(here[0])} here and {shown(there[0])} after pickling"
            )


def sampling_does_without_landmarks(subject: Subject) -> None:
    """An image without any visible landmark is sampled too, and what is given stays as it was."""
    for kind, sampling in _samplings(subject, "landmarks"):
        for state in (State.UNLABELLED, State.ABSENT, State.VISIBLE):
            source = _image(_sizes(kind, sampling)[0], state)
            before = source.landmarks.copy(), source.states.copy()
            for draw in range(DRAWS):
                centre = np.asarray(_centre(sampling, source, draw))
                if not np.isfinite(centre).all():
                    raise Broken(f"with all landmarks {state.name.lower()} a centre is {shown(centre)}")
            if not (
                np.array_equal(before[0], source.landmarks, equal_nan=True)
                and np.array_equal(before[1], source.states)
            ):
                raise Broken(f"in {kind} `centre` changes the landmarks or states that it is given")


def sampling_does_without_classes(subject: Subject) -> None:
    """A case that lacks classes, or of which one slice or one voxel is annotated, is sampled too."""
    for kind, sampling in _samplings(subject, "segmentation"):
        with _sources(kind, sampling) as sources:
            for source in sources[1:]:
                _check_case(kind, sampling, source)


def _check_case(kind: Kind, sampling: Sampling, source: Source) -> None:
    try:
        _check_shown(kind, sampling, source)
    except Broken as broken:
        raise Broken(f"of a case with {source.what}: {broken}") from None
    except Exception as error:
        raise Broken(
            f"in {kind} of a case with {source.what} it raises {type(error).__name__}: {error}"
        ) from error


def _check_shown(kind: Kind, sampling: Sampling, source: Source) -> None:
    size, image = sampling.output_size, np.array(source.size)
    pixels = np.indices(size).reshape(kind.dimensions, -1).T.astype(np.float64)  # (pixels, D) of (x, y[, z])
    for turned, transform in (("", SpatialTransform.identity(kind.dimensions)), (" turned", _turned(kind))):
        for draw in range(DRAWS):
            centre = np.asarray(_centre(sampling, source, draw, transform))
            right = centre.shape == (kind.dimensions,) and centre.dtype.kind == "f"
            if not (right and np.isfinite(centre).all()):
                raise Broken(f"in {kind} a centre is {centre!r}, should be {kind.dimensions} finite floats")

            def shows(centre: Floats, transform: SpatialTransform = transform) -> bool:
                places = transform.to_source(pixels, centre, size)
                return bool(((places >= -0.5) & (places <= image - 0.5)).all(-1).any())

            if not shows(centre):
                hint = "; is it (y, x)?" if shows(centre[::-1]) else ""
                raise Broken(
                    f"in {kind} of an image of {source.size} pixels (x, y[, z]) a{turned} sample of {size} "
                    f"around {shown(centre)} shows nothing{hint}"
                )


def _turned(kind: Kind) -> SpatialTransform:
    """By 30 degrees between x and y, and a little smaller."""
    linear = np.eye(kind.dimensions)
    linear[:2, :2] = 1.1 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    return SpatialTransform(linear, np.zeros(kind.dimensions))


def _samplings(subject: Subject, task: Task | None = None) -> Iterator[tuple[Kind, Sampling]]:
    for kind in subject.kinds(task):
        yield kind, build(subject, kind).hooks.sampling()


def _sizes(kind: Kind, sampling: Sampling) -> list[tuple[int, ...]]:
    """Long ones and small ones, each axis of another length."""
    factors = np.array([[7, 2, 3], [1, 3, 2]])[:, : kind.dimensions]
    sizes = np.array(sampling.output_size) * factors + np.arange(kind.dimensions)
    return [tuple(size) for size in sizes.tolist()]


def _image(size: tuple[int, ...], state: State = State.VISIBLE) -> Source:
    """Two landmarks on it, all in the same state."""
    landmarks: Floats = np.array(size) * np.array([[0.3], [0.6]]) + 0.25
    if state != State.VISIBLE:
        landmarks = np.full_like(landmarks, np.nan)
    states = np.full(2, int(state))
    sample = Sample("sample", Path("sample.png"), landmarks, states)
    return Source("two landmarks", size, sample, landmarks, states)


@contextmanager
def _cases(kind: Kind, sampling: Sampling) -> Iterator[list[Source]]:
    from lannunet_core.testing.cases import drawn_label, prepared_cases

    output = np.array(sampling.output_size)
    long, small = (3, 1, 2), (1, 2, 1)
    labels: dict[str, Labels] = {}
    labels["every voxel annotated"] = drawn_label(_plus(output * np.array(long)[: kind.dimensions]))
    slices = drawn_label(_plus(output * np.array(small)[: kind.dimensions]), classes=2)
    slices[np.arange(len(slices)) != len(slices) // 3] = IGNORE
    labels["one slice annotated and a class absent"] = slices
    voxel = np.full(np.maximum(output // 2, 1)[::-1], IGNORE, np.int16)  # less than a patch
    voxel[(0,) * kind.dimensions] = 0
    labels["one voxel annotated"] = voxel
    names = {what.replace(" ", "_"): what for what in labels}
    with prepared_cases({name: labels[what] for name, what in names.items()}) as cases:
        none = np.empty((0, kind.dimensions)), np.empty(0, np.int64)
        yield [Source(what, cases[name].size, cases[name], *none) for name, what in names.items()]


def _plus(size: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple((size + np.arange(len(size))).tolist())


@contextmanager
def _sources(kind: Kind, sampling: Sampling) -> Iterator[list[Source]]:
    """Images or cases of different sizes; in the first there is everything."""
    images = [_image(size) for size in _sizes(kind, sampling)]
    with nullcontext(images) if kind.task == "landmarks" else _cases(kind, sampling) as sources:
        yield sources


def _centre(sampling: Sampling, source: Source, draw: int, transform: SpatialTransform | None = None) -> Any:
    dimensions = len(source.size)
    return sampling.centre(
        rng=np.random.default_rng(draw),
        image_size=source.size,
        landmarks=source.landmarks,
        states=source.states,
        transform=transform or SpatialTransform.identity(dimensions),
        sample=source.sample,
        affine=np.eye(dimensions + 1),
    )
