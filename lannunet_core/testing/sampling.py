"""Checks of `sampling`. Each docstring states the contract."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.calling import call_accepting
from lannunet_core.testing.bench import Source
from lannunet_core.testing.outcomes import Broken, NotClaimed
from lannunet_core.testing.randomness import isolated, untouched
from lannunet_core.testing.running import build, shown
from lannunet_core.testing.subject import Kind, Subject, bench_of
from lannunet_core.types import Floats

if TYPE_CHECKING:
    from lannunet_core.hookspecs import Sampling

DRAWS = 20


def sampling_is_complete(subject: Subject) -> None:
    """The object has `output_size` (x, y[, z]) in whole pixels, and `centre` takes existing arguments."""
    for kind, sampling, sources in _sampled(subject):
        there = _arguments(sources[0], 0)
        for name, parameter in inspect.signature(sampling.centre).parameters.items():
            needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
            by_name = parameter.kind is not parameter.POSITIONAL_ONLY
            if needed and not (by_name and name in there):
                raise Broken(f"in {kind} `centre` asks for '{name}'; it may ask for {', '.join(there)}")


def samples_show_their_image(subject: Subject) -> None:
    """A centre is D finite floats (x, y[, z]), and the sample around it shows a part of its image."""
    for kind, sampling, sources in _sampled(subject):
        for source in sources:
            if source.complete:
                _check_shown(kind, sampling, source)


def sampling_draws_from_rng_only(subject: Subject) -> None:
    """A centre is a function of its arguments: its random numbers come from `rng` alone."""
    for kind, sampling, (source, *_) in _sampled(subject):
        drawn = []
        for seed in (1, 2):  # seeds of the global generators
            with isolated(seed), untouched("sampling"):
                drawn.append([_centre(sampling, source, draw) for draw in range(DRAWS)])
        if not np.array_equal(drawn[0], drawn[1]):
            raise Broken(f"in {kind} the same rng gave {shown(drawn[0][0])} and {shown(drawn[1][0])}")


def sampling_pickles(subject: Subject) -> None:
    """The object pickles for the loader's workers, and samples in the same way there."""
    for kind, sampling, (source, *_) in _sampled(subject):
        try:
            travelled = pickle.loads(pickle.dumps(sampling))
        except Exception as error:
            raise Broken(f"{type(sampling).__name__} does not pickle: {error}") from None
        here, there = (
            np.array([_centre(s, source, draw) for draw in range(DRAWS)]) for s in (sampling, travelled)
        )
        if not np.array_equal(here, there):
            raise Broken(
                f"in {kind} the centres are {shown(here[0])} here and {shown(there[0])} after pickling"
            )


def sampling_does_without_labels(subject: Subject) -> None:
    """Images that lack some or all of their labels are sampled too, and arguments are not changed."""
    for kind, sampling, sources in _sampled(subject):
        for source in sources:
            if not source.complete:
                _check_incomplete(kind, sampling, source)
        for source in sources:
            arrays = {name: v for name, v in source.offered.items() if isinstance(v, np.ndarray)}
            before = {name: array.copy() for name, array in arrays.items()}
            for draw in range(DRAWS):
                _centre(sampling, source, draw)
            for name, array in arrays.items():
                if not np.array_equal(before[name], array, equal_nan=True):
                    raise Broken(f"in {kind} `centre` changes '{name}', which it is given")


def _check_incomplete(kind: Kind, sampling: Sampling, source: Source) -> None:
    try:
        _check_shown(kind, sampling, source)
    except Broken as broken:
        raise Broken(f"of {source.what}: {broken}") from None
    except Exception as error:
        raise Broken(f"in {kind} of {source.what} it raises {type(error).__name__}: {error}") from error


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
    """A rotation by 30 degrees between x and y, and a slightly smaller scale."""
    linear = np.eye(kind.dimensions)
    linear[:2, :2] = 1.1 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    return SpatialTransform(linear, np.zeros(kind.dimensions))


def _sampled(subject: Subject) -> Iterator[tuple[Kind, Sampling, list[Source]]]:
    """For each kind of run the sampling, and the images to sample: the first one is complete."""
    tried = False
    for kind in subject.kinds():
        sampling = build(subject, kind).hooks.sampling()
        _check_size(kind, sampling)
        with bench_of(kind.task).sources(kind.dimensions, sampling) as sources:
            if sources:
                tried = True
                yield kind, sampling, list(sources)
    if not tried:
        raise NotClaimed("no task that it supports provides images to sample")


def _check_size(kind: Kind, sampling: Sampling) -> None:
    size: object = sampling.output_size
    if not (
        isinstance(size, tuple)
        and len(size) == kind.dimensions
        and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise Broken(
            f"in {kind} output_size is {size!r}, should be {kind.dimensions} whole numbers (x, y[, z])"
        )


def _arguments(source: Source, draw: int, transform: SpatialTransform | None = None) -> Mapping[str, Any]:
    dimensions = len(source.size)
    return {
        "rng": np.random.default_rng(draw),
        "image_size": source.size,
        "transform": transform or SpatialTransform.identity(dimensions),
        "affine": np.eye(dimensions + 1),
        "epoch": 0,
        **source.offered,
    }


def _centre(sampling: Sampling, source: Source, draw: int, transform: SpatialTransform | None = None) -> Any:
    return call_accepting(sampling.centre, **_arguments(source, draw, transform))
