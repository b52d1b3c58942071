"""The relative positions of landmarks as a prior for each of them.

A network can find several structures that look like a landmark, such as both paws of an animal. The one whose
position relative to the other landmarks is as in the training images is more probably the landmark. So the
maps of a whole image are weighted: the candidates of a map are its highest peaks, and each is multiplied with
a factor that depends on the candidates of a few other landmarks, its partners. All landmarks are weighted at
the same time. Around a candidate, a map is multiplied with one number, so the precision of a peak does not
change.

If maps are probabilities of positions (`kl`), the sum of each stays; else the height of the chosen peak.

Where objects are rotated by any angle, the direction from one landmark to another says nothing, and their
distance is used instead.

The model of relative positions is that of Felzenszwalb and Huttenlocher (Pictorial structures for object
recognition, IJCV 61, 2005); the search among candidates is that of Donner, Menze, Bischof and Langs (Global
localization of 3D anatomical structures, Medical Image Analysis 17, 2013). Here it is a fixed number of
rounds without decisions, in operations that an exported graph supports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lannunet_core import Floats, Loss, spatial_size
from lannunet_landmarks.maps.confidence import ProbabilityLoss, presence_in
from lannunet_landmarks.predict.predictor import of_landmarks
from lannunet_landmarks.predict.prior import DEGREES, squared_distances, with_sums_of

PARTNERS = 5  # of a landmark: those whose relative position varies least
WEIGHT = 1.5  # all partners together count as much as this many independent ones
DOUBT = 0.3  # probability that a partner is none of its candidates
FEWEST_IMAGES = 5  # with both landmarks of a pair
CANDIDATES = 5  # of a landmark
LEAST_SHARE = 0.01  # of the mass of the largest candidate; smaller ones are ignored
BLOCK = 4  # pixels of the input; of peaks in neighbouring blocks, the highest is a candidate
ROUNDS = 10
AT_ONCE = 2**24  # pixels of maps that are copied at a time
POOL: dict[int, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    2: (functional.max_pool2d, functional.avg_pool2d),
    3: (functional.max_pool3d, functional.avg_pool3d),
}


class Candidates(NamedTuple):
    """The highest peaks of maps.

    Attributes:
        masses: (B, N, K) the sums of the maps around them, or their heights, the largest first; 0 if there
            are fewer than K.
        points: (B, N, K, D) their positions in pixels of the image.
    """

    masses: Tensor
    points: Tensor


@dataclass(frozen=True, eq=False)
class ShapePrior:
    """The distribution of each landmark's position (x, y[, z]) relative to its P partners, in input pixels.

    It is Student's t with 3 degrees of freedom, whose heavy tails allow for shapes that differ from those of
    the training images: of the relative position, or of the distance, with all directions alike.

    Attributes:
        partners: (N, P) indices of landmarks; a landmark's own index where it has fewer than P.
        means: (N, P, D) the position of a landmark minus that of its partner.
        covariances: (N, P, D, D).
        distances: (N, P) the mean distance from a partner, if only the distance is used; else 0.
        spreads: (N, P) its standard deviation; else 1.
    """

    partners: NDArray[np.intp]
    means: Floats
    covariances: Floats
    distances: Floats
    spreads: Floats

    def __call__(self, maps: Tensor, size: Sequence[int], of_label: Tensor | None) -> Tensor:
        """Weight maps in candidate, so that a volume's maps are never copied as a whole.

        Args:
            maps: (B, N, *S) of whole images, at their resolution or a fraction of it.
            size: Size (x, y[, z]) of the images.
            of_label: (N,) or (), the sum of a map whose landmark is certainly in the image; None: the maps
                are no probabilities, and the peak of a landmark that is in the image has a height of 1.
        """
        at_once = max(AT_ONCE // maps[:, 0].numel(), 1)
        heights = of_label is None
        parts = [candidates_of(part, size, heights) for part in torch.split(maps, at_once, dim=1)]
        candidates = Candidates(*(torch.cat(one, 1) for one in zip(*parts, strict=True)))
        exist = candidates.masses > 0
        several = exist.sum(-1) > 1
        if several.any():
            factors = self.factors(candidates, maps, size, of_label)
            for one in map(tuple, several.nonzero()):
                points, factor = candidates.points[one][exist[one]], factors[one][exist[one]]
                found = by_candidate(
                    maps[one][None], points[None], factor[None], size=size, keep_sums=not heights
                )
                maps[one] = found[0]
        return maps

    def in_graph(self, maps: Tensor, size: Sequence[int], of_label: Tensor | None) -> Tensor:
        """As `__call__`, in operations that do not depend on the values, and with a copy of the maps."""
        candidates = candidates_of(maps, size, of_label is None)
        factors = self.factors(candidates, maps, size, of_label)
        every = (part.flatten(0, 1) for part in (maps, candidates.points, factors))
        return by_candidate(*every, size=size, keep_sums=of_label is not None).view(maps.shape)

    def factors(
        self, candidates: Candidates, maps: Tensor, size: Sequence[int], of_label: Tensor | None
    ) -> Tensor:
        """(B, N, K) what each candidate is multiplied with, for the arguments of `__call__`."""
        alone = shares(candidates.masses)
        heights = candidates.masses[..., 0]
        present = heights.clamp(0, 1) if of_label is None else presence_in(maps, of_label.to(maps))
        probability = self.probabilities(alone, candidates.points, present, size)
        factors = probability / torch.where(alone > 0, alone, 1)
        if of_label is not None:
            return factors
        chosen = factors.gather(-1, probability.argmax(-1, keepdim=True))
        return factors / torch.where(chosen > 0, chosen, 1)

    def probabilities(self, alone: Tensor, points: Tensor, present: Tensor, size: Sequence[int]) -> Tensor:
        """(B, N, K) the probability of each candidate, given the candidates of the partners.

        In each round, the logarithm of a candidate's probability is that of its share of the map, plus the
        mean over the partners, times `WEIGHT` (times D for a distance), of the logarithm of

            (1 − d) Σ_l q_l t(candidate − candidate_l) + d / A

        with the partner's candidates l and their probabilities q_l of the last round, the density t of the
        relative position, the area (volume) A of the image, and d the probability that the partner is none
        of its candidates.

        Args:
            alone: (B, N, K) each candidate's share of its map.
            points: (B, N, K, D) the candidates in pixels of the image.
            present: (B, N) the probability that a landmark is in the image.
            size: Size (x, y[, z]) of the images.
        """
        partners = torch.from_numpy(self.partners).to(points.device)  # (N, P)
        relative = points[:, :, None, :, None] - points[:, partners][:, :, :, None]  # (B, N, P, K, K, D)
        density, area = self.densities(relative), float(math.prod(size))
        used = self.partners != np.arange(len(self.partners))[:, None]
        informed = np.where(self.distances > 0, len(size), 1)  # a distance is one of D coordinates
        weights = WEIGHT * informed * used / np.maximum(used.sum(1, keepdims=True), 1)
        weight = torch.from_numpy(weights).to(points)[..., None]  # (N, P, 1)
        likely = ((1 - DOUBT) * present)[:, partners][..., None]  # (B, N, P, 1)
        probability = found = alone
        for _ in range(ROUNDS):
            probability = (probability + found) / 2  # damped: landmarks that confuse each other may swap
            of_partner = probability[:, partners][:, :, :, None]  # (B, N, P, 1, K)
            message = likely * (density * of_partner).sum(-1) + (1 - likely) / area
            fit = (weight * message.log()).sum(2)
            found = shares(alone * (fit - fit.amax(-1, keepdim=True)).exp())
        return found

    def densities(self, relative: Tensor) -> Tensor:
        """(B, N, P, K, K) the density of relative positions (B, N, P, K, K, D)."""

        def of_pairs(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(relative)[:, :, None, None]

        dimensions = relative.shape[-1]
        away, precisions = relative - of_pairs(self.means), np.linalg.inv(self.covariances)
        squares = (away[..., None, :] @ of_pairs(precisions))[..., 0, :].mul(away)
        scale = 0.5 * np.linalg.slogdet(self.covariances)[1]
        of_position = log_t(squares.sum(-1), dimensions) - of_pairs(scale)

        lengths = relative.square().sum(-1).sqrt()
        squares = ((lengths - of_pairs(self.distances)) / of_pairs(self.spreads)).square()
        scale = np.log(self.spreads) + log_surface(self.distances, dimensions)
        of_distance = log_t(squares, 1) - of_pairs(scale)
        return torch.where(of_pairs(self.distances) > 0, of_distance, of_position).exp()

    def mirrored(self, axis: int, swapped: NDArray[np.intp]) -> ShapePrior:
        """The prior in images that are mirrored along an axis (0 for x).

        Args:
            axis: The axis.
            swapped: (N,) the landmark that replaces each one in a mirrored image.
        """
        sign = np.where(np.arange(self.means.shape[-1]) == axis, -1.0, 1.0)
        return ShapePrior(
            swapped[self.partners[swapped]],
            self.means[swapped] * sign,
            self.covariances[swapped] * sign * sign[:, None],
            self.distances[swapped],
            self.spreads[swapped],
        )

    def learned(self) -> dict[str, Any]:
        """The prior as plain lists, for a model file."""
        return {
            "partners": self.partners.tolist(),
            "means": self.means.tolist(),
            "covariances": self.covariances.tolist(),
            "distances": self.distances.tolist(),
            "spreads": self.spreads.tolist(),
        }

    @classmethod
    def read(cls, learned: Mapping[str, Any]) -> ShapePrior:
        """The prior of `learned`."""
        partners = np.array(learned["partners"], np.intp)
        return cls(
            partners,
            np.array(learned["means"], np.float64),
            np.array(learned["covariances"], np.float64),
            np.array(learned.get("distances", np.zeros(partners.shape)), np.float64),  # earlier models: none
            np.array(learned.get("spreads", np.ones(partners.shape)), np.float64),
        )


def weighted(
    maps: Any, image: Tensor, prior: ShapePrior | None, loss: Loss, *, in_graph: bool = False
) -> Any:
    """The maps of images (B, C, *S), weighted with a prior if they are landmarks' and there is one."""
    if prior is None or not of_landmarks(maps, image, len(prior.partners)):
        return maps
    of_label = loss.perfect_mass(maps) if isinstance(loss, ProbabilityLoss) else None
    weigh = prior.in_graph if in_graph else prior
    return weigh(maps, spatial_size(image), of_label)


