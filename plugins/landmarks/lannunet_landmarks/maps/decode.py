"""Decoders from activated heatmaps to coordinates, by name.

All start from the highest peak (`peaks.locate`; `gaussian_fit` has its own search, which is robust to outlier
pixels) and differ in the sub-pixel refinement. Arguments:

    heatmaps: (B, N, *S), 1 being the peak of a perfect label, or a list whose first item is.
    affine: (B, D + 1, D + 1) from input pixels to original pixels.
    original_sizes: (B, D), (x, y[, z]).
    evaluation_mode: `scale_heatmap_first` decodes on the original pixel grid, the others on the input's.

They return points in input pixels and a confidence in 0 … 1, the peak's value, float64 on the CPU. A map that
is flat, has no positive value or is not finite has no peak: NaN and confidence 0. docs/precision.md compares
them with the theoretical limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lannunet_core import Coordinates, Decoder, EvaluationMode
from lannunet_landmarks.maps.gaussian_fit import decode_gaussian_fit
from lannunet_landmarks.maps.peaks import Peaks, centre_of_mass, locate, widths
from lannunet_landmarks.maps.solving import solve

MOST_STEP = 1.5  # input pixels between the highest pixel and the vertex of the fit
LEAST_SHARE = 1e-4  # of the highest value; points below are left out of the fit
WIDEST = 4.0  # pixels, sigma of the Gaussians that blur or weight a map
NARROWEST = 0.1  # pixels, a sigma that does not blur


def decode_peak(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """`auto`, `peak`: the vertex of the Gaussian that fits the map around its highest pixel.

    A quadratic through the logarithms of 5^D points an input pixel apart, by least squares weighted with the
    squared values (Guo 2011, A simple algorithm for fitting a Gaussian function, eq. 13). It is exact for a
    Gaussian of any covariance, and its many points average the noise of a network's map. At a border the
    points are shifted inside, and the vertex may lie beyond them.
    """
    return vertex_of(locate(heatmaps, affine, original_sizes, evaluation_mode))


def vertex_of(peaks: Peaks) -> Coordinates:
    """The result of `decode_peak` for the highest points."""
    values, centre, low, high = stencil(peaks)
    step, value = refine(values, peaks.usable, low, high)
    return peaks.coordinates(refined(peaks, centre, step), value)


def decode_quadratic(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """`quadratic`: the parabola through the logarithms of three points along each axis.

    Mixed derivatives are included, so it is exact for a Gaussian of any covariance; a parabola through the
    values themselves would be biased towards the pixel by up to 0.02 px at sigma 1.5.

    The three-point Gaussian estimator (Willert and Gharib 1991, Digital particle image velocimetry) with
    points about as far apart as the peak is wide, one or two input pixels. Noise of the map affects
    the slope, a difference h to either side, by exp(½ h²/σ²) / h, least at h = σ, and the curvature by
    sqrt(2 + exp(h²/σ²)) / h², least at h = 1.5 σ. At sigma 1.5 and a distance of one pixel, the curvature is
    dominated by the noise of the highest pixel: the mean error at some phases is 0.016 px.
    """
    peaks = locate(heatmaps, affine, original_sizes, evaluation_mode)
    values, centre, low, high = stencil(peaks)
    near, far = (taylor(values, peaks.usable, low, high, apart, apart) for apart in (1, 2))
    wide = 1.25 * widths(peaks.windows.values, peaks.value) > 1.5  # 1.25 σ, of the two, is nearer to 2
    step = torch.where(wide[:, None], far, near)
    return peaks.coordinates(refined(peaks, centre, step), peaks.value)


def decode_dark(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """`dark`: Zhang et al., CVPR 2020, Distribution-aware coordinate representation.

    The map is blurred with a Gaussian as wide as the peak, and a Taylor expansion of the logarithm leads from
    the highest point to the vertex. The width is that of the peak at half its height (the paper uses the
    labels', which a trained network may not reproduce), and the highest point is that of the blurred map. The
    kernel narrows towards the border, where a blurred map would be biased inwards.
    """
    peaks = locate(heatmaps, affine, original_sizes, evaluation_mode)
    sigma = widths(peaks.windows.values, peaks.value).clamp(max=WIDEST)
    to_border = peaks.points.minimum(torch.tensor(peaks.maps.shape[:0:-1]) - 1 - peaks.points)
    kernel = sigma[:, None].minimum((to_border - 2) / 3).clamp(min=NARROWEST)  # 2: of the 5^D points
    halo = math.ceil(3 * WIDEST) + 8  # the kernel, the shift to the highest point and the 5^D points
    windows = peaks.wider(halo).blurred(kernel)
    reach = sigma.ceil()[:, None].expand_as(peaks.index)
    index, _ = windows.highest(peaks.grid, peaks.index, reach, peaks.stride)
    blurred = replace(peaks, windows=windows, index=index)
    values, centre, low, high = stencil(blurred)
    step = taylor(values, peaks.usable, low, high, slope_reach=1, bend_reach=2)
    return peaks.coordinates(refined(blurred, centre, step), peaks.value)


def decode_soft_argmax(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """`soft_argmax`: the mean of the positions around the highest peak, each weighted with the map's value.

    The window is a Gaussian as wide as the peak, centred on the result itself. The mean cannot lie beyond the
    outermost pixels, and is biased inwards within two sigma of the border.
    """
    peaks = locate(heatmaps, affine, original_sizes, evaluation_mode)
    sigma = widths(peaks.windows.values, peaks.value).clamp(max=WIDEST)
    windows = peaks.wider(math.ceil(5 * WIDEST))
    points = centre_of_mass(windows.values, peaks.points - windows.first, sigma, peaks.usable)
    points = (points + windows.first).maximum(peaks.grid.low).minimum(peaks.grid.high)
    return peaks.coordinates(points, peaks.value)


DECODERS: dict[str, Callable[[], Decoder]] = {
    "auto": lambda: decode_peak,
    "peak": lambda: decode_peak,
    "quadratic": lambda: decode_quadratic,
    "dark": lambda: decode_dark,
    "soft_argmax": lambda: decode_soft_argmax,
    "gaussian_fit": lambda: decode_gaussian_fit,
}


def stencil(peaks: Peaks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The 5^D points an input pixel apart around each peak, shifted inside at the borders.

    Values (M, [5,] 5, 5), the middle point's index (M, D), and the largest distance of a vertex from it
    (M, D), in steps between the points.
    """
    grid, index, stride = peaks.grid, peaks.index, peaks.stride
    centre = index.maximum(2 * stride).minimum(grid.count - 1 - 2 * stride)
    centre = torch.where(peaks.usable, centre, index)
    offsets = torch.where(peaks.usable, stride, 0)[..., None] * torch.arange(-2, 3)  # (M, D, 5)
    values = peaks.windows.evaluate(grid, list((centre[..., None] + offsets).unbind(1)))
    low, high = grid.limits(index, centre, MOST_STEP * stride)
    return values, centre, low / stride, high / stride


def refined(peaks: Peaks, centre: Tensor, step: Tensor) -> Tensor:
    """Steps from the middle points of stencils, as input pixels (M, D)."""
    return peaks.grid.start + peaks.grid.step * (centre + peaks.stride * step * peaks.usable)


def refine(values: Tensor, usable: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The step from the middle of 5^D points to the vertex of the Gaussian that fits them.

    `parabolas` is used if too few values are positive, or the fit has no peak.

    Args:
        values: (M, [5,] 5, 5).
        usable: (M, D), False for axes (x, y[, z]) too short for a fit.
        low: (M, D), lower bound of the step.
        high: (M, D), upper bound.

    Returns:
        The step (M, D) in points (x, y[, z]), and the value (M,) there.
    """
    dimensions = usable.shape[1]
    places = torch.cartesian_prod(*[torch.arange(-2.0, 3.0, dtype=values.dtype)] * dimensions).flip(1)
    pairs = list(itertools.combinations_with_replacement(range(dimensions), 2))
    terms = [places[:, a] * places[:, b] for a, b in pairs]
    design = torch.stack([torch.ones(len(places), dtype=values.dtype), *places.T, *terms], 1)  # (P, Q)
    first, second = zip(*pairs, strict=True)
    of_axis = torch.cat([usable.new_ones(len(values), 1), usable, usable[:, first] & usable[:, second]], 1)

    flat = values.flatten(1)
    top = flat.amax(1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    relative = (flat / top).clamp(min=0)
    logarithm = torch.where(relative > 0, relative, 1).log()
    weighted = design * relative.square()[..., None]  # (M, P, Q)
    normal = torch.where(of_axis[:, :, None] & of_axis[:, None], weighted.mT @ design, 0)
    normal = normal + torch.diag_embed((~of_axis).to(values.dtype))
    right = torch.where(of_axis, torch.einsum("mpq,mp->mq", weighted, logarithm), 0)
    coefficient, definite = solve(normal, right)
    fitted = definite & ((relative > LEAST_SHARE).sum(1) >= of_axis.sum(1))
    coefficient = torch.where(fitted[:, None], coefficient, 0)

    gradient = coefficient[:, 1 : 1 + dimensions]
    hessian = coefficient.new_zeros(len(values), dimensions, dimensions)
    for (a, b), bend in zip(pairs, coefficient[:, 1 + dimensions :].T, strict=True):
        hessian[:, a, b] += bend
        hessian[:, b, a] += bend
    vertex, peaked = vertices(gradient, hessian, usable)
    fitted &= peaked
    step = torch.where(fitted[:, None], vertex, parabolas(flat, usable)).maximum(low).minimum(high)
    log_value = coefficient[:, 0] + (gradient * step).sum(1)
    log_value = log_value + 0.5 * torch.einsum("mi,mij,mj->m", step, hessian, step)
    return step, torch.where(fitted, top[:, 0] * log_value.exp(), flat[:, flat.shape[1] // 2])


def taylor(
    values: Tensor, usable: Tensor, low: Tensor, high: Tensor, slope_reach: int, bend_reach: int
) -> Tensor:
    """The step from the middle of 5^D points to the peak of the logarithm's second-order Taylor expansion.

    Args:
        values: (M, [5,] 5, 5).
        usable: (M, D), False for axes (x, y[, z]) too short to refine along.
        low: (M, D), lower bound of the step.
        high: (M, D), upper bound.
        slope_reach: Points on either side that the difference for the first derivative spans.
        bend_reach: Points on either side that the difference for the second derivative spans.

    Returns:
        The step (M, D) in points (x, y[, z]).
    """
    dimensions = usable.shape[1]
    flat = values.flatten(1)
    top = flat.amax(1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    logarithm = (flat / top).clamp(min=LEAST_SHARE).log()
    middle = flat.shape[1] // 2
    apart = [5**axis for axis in range(dimensions)]

    def at(offset: int) -> Tensor:
        return logarithm[:, middle + offset]

    beside = [slope_reach * a for a in apart]
    gradient = torch.stack([at(a) - at(-a) for a in beside], 1) / (2 * slope_reach)
    hessian = logarithm.new_empty(len(values), dimensions, dimensions)
    for (i, a), (j, b) in itertools.product(enumerate(apart), repeat=2):
        hessian[:, i, j] = (at(a + b) - at(a - b) - at(b - a) + at(-a - b)) / 4
        if i == j:
            reach = bend_reach * a
            hessian[:, i, i] = (at(reach) - 2 * at(0) + at(-reach)) / bend_reach**2
    both = usable[:, :, None] & usable[:, None]
    vertex, peaked = vertices(gradient * usable, torch.where(both, hessian, 0), usable)
    return torch.where(peaked[:, None], vertex, parabolas(flat, usable)).maximum(low).minimum(high)


def vertices(gradient: Tensor, hessian: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (M, D) to the peak of a quadratic, and whether it has one (M,); no step along unusable axes."""
    return solve(torch.diag_embed((~usable).to(hessian.dtype)) - hessian, gradient)


def parabolas(flat: Tensor, usable: Tensor) -> Tensor:
    """Steps (M, D) to the vertex of the parabola through the values along each axis; 0 without a peak."""
    middle = flat.shape[1] // 2
    beside = [torch.stack([flat[:, middle - 5**a], flat[:, middle + 5**a]]) for a in range(usable.shape[1])]
    before, after = torch.stack(beside, -1)  # (M, D) each
    bend = before + after - 2 * flat[:, middle, None]
    bends = usable & (bend < 0)
    return torch.where(bends, (before - after) / 2 / torch.where(bends, bend, -1), 0)
