"""The predictions for the images of a session, with a cache of the latest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from lannunet_images import IMAGE_FILES
from starlette.concurrency import run_in_threadpool

from lannunet_core import Image, Placement, UserError, api
from lannunet_serve.store import Served, Store

REMEMBERED = 4  # images: a volume may take a gigabyte


@dataclass(frozen=True)
class Looked:
    """An image and its prediction.

    Attributes:
        image: Pixels (C, [z,] y, x) and spacing.
        found: `Landmarks` or `Segmentation`.
        placement: Geometry of the voxels; None: unknown.
    """

    image: Image
    found: Any
    placement: Placement | None


class Model:
    """A model in memory, for several threads.

    Args:
        model: A model of any task.
    """

    def __init__(self, model: api.Model[Any]) -> None:
        self.about, self._model = model.about, model
        self._turn = threading.Lock()
        self._known: OrderedDict[str, Looked] = OrderedDict()

    def look(self, served: Served) -> Looked:
        """Predict an image.

        Raises:
            UserError: The image cannot be read, or does not fit the model.
        """
        with self._turn:
            if served.key not in self._known:
                image = IMAGE_FILES.read(served.path, self.about.dimensions)
                found = self._model.predict(served.path)
                self._known[served.key] = Looked(image, found, IMAGE_FILES.placement(served.path))
            self._known.move_to_end(served.key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return self._known[served.key]


async def keep_upload(model: Model, store: Store, name: str, body: AsyncIterator[bytes]) -> Served:
    """Keep an uploaded image if the model accepts it.

    Raises:
        UserError: The model does not accept it.
    """
    served = await store.upload(name, body)
    try:
        await run_in_threadpool(model.look, served)
    except UserError:
        store.remove(served)
        raise
    return served


def points_of(found: Any) -> list[dict[str, Any]]:
    """The landmarks of a prediction, for JSON; `at` is None for landmarks that were not found."""
    radius = None if found.radius is None else in_pixels(found)
    return [
        {
            "name": name,
            "at": None if np.isnan(point).any() else [round(float(value), 3) for value in point],
            "confidence": round(float(confidence), 4),
            "radius": radius,
            "absent": found.present is not None and not bool(found.present[index]),
        }
        for index, (name, point, confidence) in enumerate(
            zip(found.names, found.points, found.confidence, strict=True)
        )
    ]


def in_pixels(found: Any) -> float:
    """The radius of the confidence in pixels, computed with the mean side of non-square pixels."""
    steps = 1.0 if found.unit == "px" or found.spacing is None else float(np.mean(found.spacing))
    return round(float(found.radius) / steps, 3)
