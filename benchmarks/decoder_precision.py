r"""The precision of the decoders, and its theoretical bound: `python -m benchmarks.decoder_precision`.

**The bound.** A map is f(x; θ) = a · exp(−½ (x − m)ᵀ Σ⁻¹ (x − m)) at the pixels x plus independent Gaussian
noise of standard deviation s; θ are the height a, the mean m and the covariance Σ, all unknown. The
log-likelihood of a map is −|map − f|² / 2s² and a constant, so its Fisher information is

    I = JᵀJ / s²,    J = ∂f/∂θ, one row per pixel,

and by the theorem of Cramér and Rao no unbiased decoder's error has a smaller covariance than I⁻¹. The root
of the mean square distance from the true point is at least sqrt(tr (I⁻¹)ₘ), with the block of m.

∂f/∂m = f Σ⁻¹(x − m) is odd about m, the derivatives by a and Σ are even, so their sums of products vanish
(exactly for integrals instead of sums over pixels, approximately for sigma ≥ 1): unknown height and width do
not change the bound, and with Σ = σ²·1

    I_m = a²/(s² σ⁴) ∫ (x − m)ᵢ² exp(−|x − m|²/σ²) dx = a²/(s² σ⁴) · σ²/2 · (πσ²)^{D/2},

a standard deviation of each coordinate of (s/a) sqrt(2/π) in 2D, whatever σ is: 0.080 px, a root mean square
distance of 0.113 px, at a signal-to-noise ratio a/s of 10. `least_error` computes the sums.

**The bias.** The maps of every phase have the same noise, so its common effect can be subtracted: the
difference between the mean error of a phase and that of all phases has a much smaller standard error than the
mean itself. The mean over all phases, 0 by symmetry, is printed next to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from lannunet_landmarks import DECODERS
from torch import Tensor

BOUND_FACTOR = 1.3  # largest allowed ratio of the best decoder's error to the bound
NOISE = 0.1  # of the peak's height
SIGMAS = (1.0, 1.5, 2.0, 3.0, 4.0)
PHASES = tuple(float(phase) for phase in np.arange(-10, 10) / 20)
MAPS = {"quadratic": 16000, "auto": 6000}  # per sigma and phase; more for decoders whose errors vary more
MAPS_ELSE = 750
AT_ONCE = 750


def gaussians(points: Tensor, size: Sequence[int], sigma: float) -> Tensor:
    """Maps (B, N, *S) float64 of height 1 and their means at points (B, N, D), of `size` (x, y[, z])."""
    heatmaps = torch.ones(points.shape[:2], dtype=torch.float64)
    for axis in reversed(range(len(size))):
        line = torch.exp(-0.5 * ((torch.arange(size[axis]) - points[..., axis, None].double()) / sigma) ** 2)
        heatmaps = heatmaps[..., None] * line.reshape(*points.shape[:2], *[1] * (heatmaps.ndim - 2), -1)
    return heatmaps


def least_error(size: Sequence[int], sigma: float, noise: float, phases: int = 4) -> float:
    """The bound on the root mean square distance in pixels, over means at all phases near a map's middle."""
    dimensions = len(size)
    axes = np.meshgrid(*[np.arange(side) for side in size], indexing="ij")
    places = np.stack(axes, -1).reshape(-1, dimensions)
    pairs = list(combinations_with_replacement(range(dimensions), 2))
    squares = []
    for phase in np.ndindex(*[phases] * dimensions):
        away = (places - np.array(size) // 2 - np.array(phase) / phases) / sigma
        value = np.exp(-0.5 * (away**2).sum(1))
        # Derivatives by height, mean and inverse covariance, the latter in arbitrary units.
        jacobian = [np.ones(len(away)), *(away / sigma).T, *(away[:, i] * away[:, j] for i, j in pairs)]
        jacobian = np.stack(jacobian, 1) * value[:, None]
        covariance = np.linalg.inv(jacobian.T @ jacobian) * noise**2
        squares.append(np.trace(covariance[1 : 1 + dimensions, 1 : 1 + dimensions]))
    return math.sqrt(np.mean(squares))


def errors(name: str, sigma: float, noise: float, count: int) -> Tensor:
    """The errors (phases, count, 2) of a decoder at each phase of x and any of y, with the same noise."""
    side = 2 * math.ceil(4.5 * sigma) + 8
    affine, size = torch.eye(3, dtype=torch.float64)[None], torch.tensor([[side, side]])
    generator = torch.Generator().manual_seed(0)
    found = []
    for first in range(0, count, AT_ONCE):
        shape = (1, min(AT_ONCE, count - first))
        points = side // 2 + torch.rand(*shape, 2, generator=generator, dtype=torch.float64) - 0.5
        of_noise = noise * torch.randn(*shape, side, side, generator=generator, dtype=torch.float64)
        for phase in PHASES:
            points[..., 0] = side // 2 + phase
            maps = gaussians(points, (side, side), sigma) + of_noise
            found.append((DECODERS[name]()(maps, affine, size, "use_input_size").points - points)[0])
    return torch.cat([torch.cat(found[k :: len(PHASES)])[None] for k in range(len(PHASES))])


def row(name: str, sigma: float, count: int) -> str:
    """One row of the table in docs/precision.md."""
    bound = least_error([2 * math.ceil(4.5 * sigma) + 8] * 2, sigma, NOISE)
    found = errors(name, sigma, NOISE, count)
    error = found.square().sum(-1).mean().sqrt().item()
    common = found[..., 0].mean(0)  # over phases
    apart = found[..., 0] - common
    clean = errors(name, sigma, 0.0, 40)[..., 0].mean(1).abs().max().item()
    standard_errors = [values.std(-1).max().item() / math.sqrt(count) for values in (apart, common)]
    biases = [apart.mean(1).abs().max().item(), common.mean().abs().item()]
    return (
        f"| `{name}` | {sigma:g} | {count} | {error:.3f} | {error / bound:.2f} | "
        f"{biases[0]:.3f} ± {standard_errors[0]:.3f} | {biases[1]:.3f} ± {standard_errors[1]:.3f} | "
        f"{clean:.4f} |"
    )


def main() -> None:
    """Print the table, in Markdown."""
    print(
        "| decoder | σ | maps per phase | error | error / bound | bias by phase | bias of all phases "
        "| without noise |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in DECODERS:
        if name == "peak":  # another name for auto
            continue
        for sigma in SIGMAS:
            print(row(name, sigma, MAPS.get(name, MAPS_ELSE)), flush=True)


if __name__ == "__main__":
    main()
