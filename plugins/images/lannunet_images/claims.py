"""What an image's header claims, compared with its file before memory is taken for it."""

import math
import os
from collections.abc import Sequence

from lannunet_core import UserError

LIMIT_VARIABLE = "LANNUNET_MAX_PIXELS"
LIMIT = 1 << 30  # numbers per image: a volume of 1024³
RATIO = 1500  # that no stream of deflate, LZW or JPEG exceeds


def check_claim(size: Sequence[int], channels: int, held: float | None = None, bits: float = 8) -> None:
    """Refuse an image that is larger than its file can hold, or than the limit.

    Args:
        size: In pixels, any order of axes.
        channels: Numbers per pixel.
        held: Bytes of pixels that the file holds at most, decompressed; None: unknown.
        bits: Bits of a number in the file.

    Raises:
        UserError: It has more numbers than LANNUNET_MAX_PIXELS, or none.
        ValueError: The file holds fewer.
    """
    numbers = math.prod(size) * channels
    shape = "×".join(map(str, size))
    if min((*size, channels), default=0) < 1:
        raise UserError(f"holds {shape} pixels of {channels} channels, so none.")
    wanted = -(-numbers * bits // 8)
    if held is not None and held < wanted:
        raise ValueError(
            f"its header claims {shape} pixels, which are {wanted:.0f} bytes, of at most {held:.0f}"
        )
    try:
        limit = int(os.environ.get(LIMIT_VARIABLE) or LIMIT)
    except ValueError:
        raise UserError(f"the environment variable {LIMIT_VARIABLE} should be a whole number.") from None
    if numbers > limit:
        raise UserError(
            f"claims {shape} pixels of {channels} channel{'s' * (channels != 1)}, and an image may have "
            f"{limit:,} numbers. If it is correct, set the environment variable {LIMIT_VARIABLE} higher."
        )
