"""A trained model as one graph: from a patch of a prepared image to its class probabilities.

An image is predicted in overlapping patches, so resampling, normalising and stitching stay outside; their
parameters are stored beside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lannunet_images import Graph
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lannunet_core import Floats, UserError, make_fabric, map_tensors
from lannunet_segmentation.predict.sliding import patch_scores
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import Settings

EXAMPLES = 2
SHARES = 1e-3  # tolerance of a probability


class PatchGraph(nn.Module):
    """Patch (1, C, *P) float32 → probabilities (1, K, *P)."""

    def __init__(self, network: nn.Module, loss: Any) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, patch: Tensor) -> Tensor:
        maps: Tensor = self.loss.activation(map_tensors(self.network(patch), Tensor.float))
        if maps.shape[2:] != patch.shape[2:]:
            mode = "bilinear" if patch.ndim == 4 else "trilinear"
            maps = functional.interpolate(maps, patch.shape[2:], mode=mode)
        return maps


def graph_of(
    session: SegmentationSession, settings: Settings, path: Path, size: Sequence[int] | None
) -> Graph:
    """A model as a graph, without mirrored passes and post-processing; its session is moved to the CPU.

    Args:
        session: Session of the model.
        settings: Preparation of its images.
        path: Path of the model, for messages.
        size: Size (x, y[, z]) of a patch; None: as in its training.

    Raises:
        UserError: The model cannot be exported.
    """
    hooks, run = session.hooks, session.run
    if hooks.answered("network_inputs"):
        raise UserError(
            f"{path}: has a network with inputs besides the image, so it cannot be exported as a graph."
        )
    session.fabric = make_fabric(session.config, "cpu")
    session.fabric.to_device(session.learner)
    learner = session.learner.eval()
    patch = tuple(size or run.input_size)
    if len(patch) != run.dimensions:
        raise UserError(f"--size: {list(patch)} has {len(patch)} numbers; patches have {run.dimensions}.")

    def wanted(given: NDArray[Any]) -> dict[str, Floats]:
        with torch.no_grad():
            found = patch_scores(learner.run_network, torch.from_numpy(given), learner.loss.activation, False)
        return {"probabilities": found.double().numpy()}

    rng = np.random.default_rng(0)
    shape = (1, run.in_channels, *reversed(patch))
    left_out = [
        f"the hook '{hook}' of plugin {plugin.name}"
        for hook in ("get_segmentation", "postprocess", "postprocess_all")
        if (plugin := hooks.answering(hook)) is not None
    ]
    return Graph(
        module=PatchGraph(learner.network, learner.loss).eval(),
        inputs=("patch",),
        outputs=("probabilities",),
        examples=[(rng.normal(size=shape).astype(np.float32),) for _ in range(EXAMPLES)],
        free={},
        about={
            "task": "segmentation",
            "patch": f"(1, C, {'z, ' * (run.dimensions - 2)}y, x), of an image prepared as described here",
            "channels": run.in_channels,
            "classes": list(run.outputs),
            "regions": [list(labels) for labels in run.regions],
            "patch_size": list(patch),
            "spacing": None if settings.spacing is None else list(settings.spacing),
            "interpolation": settings.interpolation,
            "normalisation": list(settings.normalisation),
            "normalised_by_plugins": list(settings.brought_by),
            "clip": [None if one is None else list(one) for one in settings.clip],
            "nnunet": None if settings.nnunet is None else asdict(settings.nnunet),
            "mirrored": session.config.inference.tta,
            "left_out": left_out,
        },
        wanted=wanted,
        tolerance={"probabilities": SHARES},
    )
