"""A trained model as one graph: from an image's pixels to its landmarks in pixels of the image.

It computes the same as one pass of `LandmarkModel.predict`, as a single module of tensors. A decoder of a
plugin, or any decoder but the default, stays outside: then the graph returns the activated maps, and the
matrix to original pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lannunet_images import (
    Graph,
    PreparingInGraph,
    Window,
    level_scale,
    normalising_in_graph,
    transform_points,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from lannunet_core import Floats, UserError, ask_class, is_among, make_fabric, map_tensors, spatial_size
from lannunet_landmarks.evaluation.reliability import EDGE
from lannunet_landmarks.maps.coarse import decode_strided
from lannunet_landmarks.maps.confidence import ProbabilityLoss, reaches, with_masses_of
from lannunet_landmarks.maps.in_graph import decode_in_graph
from lannunet_landmarks.maps.peaks import finest
from lannunet_landmarks.predict.evaluator import in_stitched_patches
from lannunet_landmarks.predict.shape import weighted
from lannunet_landmarks.session import LandmarkSession, pixel_shape

TOLERANCE = {"points": 1e-3, "confidence": 1e-2, "presence": 1e-3}
"""Tolerances in pixels, and in shares: a pixel may be on either side of the radius around a point."""
LEAST = {2: 64, 3: 32}  # pixels per side of an image for a network without resizing
PROPORTIONS = ((1.0, 1.0, 1.0), (1.7, 1.3, 1.1), (0.6, 0.9, 0.8))
"""Ratios of the examples' sides to those of the network's input."""


class LandmarkGraph(nn.Module):
    """Image (C, *S) float32, and spacing (D,) if proportions are kept in mm → points (N, D) float64 in
    original pixels, confidence (N,) and, if it is decided, presence (N,)."""

    def __init__(self, session: LandmarkSession) -> None:
        super().__init__()
        config, run = session.config, session.run
        self.network, self.loss = session.learner.network, session.learner.loss
        self.prepare, self.calibrations = preparing(session), session.calibrations
        self.mode, self.correction = config.inference.evaluation_mode, torch.from_numpy(session.correction)
        self.thresholds = thresholds_of(session)
        made_by = session.defaults.made_by if session.defaults else None
        self.probable = made_by if isinstance(made_by, ProbabilityLoss) else None
        self.prior = session.shape_prior
        self.halo = 0
        with torch.no_grad():
            blank = torch.zeros(1, run.in_channels, *reversed(network_size(session)))
            maps = finest(session.learner.maps({"image": blank}))  # sets the stride of the loss, too
            self.strides = level_scale(network_size(session), spatial_size(maps))
            if self.probable is not None:
                mass = self.probable.perfect_mass(maps).double()
                self.halo = math.ceil(float(reaches(mass, run.dimensions).max()))

    def forward(self, image: Tensor, spacing: Tensor | None = None) -> tuple[Tensor, ...]:
        prepared, affine, size = self.prepare(image, spacing)
        maps = self.loss.activation(map_tensors(self.network(prepared), Tensor.float))
        maps = finest(weighted(maps, prepared, self.prior, self.loss, in_graph=True))
        found = decode_strided(decode_in_graph, maps, affine[None], size[None], self.mode, self.strides)
        if self.probable is not None:
            found = with_masses_of(found, maps, self.strides, self.probable, self.halo)
        points = found.points[0] - self.correction
        if self.mode != "use_input_size":
            points = transform_points(affine, points)
        raw = confidence = found.confidence[0].double()
        for one in self.calibrations:
            kept = confidence.clamp(EDGE, 1 - EDGE)
            probable = (one.intercept + one.slope * (kept / (1 - kept)).log()).sigmoid()
            confidence = torch.where(confidence == 0, 0, probable)
        if self.thresholds is None:
            return points, confidence
        presence = raw if found.presence is None else found.presence[0].double()
        present = presence >= torch.tensor(self.thresholds, dtype=torch.float64)
        return torch.where(present[:, None], points, torch.nan), confidence, presence


class MapsGraph(nn.Module):
    """Image, and spacing as in `LandmarkGraph` → the activated maps (1, K, *S), the affine (D + 1, D + 1)
    from input pixels to original pixels, and the image's size (D,)."""

    def __init__(self, session: LandmarkSession) -> None:
        super().__init__()
        self.network, self.loss = session.learner.network, session.learner.loss
        self.prepare, self.prior = preparing(session), session.shape_prior
        with torch.no_grad():
            blank = torch.zeros(1, session.run.in_channels, *reversed(network_size(session)))
            self.names = tuple(named(session.learner.maps({"image": blank})))

    def forward(self, image: Tensor, spacing: Tensor | None = None) -> tuple[Tensor, ...]:
        prepared, affine, size = self.prepare(image, spacing)
        maps = self.loss.activation(map_tensors(self.network(prepared), Tensor.float))
        maps = weighted(maps, prepared, self.prior, self.loss, in_graph=True)
        return (*named(maps).values(), affine, size)


