"""Outlines of masks, exactly along the edges of their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]


def outline(mask: NDArray[np.bool_]) -> str:
    """The data of an SVG path around a mask (H, W); filled by the even-odd rule it equals the mask with its
    holes.

    Pixel (y, x) covers the square from (x, y) to (x + 1, y + 1).
    """
    path = []
    following = _edges(mask)
    while following:
        start = next(iter(following))
        corner, heading, loop = start, None, [f"M{start[0]} {start[1]}"]
        length = 0
        while True:
            ends = following[corner]
            end = ends.pop()
            if not ends:
                del following[corner]
            step = (end[0] - corner[0], end[1] - corner[1])
            if step != heading:
                loop.append(_line(heading, length))
                heading, length = step, 0
            length += 1
            corner = end
            if corner == start:
                break
        path.append("".join(loop) + "z")  # closing draws the last straight
    return "".join(path)


def _edges(mask: NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """For each edge between inside and outside, the next corner, with the inside on its right."""
    padded = np.pad(mask, 1).astype(np.int8)
    across, down = np.diff(padded, axis=1)[1:-1], np.diff(padded, axis=0)[:, 1:-1]
    edges: dict[Corner, list[Corner]] = {}

    def add(starts: NDArray[np.intp], dx: int, dy: int) -> None:
        for y, x in starts.tolist():
            edges.setdefault((x, y), []).append((x + dx, y + dy))

    add(np.argwhere(down > 0), 1, 0)  # top edges run right
    add(np.argwhere(across < 0), 0, 1)  # right ones down
    add(np.argwhere(down < 0) + np.array([0, 1]), -1, 0)  # bottom ones left
    add(np.argwhere(across > 0) + np.array([1, 0]), 0, -1)  # left ones up
    return edges


def _line(heading: Corner | None, length: int) -> str:
    if heading is None:
        return ""
    return f"h{heading[0] * length}" if heading[0] else f"v{heading[1] * length}"
