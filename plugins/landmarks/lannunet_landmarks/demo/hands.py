"""The data set of `lannunet demo`: images that resemble radiographs of hands, and two baseline methods.

Hands vary in pose, proportions, contrast and noise. Finger tips and joints look alike, and loose
fingers are added: a landmark is identified by its place in the whole hand, not by its surroundings alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats, atomic_path, write_text
from lannunet_landmarks.types import Prediction

if TYPE_CHECKING:
    from lannunet_landmarks.data.annotations import LandmarkDataset, Split

SPLITS = {"training": 60, "validation": 10, "testing": 30}
LANDMARKS = (
    "thumb tip",
    "index tip",
    "middle tip",
    "ring tip",
    "little tip",
    "index knuckle",
    "little knuckle",
    "radius end",
)
SIDES = (224, 289)  # width and height are drawn from this range, in pixels
MARGIN = 8.0  # pixels that every landmark keeps from the border
TEMPLATE_SIDE = 31  # pixels

# Lengths in units of a hand from wrist to middle tip, y towards the fingers; thumb to little finger.
KNUCKLE_ANGLES = np.radians([-50.0, -16.0, -3.0, 9.0, 22.0])  # of the metacarpals, from the y axis
METACARPAL_BASES = np.array([[-0.10, 0.07], [-0.07, 0.13], [-0.015, 0.14], [0.035, 0.13], [0.08, 0.11]])
BONE_LENGTHS = (
    (0.19, 0.12, 0.08),
    (0.28, 0.15, 0.08, 0.045),
    (0.27, 0.17, 0.10, 0.05),
    (0.23, 0.14, 0.08, 0.045),
    (0.22, 0.115, 0.06, 0.04),
)
BONE_RADII = (0.027, 0.023, 0.020, 0.017)  # from the metacarpal outwards
JOINT_GAP = 0.012
CARPALS = np.array([[-0.07, 0.05], [-0.015, 0.06], [0.035, 0.06], [-0.05, 0.1], [0.0, 0.1], [0.06, 0.09]])


@dataclass(frozen=True)
class Bone:
    """A rod with round, slightly thicker ends, from `start` to `end` (2,)."""

    start: Floats
    end: Floats
    radius: float


def write_demo_dataset(folder: Path, seed: int = 0, sizes: Mapping[str, int] = SPLITS) -> Path:
    """Draw the images and write them with their JSON.

    Args:
        folder: Gets `images/` and `dataset.json`; created if need be.
        seed: The same seed gives the same files.
        sizes: Number of images in each split.

    Returns:
        The path of the JSON. Its samples have a spacing in mm, and width and height as extra keys.
    """
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, object] = {
        "name": "demo hands",
        "description": "Generated images that resemble radiographs of hands.",
        "fold": 0,
        "landmark_names": list(LANDMARKS),
    }
    number = 0
    for split, size in sizes.items():
        samples = []
        for _ in range(size):
            picture, landmarks, described = draw_hand(np.random.default_rng((seed, number)))
            name = f"hand{number:03d}"
            with atomic_path(folder / "images" / f"{name}.png") as temporary:
                Image.fromarray(picture).save(temporary)
            samples.append(
                {
                    "id": name,
                    "image": f"images/{name}.png",
                    "coordinates": [[round(float(x), 3) for x in point] for point in landmarks],
                    **described,
                }
            )
            number += 1
        content[split] = samples
    target = folder / "dataset.json"
    write_text(target, json.dumps(content, indent=1))
    return target


def draw_hand(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Floats, dict[str, object]]:
    """One image (H, W), its landmarks (N, 2) in pixels, and additional keys of its sample in the JSON."""
    width, height = (int(side) for side in rng.integers(*SIDES, size=2))
    bones, landmarks = _skeleton(rng)
    while True:  # until the whole hand is in the image
        angle = rng.uniform(-np.pi, np.pi) * 25 / 180
        scale = rng.uniform(0.62, 0.88) * min(width, height)
        centre = np.array([width, height]) * rng.uniform(0.3, 0.7, size=2)
        cosine, sine = np.cos(angle), np.sin(angle)
        pose = scale * np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1.0, -1.0])
        shift = centre - pose @ landmarks.mean(axis=0)
        places = landmarks @ pose.T + shift
        if np.all(places >= MARGIN) and np.all(places <= np.array([width, height]) - 1 - MARGIN):
            break
    bones = [Bone(pose @ bone.start + shift, pose @ bone.end + shift, bone.radius * scale) for bone in bones]
    bones += _loose_fingers(rng, scale, (width, height), bones)

    picture = _expose(rng, bones, (width, height))
    spacing = round(rng.normal(185, 12) / scale, 4)
    return picture, places, {"spacing": [spacing, spacing], "width": width, "height": height}


def baselines(dataset: LandmarkDataset, split: Split = "testing") -> dict[str, list[Prediction]]:
    """Predictions of two methods without learning, on the same images.

    "mean position" places a landmark at its mean position in the training images, relative to their size.
    "template matching" places it where the image correlates best (Lewis 1995, normalised cross-correlation)
    with the average of the training images around the landmark.
    """
    from lannunet_landmarks.evaluation.mean_position import mean_position

    training = {sample.id: _grey(sample.image, dataset.dimensions) for sample in dataset.samples["training"]}
    mean_share = mean_position(dataset.samples["training"], dataset.files)
    patches = [
        [_patch(training[sample.id], point) for point in sample.coordinates]
        for sample in dataset.samples["training"]
    ]
    templates = np.mean(patches, axis=0)  # (N, side, side)

    by_mean, by_template = [], []
    for sample in dataset.samples[split]:
        picture = _grey(sample.image, dataset.dimensions)
        guess = Prediction(
            id=sample.id,
            image=sample.image,
            coordinates=mean_share * np.array(picture.shape[::-1]) - 0.5,
            confidence=np.full(len(mean_share), np.nan),
            target=sample.coordinates,
            states=sample.states,
            spacing=sample.spacing,
            extra=sample.extra,
        )
        by_mean.append(guess)
        by_template.append(replace(guess, coordinates=_match(picture, templates)))
    return {"mean position": by_mean, "template matching": by_template}


def percent_of_side(predictions: Sequence[Prediction]) -> float:
    """The mean radial error as a percentage of each image's shorter side."""
    from lannunet_landmarks.evaluation.summary import radial_errors

    shares = [
        radial_errors(prediction)[0] / min(prediction.extra["width"], prediction.extra["height"])
        for prediction in predictions
    ]
    return float(100 * np.nanmean(shares))