def shape_prior(shapes: Floats) -> ShapePrior | None:
    """The prior, from the annotated points of training images.

    For each pair of landmarks, the distribution with the lower entropy is used: that of the relative
    position, or that of the distance. Partners are those with the lowest entropy.

    Args:
        shapes: (images, N, D) in pixels of the input; NaN where there is none.

    Returns:
        The prior; None: no pair of landmarks is annotated in `FEWEST_IMAGES` images.
    """
    count, dimensions = shapes.shape[1:]
    partners = np.tile(np.arange(count)[:, None], min(PARTNERS, max(count - 1, 0)))
    means = np.zeros((*partners.shape, dimensions))
    covariances = np.tile(np.eye(dimensions), (*partners.shape, 1, 1))
    distances, spreads = np.zeros(partners.shape), np.ones(partners.shape)
    for landmark in range(count):
        relative = shapes[:, landmark, None] - shapes  # (images, N, D)
        known = np.isfinite(relative.sum(-1))
        pairs = np.flatnonzero((known.sum(0) >= FEWEST_IMAGES) & (np.arange(count) != landmark))
        relative, known = relative[:, pairs], known[:, pairs]
        mean, covariance = moments(relative, known)
        length, variance = (
            one.reshape(len(pairs)) for one in moments(np.linalg.norm(relative, axis=-1)[..., None], known)
        )
        gaussian = math.log(2 * math.pi * math.e)
        of_position = (np.linalg.slogdet(covariance)[1] + dimensions * gaussian) / 2
        of_distance = (np.log(variance) + gaussian) / 2 + log_surface(length, dimensions)
        best = np.argsort(np.minimum(of_position, of_distance), kind="stable")[: partners.shape[1]]
        here = (landmark, slice(len(best)))
        partners[here], means[here], covariances[here] = pairs[best], mean[best], covariance[best]
        directionless = (of_distance < of_position)[best]
        distances[here] = np.where(directionless, length[best], 0)
        spreads[here] = np.where(directionless, np.sqrt(variance[best]), 1)
    if not np.any(partners != np.arange(count)[:, None]):
        return None
    return ShapePrior(partners, means, covariances, distances, spreads)


