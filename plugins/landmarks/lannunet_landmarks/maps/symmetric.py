"""Functions of small symmetric matrices in a fixed number of operations.

The functions of `torch.linalg` synchronise with the device to check for convergence, at every training step.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

SWEEPS = {1: 0, 2: 1, 3: 6}  # a 2×2 matrix needs one rotation; convergence is quadratic
SQUARINGS = 6
TERMS = 8


def eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (…, D), in no order, and the axes as columns (…, D, D) of symmetric matrices (…, D, D).

    Computed by Jacobi rotations (Golub and Van Loan, Matrix Computations, 2013, 8.5); D is at most 3.
    """
    dimensions = matrices.shape[-1]
    axes = one = torch.eye(dimensions, dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    for _ in range(SWEEPS[dimensions]):
        for p, q in combinations(range(dimensions), 2):
            apart, between = matrices[..., q, q] - matrices[..., p, p], 2 * matrices[..., p, q]
            length = apart.abs() + torch.hypot(apart, between)
            # The tangent of the smaller of the angles that make `between` 0.
            tangent = between * torch.where(apart < 0, -1, 1) / torch.where(length > 0, length, 1)
            cosine = (1 + tangent.square()).rsqrt()
            turn = one.clone()
            turn[..., p, p] = turn[..., q, q] = cosine
            turn[..., p, q], turn[..., q, p] = tangent * cosine, -tangent * cosine
            matrices, axes = turn.mT @ matrices @ turn, axes @ turn
    return matrices.diagonal(dim1=-2, dim2=-1), axes


def exponential(matrices: Tensor) -> Tensor:
    """exp of symmetric matrices (…, D, D) of norms up to 10; differentiable.

    The Taylor series of a 64th of the matrix is squared six times (Higham, Functions of Matrices, 2008,
    10.3).
    """
    part = matrices / 2**SQUARINGS
    one = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    found = one.expand_as(matrices)
    for term in range(TERMS, 0, -1):
        found = one + part @ found / term
    for _ in range(SQUARINGS):
        found = found @ found
    return found