# --- drawing -----------------------------------------------------------------------------------------------


def _skeleton(rng: np.random.Generator) -> tuple[list[Bone], Floats]:
    """A right hand, upright: its bones and its landmarks (N, 2)."""
    bones, tips, knuckles = [], [], []
    spread = rng.normal(1.0, 0.13)
    slender = rng.normal(1.0, 0.07)
    for base, straight, lengths in zip(METACARPAL_BASES, KNUCKLE_ANGLES, BONE_LENGTHS, strict=True):
        angle = straight * spread + rng.normal(0, np.radians(1.5))
        stretch = rng.normal(1.0, 0.035)
        bend = rng.normal(0, np.radians(2.5))
        start = base + rng.normal(0, 0.006, size=2)
        radii = BONE_RADII[-len(lengths) :]
        for joint, (length, radius) in enumerate(zip(lengths, radii, strict=True)):
            towards = np.array([np.sin(angle), np.cos(angle)])
            end = start + towards * length * stretch * rng.normal(1, 0.03)
            bones.append(Bone(start, end, radius * slender))
            if joint == 0:
                knuckles.append(end)
            start = end + towards * (2 * radius * slender + JOINT_GAP)
            angle += bend + rng.normal(0, np.radians(2))
        tips.append(end)
    carpals = CARPALS + rng.normal(0, 0.006, size=CARPALS.shape)
    bones += [Bone(place - 0.006, place + 0.006, 0.024) for place in carpals]
    radius_end = np.array([-0.045, 0.0]) + rng.normal(0, 0.008, size=2)
    ulna_end = np.array([0.05, -0.01]) + rng.normal(0, 0.008, size=2)
    bones.append(Bone(radius_end, radius_end - np.array([0.0, 0.6]), 0.036))
    bones.append(Bone(ulna_end, ulna_end - np.array([0.01, 0.6]), 0.030))
    return bones, np.array([*tips, knuckles[1], knuckles[4], radius_end])