def named(maps: Any, name: str = "maps") -> dict[str, Tensor]:
    """The tensors of a nest, by name."""
    if isinstance(maps, Tensor):
        return {name: maps}
    items = maps if isinstance(maps, Mapping) else {f"{name}_{n}": one for n, one in enumerate(maps)}
    return {key: one for inner, value in items.items() for key, one in named(value, inner).items()}


def graph_of(
    session: LandmarkSession, path: Path, predict: Callable[..., Sequence[Any]], size: Sequence[int] | None
) -> Graph:
    """A model as a graph; its session is moved to the CPU.

    Args:
        session: Session of the model.
        path: Path of the model, for messages.
        predict: Predicts images with a spacing, with one pass of each.
        size: Size (x, y[, z]) of all images; None: any size.

    Raises:
        UserError: The model cannot be exported.
    """
    refuse(session, path)
    if size is not None and len(size) != session.run.dimensions:
        raise UserError(
            f"--size: {list(size)} has {len(size)} numbers; images of {path} have {session.run.dimensions}."
        )
    session.fabric = make_fabric(session.config, "cpu")
    session.fabric.to_device(session.learner.eval())
    own = session.hooks.answering("get_coords_from_heatmap") is None
    own = own and is_among(session.config.inference.decoder, ("auto", "peak"))
    module = LandmarkGraph(session) if own else MapsGraph(session)
    about, decoder = described(session), None
    if isinstance(module, MapsGraph):
        outputs = (*module.names, "affine", "size")
        decoder = decoder_of(session, about)
    else:
        outputs = ("points", "confidence", "presence")[: 2 if module.thresholds is None else 3]

    def wanted(*given: NDArray[Any]) -> dict[str, Floats]:
        if not own and decoder is None:
            return {}
        spacing = given[1].tolist() if len(given) > 1 and (given[1] > 0).all() else None
        (found,) = predict([given[0]], spacing)
        answer = {"points": found.points, "confidence": found.confidence}
        if found.presence is not None and "presence" in outputs:
            answer["presence"] = found.presence
        return answer

    examples = [example(session, number, size) for number in range(len(PROPORTIONS))]
    least = 1 if session.config.sampler.image_size else LEAST[session.run.dimensions]
    return Graph(
        module=module.eval(),
        inputs=("image", "spacing")[: len(examples[0])],
        outputs=outputs,
        examples=examples,
        free={} if size else {axis + 1: least for axis in range(session.run.dimensions)},
        about=about,
        wanted=wanted,
        tolerance=TOLERANCE,
        decoder=decoder,
    )


def refuse(session: LandmarkSession, path: Path) -> None:
    """Raise a UserError for models that cannot be a graph."""
    hooks, reason = session.hooks, None
    if in_stitched_patches(session):
        reason = "predicts patch by patch (sampler.patch.inference_mode: patchify_and_stitch)"
    elif hooks.answered("network_inputs"):
        reason = "has a network with inputs in addition to the image"
    else:
        for hook in ("postprocess", "postprocess_all"):
            if (plugin := hooks.answering(hook)) is not None:
                reason = f"has predictions that plugin {plugin.name} post-processes in its hook '{hook}'"
    if reason is not None:
        raise UserError(f"{path}: {reason}, so it cannot be exported as a graph.")


def network_size(session: LandmarkSession) -> tuple[int, ...]:
    """The size (x, y[, z]) of the network's input; for images that keep their size, the smallest allowed
    one."""
    dimensions = session.run.dimensions
    return session.config.sampler.image_size or (LEAST[dimensions],) * dimensions


