"""Comparison of the size in an image's header with its file, before memory is allocated."""

import math
import os
from collections.abc import Sequence

from lannunet_core import UserError

LIMIT_VARIABLE = "LANNUNET_MAX_PIXELS"
LIMIT = 1 << 30  # numbers per image: a volume of 1024³
RATIO = 1500  # upper limit of the compression ratio of deflate, LZW and JPEG


def check_claim(size: Sequence[int], channels: int, held: float | None = None, bits: float = 8) -> None:
    """Refuse an image that is larger than its file can contain, or than the limit.

    Args:
        size: Size in pixels, any order of axes.
        channels: Numbers per pixel.
        held: Maximum bytes of pixels in the file, decompressed; None: unknown.
        bits: Bits per number in the file.

    Raises:
        UserError: The image has more numbers than LANNUNET_MAX_PIXELS, or none.
        ValueError: The file contains fewer bytes.
    """
    numbers = math.prod(size) * channels
    shape = "×".join(map(str, size))
    if min((*size, channels), default=0) < 1:
        raise UserError(f"is empty: {shape} pixels of {channels} channels. Save the image again.")
    wanted = -(-numbers * bits // 8)
    if held is not None and held < wanted:
        raise ValueError(
            f"its header claims {shape} pixels ({wanted:.0f} bytes), but it has at most {held:.0f} bytes"
        )
    try:
        limit = int(os.environ.get(LIMIT_VARIABLE) or LIMIT)
    except ValueError:
        raise UserError(f"the environment variable {LIMIT_VARIABLE} should be a whole number.") from None
    if numbers > limit:
        raise UserError(
            f"claims {shape} pixels of {channels} channel{'s' * (channels != 1)}, but an image may have only "
            f"{limit:,} numbers. If it is correct, set the environment variable {LIMIT_VARIABLE} higher."
        )