def _loose_fingers(
    rng: np.random.Generator, scale: float, size: tuple[int, int], hand: Sequence[Bone]
) -> list[Bone]:
    """Chains of three bones beside the hand, as of other fingers."""
    share = np.linspace(0, 1, 10)[:, None]
    taken = np.concatenate([bone.start + share * (bone.end - bone.start) for bone in hand])
    bones: list[Bone] = []
    for _ in range(rng.integers(3, 6)):
        for _attempt in range(30):
            start = rng.uniform(-0.05, 1.05, size=2) * size
            angle = rng.uniform(-1.2, 1.2)
            towards = np.array([-np.sin(angle), np.cos(angle)])  # from the tip to the root
            finger = []
            for length, radius in zip((0.05, 0.10, 0.17), BONE_RADII[:0:-1], strict=True):
                end = start + towards * length * scale * rng.uniform(0.8, 1.2)
                finger.append(Bone(start, end, radius * scale))
                start = end + towards * (2 * radius + JOINT_GAP) * scale
            along = finger[0].start + share * (end - finger[0].start)
            if np.linalg.norm(along[:, None] - taken, axis=-1).min() > 0.12 * scale:
                bones += finger
                taken = np.concatenate([taken, along])
                break
    return bones


def _expose(rng: np.random.Generator, bones: Sequence[Bone], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image (H, W) of bones and soft tissue."""
    from scipy.ndimage import gaussian_filter

    width, height = size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)  # (H, W, 2)
    dense = np.zeros((height, width))
    flesh = np.zeros((height, width))
    for bone in bones:
        ends = np.array([bone.start, bone.end])
        near = np.clip(ends.min(axis=0) - 5 * bone.radius, 0, size).astype(int)
        far = np.clip(ends.max(axis=0) + 5 * bone.radius, 0, size).astype(int)
        window = (slice(near[1], far[1]), slice(near[0], far[0]))
        axis = bone.end - bone.start
        offset = grid[window] - bone.start
        along = np.clip(offset @ axis / (axis @ axis), 0, 1)
        distance = np.linalg.norm(offset - along[..., None] * axis, axis=-1)
        # The shaft is narrower than the ends; the rim is denser than the marrow.
        outside = distance - bone.radius * (0.62 + 1.5 * (along - 0.5) ** 2)
        density = _step(-outside / 0.7) * (
            0.72 + 0.28 * np.exp(np.minimum(outside / (0.35 * bone.radius), 1))
        )
        thickness = _step((2.4 * bone.radius - distance) / (0.4 * bone.radius))
        dense[window] = np.maximum(dense[window], density)
        flesh[window] = np.maximum(flesh[window], thickness)
    slope = rng.uniform(-1, 1, size=2)
    light = ((grid / size - 0.5) @ slope) * 0.12
    cloud = gaussian_filter(rng.normal(size=(height, width)), 14)
    cloud *= 0.05 / cloud.std()
    image = 0.16 + light + cloud + rng.uniform(0.14, 0.26) * flesh + rng.uniform(0.22, 0.42) * dense
    image = gaussian_filter(image, rng.uniform(0.5, 1.0))
    image = image + rng.normal(size=image.shape) * rng.uniform(0.02, 0.05)
    image = np.clip(image, 0, 1) ** rng.uniform(0.75, 1.3)
    levels: NDArray[np.uint8] = (image * 255).round().astype(np.uint8)
    return levels


def _step(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x)))


# --- baseline methods --------------------------------------------------------------------------------------


def _grey(path: Path, dimensions: int) -> Floats:
    from lannunet_core import read_image

    return np.asarray(read_image(path, dimensions).pixels[0], dtype=np.float64)


def _patch(picture: Floats, point: Floats) -> Floats:
    """The square of TEMPLATE_SIDE around `point`, standardised; edge pixels are repeated beyond the image."""
    half = TEMPLATE_SIDE // 2
    x, y = point.round().astype(int)
    square = np.pad(picture, half, mode="edge")[y : y + TEMPLATE_SIDE, x : x + TEMPLATE_SIDE]
    return np.asarray((square - square.mean()) / square.std())


def _match(picture: Floats, templates: Floats) -> Floats:
    """The position (N, 2) where each template (N, side, side) correlates best with `picture` (H, W)."""
    from scipy.ndimage import uniform_filter
    from scipy.signal import fftconvolve

    mean = uniform_filter(picture, TEMPLATE_SIDE, mode="nearest")
    square = uniform_filter(picture**2, TEMPLATE_SIDE, mode="nearest")
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
    padded = np.pad(picture, TEMPLATE_SIDE // 2, mode="edge")
    places = []
    for template in templates:
        zero_mean = template - template.mean()
        correlation = fftconvolve(padded, zero_mean[::-1, ::-1], mode="valid") / deviation
        y, x = np.unravel_index(correlation.argmax(), correlation.shape)
        places.append((x, y))
    return np.array(places, dtype=float)
