# What follows a plugin's `decode` in the file beside an exported graph.

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGE = 1e-4  # raw confidences closer to 0 or 1 are not distinguished
decode: Callable[..., tuple[NDArray[Any], NDArray[Any]]]


def decoded(answers: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The points (N, D) and confidences (N,) from the graph's outputs for an image.

    Args:
        answers: Outputs of the graph, by name.
        about: Metadata of the graph.
    """
    points, confidence = decode(answers, about["decoder"])  # noqa: F821
    points = points - np.array(about["offsets"])  # in pixels of the network's input
    if about["present_from"] is not None:
        points = np.where((confidence >= about["present_from"])[:, None], points, np.nan)
    if about["decoder"]["evaluation_mode"] != "use_input_size":
        points = points @ answers["affine"][:-1, :-1].T + answers["affine"][:-1, -1]
    for intercept, slope in about["calibrations"]:
        kept = np.clip(confidence, EDGE, 1 - EDGE)
        probable = 1 / (1 + np.exp(-(intercept + slope * np.log(kept / (1 - kept)))))
        confidence = np.where(confidence == 0, 0.0, probable)
    return {"points": points, "confidence": confidence}
