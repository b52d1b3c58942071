"""The recipe: every number that a plan for landmarks uses, with its reason.

Sizes are those of the network's input: pixels in 2D, voxels in 3D. docs/training.md describes the
measurements behind the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

# Time -------------------------------------------------------------------------------------------------------

BASE_MINUTES, BASE_IMAGES, MOST_MINUTES = 7.5, 50, 240.0
"""Minutes of training for this many images. The time grows with the square root of their number."""

BATCHES = {2: 280, 3: 600}
"""Batches of a run of one minute, by dimensions; they grow with the square root of the minutes, and the
remaining time goes into finer images (docs/recipe.md). Surfaces in 3D, 3.8 minutes: batches of two at
28×48×24 with 16 features end at 0.19 mm; batches of one at 56×96×48 with 8, this many fewer, at 0.87 mm, with
landmarks that are never found."""

SHORT_RUN, SHORT_RATE = 1000, 0.004
"""Runs of up to this many batches have twice the default learning rate: after 270 to 1000 batches all sets
that were measured have better medians with it, after 3300 the wings do not (docs/recipe.md). Between these
nothing was measured."""

FEW_BATCHES = 170
"""With fewer batches a run is far from its best, and `lannunet train` prints what a plan would choose."""

VALIDATIONS = 11
"""Validations per run: each may find the best model, and costs time."""

PATIENCE = 15
"""Validations without improvement before a run stops: only one that makes many more than planned. The
learning rate falls to the end, and the last tenth of a run makes a model precise, so an early stop would cost
more than it saves."""

# Images and networks ----------------------------------------------------------------------------------------

LEAST_BATCH = {2: 4, 3: 2}
"""A batch of one trains unsteadily: 3D at 3.8 minutes, see `BATCHES`."""

MOST_BATCH = 12
"""Beyond it, time is better spent on more batches."""

MOST_PIXELS = {2: 512**2, 3: 128**3}
"""Finer images add little to the sub-pixel position of a landmark, and cost memory."""

LEAST_PIXELS = {2: 64**2, 3: 13**3}
"""Features have priority over resolution: the least capable network on offer may have an input this small,
and a network that costs k times as much per pixel is used if its input can be k times as large. With U-Net's
8, 16 and 32 features that is 128² and 256² in 2D, 20³ and 32³ in 3D, for 16 and 32."""

LEAST_SIDE = 8
"""Smallest side of an image; the configuration allows no smaller one."""

# Two stages -------------------------------------------------------------------------------------------------

SECOND_STAGE_FROM = 2.0
"""Pixels of the image, along an axis, that a pixel of the first stage's input stands for: from here on a
second stage on patches of the original image is trained too. In 2D: it was not measured in 3D."""

LEAST_MINUTES = 2.0
"""Of a run in two stages. In less, one stage sees the images for long enough, or neither does."""

FIRST_STAGE = 0.25
"""Share of the time that the first stage has, and a minute at least: it has to come near, no more."""

PATCH, LEAST_PATCH = 24, 12
"""Side of a patch in pixels of the first stage's input: several times as far as the first stage is off in
nearly all images. A narrower one, down to the second number, is used where it makes a more capable network
affordable: on images of 1900 to 2500 pixels, the error is 0.83 to 0.91 times as large (docs/recipe.md)."""

MOST_OF_IMAGE = 0.5
"""Share of the image that a patch covers at most; one stage is as good where it would cover more."""

MOST_PATCHES = 8
"""In a batch, `LEAST_BATCH` at least; each shows one landmark, if no others are near."""

# Labels and loss --------------------------------------------------------------------------------------------

LOSS = "kl"
"""It finds landmarks first: after one minute on two cores, the error on the wings is 2.3 pixels with `kl`
(sigma 1), and 47 with `mse`, which has not begun to learn."""

SIGMA = {2: 2.0, 3: 1.0}
"""Initial width of the labels, in pixels of the network's input. In 3D inputs are small."""

LEARNED_WIDTH = "isotropic"
"""`kl` with a fixed sigma of 2 was never the best in the experiments (wings 2.8 against 2.4 pixels for 1); a
learned width (docs/learned_sigma.md) is as good as the best fixed one, and need not be chosen for the
data."""

# Augmentation -----------------------------------------------------------------------------------------------

UPRIGHT, TURNED, ANY_ROTATION = "Upright", "Turned", "AnyRotation"
"""The schemes for objects with the same orientation in all images, and for others. Every sample is moved a
little, and none mirrored: better than `thaler21`'s strong noise and elastic deformation on upright objects,
and than `AffineComplex`, which moves every second sample much and mirrors, on rotated ones
(docs/recipe.md)."""

TURNED_DEGREES = 30.0
"""Upright: 95 % of the training images are rotated by less than this against their mean. `Upright`
rotates by up to 15 degrees either way."""

ANY_DEGREES = 90.0
"""Objects that are rotated by more lie in any direction. With rotations by any angle, the error of such hands
after 3.8 minutes is 0.56 times as large, that of a mouse after one 0.85 times (docs/recipe.md). Not measured
in 3D."""

SYMMETRIC = 0.1
"""A shape is symmetric if the distance between its landmarks and their mirror images is at most this share of
their root mean square distance from the centre."""

# What a batch costs -----------------------------------------------------------------------------------------

BYTES_A_NUMBER = 10
"""Float32 numbers per activation, including those of the backward pass and of convolutions: measured."""


@dataclass(frozen=True)
class Machine:
    """The speed of a machine, approximately.

    Attributes:
        name: Name in reasons.
        products: Multiplications per second.
        numbers: Activations per second that are written and read again.
        pixels: Pixels per second that are augmented and labelled.
        overhead: Seconds per batch that do not depend on its size.
    """

    name: str
    products: float
    numbers: float
    pixels: float
    overhead: float


TWO_CORES = Machine("two CPU cores", 360e9, 0.82e9, 8.4e6, 0.0115)
"""Measured with U-Net on two cores that multiply in bfloat16: the networks and batches of ten plans in 2D and
3D, each within 7 %; a batch of four wings at 256×192 with 16 features takes 0.22 s."""

GPU = Machine("a GPU", 0.84e12, 14e9, 5.6e7, 0.053)
"""A cautious estimate for any GPU."""

SECONDS_OF_TRIAL = 0.033
"""Processor time that the trial of `cost.measured_speed` takes on one of those two cores."""

SCALING = 0.8
"""The speed grows with the number of cores to this power: small batches do not use many cores fully."""
