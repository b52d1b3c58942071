"""Solve small symmetric systems of equations with operations that an exported graph supports."""

from __future__ import annotations

import torch
from torch import Tensor


def solve(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solve matrices · x = right by Cholesky factorisation.

    Args:
        matrix: (M, Q, Q) symmetric.
        right: (M, Q).

    Returns:
        x (M, Q), and whether each matrix is positive definite (M,); otherwise x is meaningless.
    """
    positive = torch.ones_like(right[:, 0], dtype=torch.bool)
    columns, roots, forward = [], [], []
    for _ in range(right.shape[1]):
        pivot = matrix[:, 0, 0]
        positive = positive & (pivot > 0)
        root = torch.where(pivot > 0, pivot, 1).sqrt()
        column = matrix[:, 1:, 0] / root[:, None]  # of the factor, below its diagonal
        value = right[:, 0] / root
        matrix = matrix[:, 1:, 1:] - column[:, :, None] * column[:, None]
        right = right[:, 1:] - column * value[:, None]
        columns.append(column)
        roots.append(root)
        forward.append(value)
    found: list[Tensor] = []  # in reverse order
    for column, root, value in zip(columns[::-1], roots[::-1], forward[::-1], strict=True):
        for place, known in enumerate(reversed(found)):
            value = value - column[:, place] * known
        found.append(value / root)
    return torch.stack(found[::-1], 1), positive