def moments(values: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The means (P, D) and covariances (P, D, D) of the known ones of values (images, P, D).

    Variances include the uncertainty of a mean of few images, and of a candidate's position in its block.
    """
    known, images = known[..., None], known.sum(0)[:, None, None]
    mean = np.where(known, values, 0).sum(0) / images[:, 0]
    rest = np.where(known, values - mean, 0)
    covariance = np.einsum("inc,ind->ncd", rest, rest) / images
    dimensions = values.shape[-1]
    typical = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / dimensions
    added = 2 * BLOCK**2 / 12 + 2 * typical / images
    return mean, covariance * (1 + 1 / images) + added * np.eye(dimensions)


def log_t(squares: Tensor, dimensions: int) -> Tensor:
    """The logarithm of Student's t density at squared Mahalanobis distances, for a scale matrix of 1."""
    constant = math.lgamma((DEGREES + dimensions) / 2) - math.lgamma(DEGREES / 2)
    constant -= dimensions / 2 * math.log(DEGREES * math.pi)
    return constant - (DEGREES + dimensions) / 2 * (squares / DEGREES).log1p()


def log_surface(distances: Floats, dimensions: int) -> Floats:
    """The logarithm of the length of circles, or the area of spheres, of a radius of `BLOCK` at least."""
    radii = np.maximum(distances, BLOCK)
    surface: Floats = np.log(2 * math.pi * radii if dimensions == 2 else 4 * math.pi * radii**2)
    return surface


def candidates_of(maps: Tensor, size: Sequence[int], heights: bool) -> Candidates:
    """The candidates of maps (B, N, *S): the highest blocks among their neighbours, with these neighbours.

    Args:
        maps: (B, N, *S), at the resolution of the images or a fraction of it.
        size: Size (x, y[, z]) of the images.
        heights: Whether the mass of a candidate is its height instead of its sum: the sum of a map that is no
            probability depends on its background.
    """
    sides = spatial_size(maps)
    strides = [full / side for full, side in zip(size, sides, strict=True)]
    blocks = [max(round(BLOCK / stride), 1) for stride in strides]
    highest, mean = POOL[len(sides)]
    kernel = tuple(reversed(blocks))
    padded = functional.pad(maps, [pad for block in blocks for pad in (0, block - 1)]).clamp_(min=0)
    tops, sums = (pool(padded, kernel).nan_to_num(0, 0, 0) for pool in (highest, mean))

    def near(values: Tensor) -> Tensor:
        """The sum over a block and its neighbours."""
        beyond = functional.pad(
            values, [1, 1] * len(sides)
        )  # pooling in 3D refuses to pad fewer than 3 blocks
        return mean(beyond, 3, 1) * float(math.prod(blocks) * 3 ** len(sides))

    count = tops[0, 0].numel()
    number = torch.arange(1, count + 1).to(maps).view(tops.shape[2:])
    rank = torch.where((tops == highest(tops, 3, 1, 1)) & (tops > 0), number, 0)
    is_candidate = (rank > 0) & (rank == highest(rank, 3, 1, 1))  # one of neighbours that are equally high
    total = near(sums)
    masses = torch.where(is_candidate, tops if heights else total, 0)
    shown, index = masses.flatten(2).topk(min(CANDIDATES, count), -1)
    points = []
    for axis, (block, stride) in enumerate(zip(blocks, strides, strict=True)):
        line = (torch.arange(tops.shape[-1 - axis]).to(maps) + 0.5) * block * stride - 0.5
        moment = near(sums * line.view(-1, *[1] * axis)) / torch.where(total > 0, total, 1)
        points.append(moment.flatten(2).gather(2, index))
    shown = torch.where(shown >= LEAST_SHARE * shown[..., :1], shown, 0)
    return Candidates(shown, torch.stack(points, -1))


def by_candidate(
    maps: Tensor, points: Tensor, factors: Tensor, *, size: Sequence[int], keep_sums: bool
) -> Tensor:
    """Maps (M, *S) times the factor (M, K) of the nearest of their points (M, K, D).

    A candidate with the factor 0 does not exist. With `keep_sums`, the sum of each map stays.
    """
    nearest = torch.full_like(maps, torch.inf)
    factor = torch.ones_like(maps)
    for point, own in zip(points.unbind(1), factors.unbind(1), strict=True):
        exists = own.view(-1, *[1] * len(size)) > 0
        squares = squared_distances(maps[:, None], point, size)[:, 0]
        nearer = exists & (squares < nearest)
        factor = torch.where(nearer, own.view(exists.shape), factor)
        nearest = torch.where(nearer, squares, nearest)
    found: Tensor = maps * factor
    if not keep_sums:
        return found
    return with_sums_of(found[:, None], maps[:, None])[:, 0]


def shares(masses: Tensor) -> Tensor:
    """Masses (..., K), divided by their sum."""
    return masses / masses.sum(-1, keepdim=True).clamp(min=torch.finfo(masses.dtype).tiny)
