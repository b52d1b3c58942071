"""Prepared images, and training and evaluation samples with their order.

A training sample is a function of (seed, epoch, draw) and the image's index; the worker does not matter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lannunet_images import (
    IMAGE_FILES,
    ExtraFields,
    ImageFiles,
    ResizeMode,
    affine_matrix,
    augmented,
    available_memory,
    is_inside,
    prepare_image,
    shown_box,
    transform_points,
)
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lannunet_core import (
    Augmenter,
    Floats,
    Image,
    Normalisation,
    Sampling,
    Scheme,
    State,
    UserError,
    call_accepting,
    on_this_machine,
    to_device,
)
from lannunet_landmarks.data.annotations import check_inside
from lannunet_landmarks.data.packing import Packed, pack
from lannunet_landmarks.data.proportions import pixel_in
from lannunet_landmarks.types import Sample

READING_THREADS = 4
IN_FLIGHT = 1 << 30  # bytes of images that are read at the same time; a larger image is read alone
LARGEST = float(np.finfo(np.float32).max)  # pixels are converted to float32
BYTES_A_NUMBER = 4  # approximate memory of a reader per number of an image


class Prepared(NamedTuple):
    """An image as the network's input.

    Attributes:
        image: (C, *S) float32, normalised.
        affine: (D + 1, D + 1) from input pixels to original pixels.
        original_size: Size of the original image, (x, y[, z]).
        spacing: mm per original pixel (x, y[, z]), from the annotations, else from the file; None: unknown.
    """

    image: Tensor
    affine: Floats
    original_size: tuple[int, ...]
    spacing: tuple[float, ...] | None


class _Kept(NamedTuple):
    """Offset and shape of a stored image's pixels, their packing parameters, and the other fields of
    `Prepared`."""

    first: int
    shape: tuple[int, ...]
    low: Tensor | None
    step: Tensor | None
    record: tuple[Any, ...]


class PreparedImages:
    """The prepared images of a split, stored in memory within the budget, otherwise read again.

    Args:
        samples: The split's samples.
        dimensions: D.
        channels: C, the number of channels that every image must have.
        input_size: Size (x, y[, z]) that images are resized to; None: each keeps its own size.
        resize: `letterbox` or `stretch`.
        cache_data: Whether `preload` stores images.
        dtype: Precision of all images, stored or read again, so that results do not depend on the memory.
        budget_bytes: Memory for the images; None: half of what is available at `preload`, shared by the
            processes of a run on a machine.
        reference: Image that `channels` was read from, for messages; None: the first of `samples`.
        files: Reader of the images.
        normalisations: Normalisations by name, as for `prepare_image`.
        pixel_shape: Shape of an input pixel in mm, see `input_pixel_shape`; a letterbox keeps its
            proportions. None: proportions are kept in pixels.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        dimensions: int,
        channels: int,
        input_size: tuple[int, ...] | None,
        resize: ResizeMode,
        cache_data: bool = True,
        dtype: torch.dtype = torch.float32,
        budget_bytes: int | None = None,
        reference: Path | None = None,
        files: ImageFiles = IMAGE_FILES,
        normalisations: Sequence[Normalisation | None] = (),
        pixel_shape: Sequence[float] | None = None,
    ) -> None:
        self.pixel_shape = pixel_shape
        self.files, self.normalisations = files, tuple(normalisations)
        self.samples = tuple(samples)
        self.dimensions = dimensions
        self.channels = channels
        self.input_size = input_size
        self.resize = resize
        self.reference = reference or (self.samples[0].image if self.samples else None)
        self.cache_data, self.dtype = cache_data, dtype
        self.budget_bytes = budget_bytes
        # The pixels of all stored images are in one tensor, one image after the other: forked workers share
        # its memory pages, spawned workers one handle.
        self._pixels = torch.empty(0)
        self._kept: list[_Kept] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Prepared:
        if index < len(self._kept):
            kept = self._kept[index]
            pixels = self._pixels[kept.first : kept.first + math.prod(kept.shape)]
            return Prepared(Packed(pixels.view(kept.shape), kept.low, kept.step).image(), *kept.record)
        packed, affine, size, spacing = self._read(index)
        return Prepared(packed.image(), affine, size, spacing)

    def preload(self, progress: Callable[[int], object] = lambda count: None) -> int:
        """Read all images and store those that fit into the budget.

        Args:
            progress: Called with the number of images that were read since the last call.

        Returns:
            Number of stored images.

        Raises:
            UserError: An image is damaged, its channels differ, or a coordinate lies outside of it.
        """
        budget = 0
        if self.cache_data:
            fair = available_memory() // (2 * on_this_machine())
            budget = fair if self.budget_bytes is None else self.budget_bytes
        # Memory that a thread has freed may stay with that thread.
        first = self._bytes(self.samples[0]) if self.samples else 0
        threads = min(max(IN_FLIGHT // max(first, 1), 1), READING_THREADS)
        with ThreadPoolExecutor(threads) as pool:
            sizes = [self.input_size] * len(self.samples)
            if self.input_size is None:
                sizes = list(pool.map(self._size_in_header, self.samples))
            shapes = [(self.channels, *size[::-1]) for size in sizes if size]
            ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=np.int64)
            fitting = int(np.searchsorted(self.dtype.itemsize * ends, budget, side="right"))
            pixels = torch.empty(int(ends[fitting - 1]) if fitting else 0, dtype=self.dtype)

            in_flight = _InFlight(IN_FLIGHT)

            def load(index: int) -> _Kept | None:
                with in_flight.holding(self._bytes(self.samples[index])):
                    if index >= fitting:
                        self._stored(self.samples[index])
                        return None
                    packed, *record = self._read(index)
                first, last = int(ends[index]) - packed.values.numel(), int(ends[index])
                pixels[first:last] = packed.values.flatten()
                return _Kept(first, shapes[index], packed.low, packed.step, tuple(record))

            kept = []
            for one in pool.map(load, range(len(self.samples))):
                if one is not None:
                    kept.append(one)
                progress(1)
        self._pixels, self._kept = pixels, kept
        return len(kept)

    def _size_in_header(self, sample: Sample) -> tuple[int, ...]:
        header = self.files.header(sample.image, self.dimensions)
        self._check(sample, header.size, header.channels)
        return header.size

    def _bytes(self, sample: Sample) -> int:
        """Approximate memory for reading an image; 0: unknown before a plugin's reader has read it."""
        if self.files.reader(sample.image) is not None:
            return 0
        header = self.files.header(sample.image, self.dimensions)
        return math.prod(header.size) * header.channels * BYTES_A_NUMBER

    def _read(self, index: int) -> tuple[Packed, Floats, tuple[int, ...], tuple[float, ...] | None]:
        """The pixels as they are stored, and the other fields of `Prepared`."""
        sample = self.samples[index]
        stored = self._stored(sample)
        spacing = sample.spacing or stored.spacing
        try:
            image, matrix = prepare_image(
                stored.pixels,
                self.input_size,
                self.resize,
                self.normalisations,
                pixel_in(spacing or sample.pixel, self.pixel_shape),
            )
            packed = pack(torch.from_numpy(image), self.dtype)
        except UserError as error:
            raise UserError(f"{sample.image}: {error}") from None
        return packed, matrix, tuple(stored.pixels.shape[:0:-1]), spacing

    def _stored(self, sample: Sample) -> Image:
        stored = self.files.read(sample.image, self.dimensions)
        self._check(sample, tuple(stored.pixels.shape[:0:-1]), stored.pixels.shape[0])
        if stored.pixels.dtype.kind == "f":
            low, high = stored.pixels.min(), stored.pixels.max()
            if not (low >= -LARGEST and high <= LARGEST):  # also true for NaN
                raise UserError(
                    f"{sample.image}: holds pixels that are NaN or infinite, or beyond {LARGEST:.2g}. "
                    "Replace them with numbers."
                )
        return stored

    def _check(self, sample: Sample, size: tuple[int, ...], channels: int) -> None:
        if channels != self.channels:
            other = "the first training image" if self.reference == sample.image else self.reference
            raise UserError(
                f"{sample.image}: has {channels} channel(s) where {other} has {self.channels}. "
                "Convert the images to the same number of channels."
            )
        check_inside(sample, size)


class _InFlight:
    """Limits the memory that threads use together."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and take them."""
        size = min(size, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class TrainingSamples(Dataset[dict[str, Any]]):
    """Training samples by (epoch, draw, index).

    With the torch package a sample holds the part of the image that is needed and the transform that was
    `drawn` for it; `on_device` then augments the batch. Landmarks and states are already those after
    augmentation, and `centre` counts the pixels of that part.

    Args:
        images: The training split's images.
        samples: Its samples.
        sampling: Chooses where a sample is cut.
        scheme: The augmentation.
        seed: The run's seed.
        augmenter: Augments in the loader's workers; None: `on_device` augments.
        flip_pairs: Pairs of landmarks that a mirror swaps.
        extra: The additional fields of samples that reach batches; None: those of `samples`.
        debug: Also store the input of each sample, as `before`.
    """

    def __init__(
        self,
        images: PreparedImages,
        samples: Sequence[Sample],
        sampling: Sampling,
        scheme: Scheme,
        seed: int,
        augmenter: Augmenter | None = None,
        flip_pairs: Sequence[tuple[int, int]] = (),
        extra: ExtraFields | None = None,
        debug: bool = False,
    ) -> None:
        self.images = images
        self.samples = self.entries = tuple(samples)
        self.extra = extra or ExtraFields.of(sample.extra for sample in samples)
        self.debug = debug
        self.sampling = sampling
        self.scheme = scheme
        self.seed = seed
        self.augmenter = augmenter
        self.fills: Mapping[str, float] = {}
        self.swapped = np.arange(len(samples[0].states))
        for left, right in flip_pairs:
            self.swapped[[left, right]] = right, left

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]:
        epoch, draw, index = place
        sample, prepared = self.samples[index], self.images[index]
        size, image_size = self.sampling.output_size, _size(prepared.image)
        landmarks = _in_input(sample.coordinates, prepared)
        rng = np.random.default_rng([self.seed, epoch, draw])
        drawn = call_accepting(self.scheme.draw, rng=rng, size=size, sample=sample, epoch=epoch)
        centre = call_accepting(
            self.sampling.centre,
            rng=rng,
            image_size=image_size,
            landmarks=landmarks,
            states=sample.states,
            transform=drawn.spatial,
            sample=sample,
            affine=prepared.affine,
            epoch=epoch,
        )

        before = {"landmarks": torch.from_numpy(landmarks).float(), "states": torch.from_numpy(sample.states)}
        landmarks = drawn.spatial.to_output(landmarks, centre, size)
        left = (sample.states == State.VISIBLE) & ~is_inside(landmarks, size)
        states = np.where(left, State.OUTSIDE, sample.states)
        if drawn.spatial.mirrored:
            landmarks, states = landmarks[self.swapped], states[self.swapped]
        middle = (np.asarray(size) - 1) / 2
        linear = drawn.spatial.linear
        moved = affine_matrix(
            linear, centre + drawn.spatial.offset - linear @ middle
        )  # except for the elastic deformation
        batch_item = _item(sample, prepared, index, landmarks, states, self.extra)
        if self.debug:
            where = torch.from_numpy(centre).float()
            batch_item["before"] = {**before, "image": prepared.image, "transform": drawn, "centre": where}
        batch_item["affine"] = torch.from_numpy(prepared.affine @ moved)
        batch_item["corner"] = torch.from_numpy(centre - middle).float()
        source = prepared.image
        if tuple(size) != image_size:
            box = shown_box(drawn.spatial, centre, size, image_size, sample.id)
            source = source[box]
            centre = centre - [side.start for side in reversed(box[1:])]
        if self.augmenter is not None:
            batch_item["image"] = torch.from_numpy(self.augmenter(source.numpy(), drawn, centre, size))
        else:
            batch_item |= {"image": source, "drawn": drawn, "centre": torch.from_numpy(centre).float()}
        return batch_item

    def on_device(self, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        read_on_host = {key: batch[key] for key in ("drawn", "centre") if key in batch}
        return augmented({**to_device(batch, device), **read_on_host}, self.sampling.output_size)


class EvaluationSamples(Dataset[dict[str, Any]]):
    """Each sample of a split once, including those without annotation; `target` has the original coordinates.

    Args:
        images: The split's images.
        samples: Its samples.
        centres: Expected positions of each sample's landmarks (N, D), by its id, in original pixels; the
            sample's `centres` are in pixels of the image.
        extra: The additional fields of samples that reach batches; None: those of `samples`.
    """

    def __init__(
        self,
        images: PreparedImages,
        samples: Sequence[Sample],
        centres: Mapping[str, Floats] | None = None,
        extra: ExtraFields | None = None,
    ) -> None:
        self.images = images
        self.samples = tuple(samples)
        self.extra = extra or ExtraFields.of(sample.extra for sample in samples)
        self.centres = centres

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample, prepared = self.samples[index], self.images[index]
        landmarks = _in_input(sample.coordinates, prepared)
        item = _item(sample, prepared, index, landmarks, sample.states, self.extra)
        item["target"] = torch.from_numpy(sample.coordinates)
        if self.centres is not None:
            item["centres"] = torch.from_numpy(_in_input(self.centres[sample.id], prepared))
        return item


def _in_input(points: Floats, prepared: Prepared) -> Floats:
    return transform_points(np.linalg.inv(prepared.affine).astype(np.float64), points)


def _size(image: Tensor) -> tuple[int, ...]:
    """(x, y[, z]) of an image (C, *S)."""
    return tuple(reversed(image.shape[1:]))


def _item(
    sample: Sample,
    prepared: Prepared,
    index: int,
    landmarks: Floats,
    states: NDArray[np.int64],
    extra: ExtraFields,
) -> dict[str, Any]:
    dimensions = len(prepared.original_size)
    return {
        "image": prepared.image,
        "landmarks": torch.from_numpy(landmarks).float(),
        "states": torch.from_numpy(states),
        "affine": torch.from_numpy(prepared.affine),
        "original_size": torch.tensor(prepared.original_size),
        "corner": torch.zeros(dimensions),
        "spacing": torch.tensor(prepared.spacing or [math.nan] * dimensions, dtype=torch.float64),
        "id": sample.id,
        "index": torch.tensor(index),
        "extra": extra.item(sample.extra),
    }
