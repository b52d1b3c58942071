"""Fit a Gaussian to each map, all maps at once on their device, robust to outlier pixels.

The model is a · exp(bᵀx + xᵀAx), with x relative to the start: a Gaussian if A is negative definite. Its
derivatives are cheap: the model times a power of x. The Levenberg-Marquardt method minimises the squared
residuals over the pixels within 4 widths of the peak; pixels further away carry no information about it.

The fit is robust in two stages (Rousseeuw and Leroy 1987, Robust Regression and Outlier Detection, ch. 5:
reweighted least squares from a robust fit). First come Huber's weights, which bound the influence of a pixel
and converge from afar; then plain least squares over the pixels within five standard deviations. With
Gaussian noise these are all pixels, so the result is the least-squares fit and as precise as the data allow.
The standard deviation is that of the first stage's median absolute residual, and at least a share of the
height: a network's map on a background of exact zeros is not Gaussian to that precision.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode
from lannunet_landmarks.maps.peaks import HALO, LEAST_SIDE, Grid, centre_of_mass, finest, gather, widths

REACH = 4.0  # widths of a peak on either side that are fitted
MOST_REACH = {2: 24, 3: 10}  # pixels, by dimensions
MASS_STEPS, HUBER_STEPS, STEPS = 4, 8, 12
HUBER = 1.345  # standard deviations: 95 % efficient for Gaussian noise
OUTLIER = 5.0  # standard deviations
LEAST_NOISE = 0.05  # of the height
LEAST_WIDTH = 0.3  # pixels; anything narrower is a single pixel
MOST_SHIFT = 2.0  # widths between the centre of mass and the fit
NEARLY, CONVERGED = 0.03, 1e-4  # change of a step, as a share of the height


def decode_gaussian_fit(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """`gaussian_fit`: mean, height and covariance of the Gaussian that fits each map around its peak.

    The highest peak of the map averaged over 4^D pixels, within the image, is fitted: a single high pixel is
    an outlier. The fit uses the map's own pixels in every evaluation mode: points of a spline between them
    would not add information.

    Where no Gaussian fits, the point is that pixel, the confidence the averaged map's peak, and the
    covariance NaN. Along an axis of fewer than five pixels a point is on the peak's pixel, and its variance
    is approximately the mean of the other axes'.

    Args:
        heatmaps: See `decode`.
        affine: See `decode`.
        original_sizes: See `decode`.
        evaluation_mode: See `decode`.

    Returns:
        The coordinates, as from every decoder, with the covariance (B, N, D, D) of the fitted Gaussian in
        pixels².
    """
    maps = finest(heatmaps)
    batch, landmarks = maps.shape[:2]
    size = maps.shape[:1:-1]
    lowest, highest = maps.flatten(2).amin(-1), maps.flatten(2).amax(-1)  # NaN if the map has a NaN
    has_peak = torch.isfinite(lowest) & torch.isfinite(highest) & (highest > 0) & (lowest < highest)
    has_peak = has_peak.flatten()

    grid = Grid.searched(maps, affine, original_sizes, evaluation_mode)
    pixels = torch.cat([blobs(m, *box) for m, box in zip(maps, grid.pixels(), strict=True)])  # (M = B · N, D)
    maps = maps.flatten(0, 1)
    of_peak = has_peak.view(-1, *[1] * len(size))
    values, _, first = cut(maps, pixels, HALO)
    averaged = average(torch.where(of_peak, values.float(), 0))
    near, _, nearest = cut(averaged, pixels - first, 2)  # pixels that `blobs` sums
    pixels = first + nearest + highest_of(near)
    peak = at(averaged, pixels - first)
    sigma = (widths(averaged, peak).square() - 2 / 3).clamp(min=0.5).sqrt()  # averaging adds 2/3
    near, _, nearest = cut(values, pixels - first, 1)  # an average may be equally high beside its peak
    pixels = first + nearest + highest_of(near)

    reach = (REACH * sigma).ceil().clamp(max=MOST_REACH[len(size)])
    values, inside, first = cut(maps, pixels, int(reach.max()), reach)
    values = torch.where(inside & of_peak, values.float(), 0)
    usable = torch.tensor(size, device=maps.device) >= LEAST_SIDE
    start = centre_of_mass(values, (pixels - first).float(), sigma, usable, MASS_STEPS)
    found = fit(values, inside, start, sigma, peak, usable)

    low, high = (edge.repeat_interleave(landmarks, 0) for edge in (grid.low, grid.high))
    fits = found.covariance.flatten(1).isfinite().all(1)
    points = torch.where(fits[:, None], found.mean + first, pixels).cpu().double().maximum(low).minimum(high)
    points = torch.where(has_peak.cpu()[:, None], points, math.nan)
    covariance = torch.where(has_peak[:, None, None], found.covariance, math.nan).cpu().double()
    confidence = torch.where(has_peak, found.height, 0).clamp(0, 1).cpu().double()
    shape = (batch, landmarks)
    return Coordinates(
        points.view(*shape, -1), confidence.view(shape), covariance.view(*shape, *covariance.shape[1:])
    )


class Gaussians(NamedTuple):
    """Height (M,), mean (M, D) and covariance (M, D, D), NaN where no Gaussian fits."""

    height: Tensor
    mean: Tensor
    covariance: Tensor


def fit(
    values: Tensor, inside: Tensor, start: Tensor, sigma: Tensor, height: Tensor, usable: Tensor
) -> Gaussians:
    """Fit a Gaussian to each window.

    Args:
        values: (M, [Wz,] Wy, Wx).
        inside: The pixels to fit.
        start: (M, D) starting position, in pixels of the window; the result where no Gaussian fits.
        sigma: (M,) starting width.
        height: (M,) starting height.
        usable: (D,), False for axes (x, y[, z]) along which the start is kept.
    """
    dimensions = start.shape[1]
    tiny = torch.finfo(values.dtype).tiny
    axes = [torch.arange(side, device=values.device, dtype=values.dtype) for side in values.shape[1:]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1]).flatten(1)  # (D, P)
    # In units of the start, so that all parameters are about 1.
    places = (places - start[..., None]) / sigma[:, None, None] * usable[:, None]  # (M, D, P)
    values = values.flatten(1) / height[:, None].clamp(min=tiny)
    inside = inside.flatten(1)
    rows, columns = torch.tril_indices(dimensions, dimensions, device=values.device)
    powers = torch.cat([places, places[:, rows] * places[:, columns]], 1)  # (M, Q − 1, P)
    identity = torch.eye(dimensions, device=values.device)
    theta = torch.cat([values.new_ones(1), values.new_zeros(dimensions), -0.5 * identity[rows, columns]])
    theta = theta.repeat(len(values), 1)  # (M, Q): a, b, lower triangle of A

    def model(theta: Tensor) -> tuple[Tensor, Tensor]:
        shape = (theta[:, None, 1:] @ powers)[:, 0].exp()
        return shape, theta[:, :1] * shape  # (M, P) each

    shape, predicted = model(theta)
    damping = values.new_full((len(values),), 0.01)
    noise = torch.zeros_like(height)[:, None]
    for rejecting, steps, enough in ((False, HUBER_STEPS, NEARLY), (True, STEPS, CONVERGED)):
        for _ in range(steps):
            residual = values - predicted
            distance = residual.abs()
            if rejecting:
                weight = ((distance <= OUTLIER * noise) & inside).to(values.dtype)
            else:
                noise = 1.4826 * torch.where(inside, distance, math.nan).nanmedian(1, keepdim=True).values
                noise = noise.maximum(LEAST_NOISE * theta[:, :1].abs())
                weight = (HUBER * noise / distance.clamp(min=tiny)).clamp(max=1) * inside
            jacobian = torch.cat([shape[:, None], powers * predicted[:, None]], 1)  # (M, Q, P)
            weighted = jacobian * weight[:, None]
            normal = weighted @ jacobian.mT
            gradient = weighted @ residual[..., None]
            added = damping[:, None] * normal.diagonal(dim1=1, dim2=2) + 1e-6
            lower, _ = torch.linalg.cholesky_ex(normal + torch.diag_embed(added))
            trial = theta + torch.cholesky_solve(gradient, lower)[..., 0]
            new_shape, new_predicted = model(trial)
            before = (weight * residual.square()).sum(1)
            better = (weight * (values - new_predicted).square()).sum(1) <= before
            change = (new_predicted - predicted).abs().max()
            theta = torch.where(better[:, None], trial, theta)
            shape = torch.where(better[:, None], new_shape, shape)
            predicted = torch.where(better[:, None], new_predicted, predicted)
            damping = torch.where(better, damping / 10, damping * 10)
            if change < enough:
                break

    precision = values.new_zeros(len(values), dimensions, dimensions)
    precision[:, rows, columns] = -theta[:, 1 + dimensions :]
    precision = precision + precision.mT
    fits = torch.isfinite(theta).all(1) & (theta[:, 0] > 0)
    variances = 1 / torch.linalg.eigvalsh(torch.where(fits[:, None, None], precision, identity))
    # NaN where a variance is negative: then the matrix is not a covariance.
    narrowest, widest = variances.amin(1).sqrt() * sigma, variances.amax(1).sqrt()
    fits &= (narrowest > LEAST_WIDTH) & (widest < 2 * REACH)
    covariance = torch.linalg.inv(torch.where(fits[:, None, None], precision, identity))
    slope = theta[:, 1 : 1 + dimensions]
    shift = (covariance @ slope[..., None])[..., 0]
    fits &= shift.norm(dim=1) < MOST_SHIFT
    top = theta[:, 0] * (0.5 * (slope * shift).sum(1)).exp()
    covariance = covariance * sigma[:, None, None].square()
    return Gaussians(
        torch.where(fits, top * height, height),
        torch.where(fits[:, None], start + shift * sigma[:, None], start),
        torch.where(fits[:, None, None], covariance, math.nan),
    )


def blobs(maps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The approximate position of the highest sum of 4^D pixels of maps (N, *S), on every second pixel.

    Args:
        maps: (N, *S).
        low: (D,), the first pixel (x, y[, z]) to search.
        high: (D,), the last one.

    Returns:
        Pixels (N, D), beside the middle of the summed pixels.
    """
    inside = [slice(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)][::-1]
    box = (slice(None), *inside)
    sums = maps[box].float()
    long = [axis for axis, side in enumerate(sums.shape) if axis > 0 and side >= LEAST_SIDE]
    scale, shift = torch.ones_like(low), low.clone()
    for axis in long:
        index: list[Any] = [slice(None)] * sums.ndim
        even, odd = [*index], [*index]
        even[axis], odd[axis] = slice(0, sums.shape[axis] // 2 * 2, 2), slice(1, None, 2)
        sums = sums[tuple(even)] + sums[tuple(odd)]
        scale[-axis], shift[-axis] = 2, low[-axis] + 1
    for axis in long:
        pairs = sums.shape[axis] - 1
        sums = sums.narrow(axis, 0, pairs) + sums.narrow(axis, 1, pairs)
    return highest_of(sums) * scale.to(maps.device) + shift.to(maps.device)


def highest_of(values: Tensor) -> Tensor:
    """The indices (M, D) (x, y[, z]) of the highest of values (M, *W)."""
    order = values.flatten(1).argmax(1)
    return torch.stack(torch.unravel_index(order, values.shape[1:])[::-1], -1)


def average(maps: Tensor) -> Tensor:
    """Maps (M, *S) averaged over three pixels of each long axis; negative and outside pixels count as 0."""
    maps = maps.clamp(min=0)
    long = [(axis, side) for axis, side in enumerate(maps.shape) if axis > 0 and side >= LEAST_SIDE]
    for axis, side in long:
        summed = maps.clone()
        summed.narrow(axis, 1, side - 1).add_(maps.narrow(axis, 0, side - 1))
        summed.narrow(axis, 0, side - 1).add_(maps.narrow(axis, 1, side - 1))
        maps = summed
    return maps / float(3 ** len(long))


def cut(
    maps: Tensor, pixels: Tensor, halo: int, reach: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of maps (M, *S) around `pixels` (M, D), shifted inside at the borders.

    Returns:
        Values (M, *W), a mask of those within `reach` (M,) of the pixel along each axis (all if it is None),
        and each window's first pixel (M, D).
    """
    size = torch.tensor(maps.shape[:0:-1], device=maps.device)
    width = size.clamp(max=2 * halo + 1)
    first = (pixels - halo).clamp(min=0).minimum(size - width)
    axes = [first[:, a, None] + torch.arange(w, device=maps.device) for a, w in enumerate(width.tolist())]
    values = gather(maps, torch.arange(len(maps)), axes)
    inside = torch.ones_like(values, dtype=torch.bool)
    if reach is not None:
        for axis, line in enumerate(axes):
            near = (line - pixels[:, axis, None]).abs() <= reach[:, None]
            inside &= near.view(len(near), *[1] * (len(axes) - 1 - axis), -1, *[1] * axis)
    return values, inside, first


def at(values: Tensor, pixels: Tensor) -> Tensor:
    """(M,) the values of windows (M, *W) at `pixels` (M, D) (x, y[, z])."""
    index = torch.arange(len(values), device=values.device)
    places = (index, *pixels.flip(1).T)
    return values[places]