def thresholds_of(session: LandmarkSession) -> list[float] | None:
    """The probability from which each landmark is present; None: presence is not decided."""
    if not session.config.inference.presence or session.presence is None:
        return None
    return [float(one) for one in session.presence]


def preparing(session: LandmarkSession) -> PreparingInGraph:
    """The preprocessing in the graph; normalisations without an implementation there raise an error."""
    sampler, channels = session.config.sampler, session.run.in_channels
    names = sampler.normalisation
    names = [names] * channels if isinstance(names, str) else names
    windows = [None if clip is None else Window(*clip) for clip in sampler.clip or [None] * channels]
    found = normalising_in_graph("sampler.normalisation", names, windows)
    return PreparingInGraph(sampler.image_size, sampler.resize, found, shape_of(session), session.pixel)


def shape_of(session: LandmarkSession) -> tuple[float, ...] | None:
    """The proportions that a graph's letterbox keeps; None: in pixels, as no spacing was known in
    training."""
    sampler = session.config.sampler
    if sampler.image_size is None or sampler.resize == "stretch" or session.run.spacing is None:
        return None
    return pixel_shape(session.config, session.run)


def example(session: LandmarkSession, number: int, size: Sequence[int] | None) -> tuple[NDArray[Any], ...]:
    """A random image (C, *S) of blobs, and a spacing if the graph has that input."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(number)
    sides = zip(network_size(session), PROPORTIONS[number], strict=False)
    size = size or [max(round(side * share), 8) for side, share in sides]
    if session.config.sampler.image_size is None:
        size = [max(side, LEAST[session.run.dimensions]) for side in size]
    noise = rng.normal(size=(session.run.in_channels, *reversed(size)))
    smooth = gaussian_filter(noise, (0, *[min(size) / 16] * len(size)))
    image = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    if shape_of(session) is None:
        return (image,)
    spacing = [(0.5,) * len(size), (0.3, 0.4, 0.5)[: len(size)], (0.0,) * len(size)][number]
    return image, np.array(spacing)


def described(session: LandmarkSession) -> dict[str, Any]:
    """The metadata for users of the graph, ready for JSON."""
    config, run = session.config, session.run
    last = session.calibrations[-1] if session.calibrations else None
    of = "the network's input" if config.inference.evaluation_mode == "use_input_size" else "the image"
    inference = config.inference
    return {
        "task": "landmarks",
        "image": f"(C, {'z, ' * (run.dimensions - 2)}y, x), as it is stored",
        "channels": run.in_channels,
        "landmarks": list(run.outputs),
        "points": f"(x, y{', z' * (run.dimensions - 2)}) in pixels of {of}, their centres at integers",
        "spacing": "mm per pixel in the order of points, 0 where unknown" if shape_of(session) else None,
        "network_size": None if config.sampler.image_size is None else list(config.sampler.image_size),
        "radius": None if last is None else [last.radius, last.unit],
        "calibrations": [[one.intercept, one.slope] for one in session.calibrations],
        "offsets": session.correction.tolist(),
        "present_from": thresholds_of(session),
        "left_out": [f"inference.{key}" for key in ("tta", "mc_dropout") if getattr(inference, key)],
    }


def decoder_of(session: LandmarkSession, about: dict[str, Any]) -> str | None:
    """The source of `decoded(answers, about)`, from a plugin that provides its own decoder in NumPy.

    Values that the source needs are added to `about`.
    """
    plugin = session.hooks.answering("get_coords_from_heatmap")
    for chosen in session.loaded.plugins:
        if chosen.installed == plugin and hasattr(chosen.plugin_class, "decoder_in_numpy"):
            source, settings = ask_class(plugin, chosen.plugin_class.decoder_in_numpy, chosen.config)
            mode = session.config.inference.evaluation_mode
            about["decoder"] = {**settings, "evaluation_mode": mode}
            ours = Path(__file__).with_name("decoded_in_numpy.py").read_text(encoding="utf-8")
            return f"{source}\n\n{ours}"
    about["left_out"] += ["inference.decoder" if plugin is None else f"the decoder of plugin {plugin.name}"]
    return None
