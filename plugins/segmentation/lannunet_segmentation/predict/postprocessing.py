"""Keep only the largest component of a class, if a cross-validation has shown that it helps.

`lannunet evaluate --runs` decides this and writes `postprocessing.json`, which `lannunet predict
--postprocess` reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lannunet_core import UserError, located, terminal_text
from lannunet_segmentation.types import Labels

POSTPROCESSING = "postprocessing.json"
"""Name of the file, in the folder of a cross-validated run or of a model."""
KEY = "largest_component"


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest component of a mask (*S), the first if tied. Voxels with a common corner are connected."""
    parts, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    if count < 2:
        return mask
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax())


def keep_largest(labels: Labels, classes: Sequence[int]) -> Labels:
    """Labels (*S) with only the largest component of these classes; other components become background."""
    found = labels.copy()
    boxes = ndimage.find_objects(labels, max_label=max(classes, default=1))
    for index in classes:
        if (box := boxes[index - 1]) is not None:
            mask = labels[box] == index
            found[box][mask & ~largest_component(mask)] = 0
    return found


def read_postprocessing(model: Path, class_names: Sequence[str]) -> tuple[int, ...]:
    """The classes of a model for which only the largest component is kept.

    Args:
        model: A run's folder, or that of a cross-validated run, or a bundle.
        class_names: The K classes, background first.

    Raises:
        UserError: It was not decided for this model, or for other classes.
    """
    folder = located(model)
    is_fold = folder.name.startswith("fold") and folder.name[4:].isdecimal()
    places = [folder, folder.parent] if is_fold else [folder]
    path = next((place / POSTPROCESSING for place in places if (place / POSTPROCESSING).is_file()), None)
    if path is None:
        raise UserError(
            f"--postprocess: {folder / POSTPROCESSING} is missing. It is decided on the held-out cases of a "
            "cross-validation: train folds with inference.split: validation, then lannunet evaluate --runs."
        )
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        names = told[KEY]
        if not all(isinstance(name, str) and name in class_names[1:] for name in names):
            raise ValueError(f"{KEY} has a class that the model does not find")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read ({terminal_text(str(error))}). Write it again: lannunet evaluate --runs."
        ) from None
    return tuple(class_names.index(name) for name in names)
