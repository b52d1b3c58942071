"""The core's augmentation by imgaug and its OpenCV, for one sample in a loader's worker. 2D only.

The geometry applies the drawn transform with OpenCV's remap: imgaug's own augmenters put pixel centres at
+0.5 and would shift points relative to the image. The intensity operations are imgaug's, with the drawn
parameters; a scheme's own operations are the same as on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Drawn, Floats, IntensityOp, UserError

Pixels = NDArray[np.float32]


def load() -> tuple[Any, Any]:
    """Import OpenCV and imgaug's augmenters. A run with imgaug calls this first, to fail early."""
    try:
        import cv2
        import imgaug.augmenters as iaa
    except ImportError as error:
        raise UserError(
            f"sampler.data_aug_package: imgaug cannot be used: its OpenCV does not load ({error}). Install "
            "the system library it lacks (libGL; on Debian and Ubuntu `apt-get install libgl1 libglib2.0-0`) "
            "or set data_aug_package: torch, which applies the same schemes without it."
        ) from error
    cv2.setNumThreads(0)  # a loader's worker is one process of many
    return cv2, iaa


def check_dimensions(dimensions: int) -> None:
    """Refuse volumes.

    Raises:
        UserError: The number of dimensions is not 2.
    """
    if dimensions != 2:
        raise UserError(
            "sampler.data_aug_package: imgaug works on 2D images only. Set data_aug_package: torch, which "
            "applies the same schemes in 3D."
        )


def augment(
    image: NDArray[Any], drawn: Drawn, centre: Floats, output_size: Sequence[int], fill: float = 0.0
) -> Pixels:
    """Apply the drawn augmentation to a sample.

    Args:
        image: (C, y, x) floats, z-scored.
        drawn: A draw of a scheme.
        centre: (2,) source pixel (x, y) at the centre of the patch; (S − 1) / 2 for a whole image.
        output_size: (x, y).
        fill: The value outside the source.

    Returns:
        (C, y, x) float32. A point of the source is at `drawn.spatial.to_output` in it.
    """
    _, iaa = load()
    moved = warp(image, drawn, centre, output_size, fill=fill)
    for operation in drawn.intensity:
        if not isinstance(operation, IntensityOp):
            moved = _with_torch(moved, operation)
            continue
        # A channel at a time, each from the operation's seed: OpenCV's median takes 1, 3 or 4 channels only.
        moved = np.stack([_apply(iaa, operation, channel) for channel in moved])
    return moved


def warp(
    maps: NDArray[Any],
    drawn: Drawn,
    centre: Floats,
    output_size: Sequence[int],
    interpolation: Literal["linear", "nearest"] = "linear",
    fill: float = 0.0,
) -> Pixels:
    """Apply only the geometry of `augment`, to images, weights (linear) and labels (nearest)."""
    check_dimensions(len(output_size))
    cv2, _ = load()
    x, y = (np.arange(length) - (length - 1) / 2 for length in output_size)
    places = np.stack(np.broadcast_arrays(x[None, :], y[:, None]))  # (2, y, x), q' and then q' + u
    elastic = drawn.spatial.elastic
    if elastic:
        basis_x, basis_y = elastic.basis(output_size)
        places = places + basis_y @ elastic.control @ basis_x.T
    source = np.einsum("ij,jyx->iyx", drawn.spatial.linear, places)
    source += (centre + drawn.spatial.offset)[:, None, None]
    map_x, map_y = source.astype(np.float32)
    mode = cv2.INTER_LINEAR if interpolation == "linear" else cv2.INTER_NEAREST
    moved = [
        cv2.remap(channel, map_x, map_y, mode, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
        for channel in maps.astype(np.float32)  # OpenCV's median does not support float64
    ]
    return np.stack(moved)


def _with_torch(image: Pixels, operation: Any) -> Pixels:
    import torch
    from lannunet_images import apply_intensity

    return np.asarray(apply_intensity(torch.from_numpy(image), operation).numpy())


def _apply(iaa: Any, operation: IntensityOp, channel: Pixels) -> Pixels:
    """Apply one operation to one channel (y, x)."""
    drawn, seed = operation.parameters, operation.seed
    amplitude = drawn.get("amplitude", 0.0)
    height, width = channel.shape
    if operation.name == "average_pooling":
        # Whole blocks first: imgaug would stretch an odd size by a pixel.
        size = int(drawn["size"])
        channel = np.pad(channel, ((0, -height % size), (0, -width % size)), mode="edge")
    augmenters = {
        "gaussian_blur": lambda: iaa.GaussianBlur(drawn["sigma"], seed=seed),
        "mean_blur": lambda: iaa.AverageBlur(int(drawn["size"]), seed=seed),
        "median_blur": lambda: iaa.MedianBlur(int(drawn["size"]), seed=seed),
        "average_pooling": lambda: iaa.AveragePooling(int(drawn["size"]), seed=seed),
        "sharpen": lambda: iaa.Sharpen(drawn["alpha"], drawn["lightness"], seed=seed),
        "emboss": lambda: iaa.Emboss(drawn["alpha"], drawn["strength"], seed=seed),
        "contrast": lambda: iaa.LinearContrast(drawn["factor"], seed=seed),
        "add": lambda: iaa.AddElementwise((-amplitude, amplitude), seed=seed),
        "multiply": lambda: iaa.MultiplyElementwise((1 - amplitude, 1 + amplitude), seed=seed),
    }
    changed = augmenters[operation.name]().augment_image(channel)
    return np.asarray(changed[:height, :width], np.float32)
