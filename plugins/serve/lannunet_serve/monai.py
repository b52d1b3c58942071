"""MONAI Label's REST interface for inference, which 3D Slicer's extension calls.

The address of the server for Slicer is that of the page, with its token. The responses follow
https://docs.monai.io/projects/label: `/info/`, `/infer/{model}`, `/datastore/` with its images, and
`/activelearning/{strategy}` for the next image of the queue. Landmarks are returned as points, and as a label
map with a ball for each, which the extension shows. Training is not supported.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from lannunet_landmarks import World
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lannunet_core import UserError
from lannunet_serve.looking import Looked, Model, keep_upload, points_of
from lannunet_serve.store import Served, Store

NAME, STRATEGY = "lannunet", "queue"
BALL = 2.0  # voxels: the radius of a landmark in a label map
RESULT = "label.nii.gz"


def monai_routes(model: Model, store: Store) -> list[Route]:
    label = MonaiLabel(model, store)
    return [
        Route("/info/", label.info),
        Route("/infer/{model}", label.infer, methods=["POST"]),
        Route("/activelearning/{strategy}", label.next_sample, methods=["POST"]),
        Route("/datastore/", label.datastore),
        Route("/datastore/", label.add_image, methods=["PUT"]),
        Route("/datastore/image", label.download),
    ]


class MonaiLabel:
    """The routes."""

    def __init__(self, model: Model, store: Store) -> None:
        self.model, self.store = model, store

    @property
    def labels(self) -> dict[str, int]:
        """The values of the label map that `infer` returns."""
        names = self.model.about.outputs
        first = 0 if self.model.about.task == "segmentation" else 1
        return {name: value for value, name in enumerate(names, first) if value}

    def info(self, request: Request) -> Response:
        about = self.model.about
        described = {
            "type": "segmentation",
            "labels": self.labels,
            "dimension": about.dimensions,
            "description": f"{about.task} by LannU-Net",
            "config": {},
        }
        return JSONResponse(
            {
                "name": "LannU-Net",
                "description": "Inference with a trained model; nothing is trained here.",
                "version": "1",
                "labels": list(self.labels),
                "models": {NAME: described},
                "trainers": {},
                "strategies": {STRATEGY: {"description": "The next image of the queue"}},
                "scoring": {},
                "train_stats": {},
                "datastore": self.status(),
            }
        )

    def status(self) -> dict[str, Any]:
        saved = [one["saved"] for one in self.store.state()["images"]]
        return {"total": len(saved), "completed": sum(saved), "label_tags": {}, "train": []}

    def datastore(self, request: Request) -> Response:
        if request.query_params.get("output") != "all":
            return JSONResponse(self.status())
        objects = {
            one.key: {"image": {"ext": one.path.suffix, "info": {"name": one.name}}, "labels": {}}
            for one in self.store.images.values()
        }
        return JSONResponse({"name": "LannU-Net", "description": "", "objects": objects})

    async def add_image(self, request: Request) -> Response:
        async with request.form(max_files=1) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise UserError('The form has no field "file".')
            served = await self._kept(file)
        return JSONResponse({"image": served.key})

    async def _kept(self, file: UploadFile) -> Served:
        async def parts() -> Any:
            while part := await file.read(1 << 20):
                yield part

        return await keep_upload(self.model, self.store, Path(file.filename or "").name, parts())

    def named(self, request: Request) -> Served:
        key = request.query_params.get("image", "")
        if key not in self.store.images:
            raise UserError("There is no such image.")
        return self.store.images[key]

    def download(self, request: Request) -> Response:
        served = self.named(request)
        return FileResponse(served.path, filename=served.path.name)

    def next_sample(self, request: Request) -> Response:
        left = [one for one in self.store.state()["images"] if not one["saved"]]
        if not left:
            return JSONResponse({})
        return JSONResponse({"id": left[0]["key"], "name": left[0]["name"]})

    async def infer(self, request: Request) -> Response:
        if request.path_params["model"] != NAME:
            return PlainTextResponse(f"There is no such model; there is {NAME}.", 404)
        output = request.query_params.get("output", "all")
        if output not in ("all", "image", "json"):
            raise UserError("output must be one of all, image, json.")
        async with request.form(max_files=2) as form:
            file = form.get("file")
            served = await self._kept(file) if isinstance(file, UploadFile) else self.named(request)
        looked = await run_in_threadpool(self.model.look, served)
        described: dict[str, Any] = {"label_names": self.labels, "image": served.key}
        if self.model.about.task == "landmarks":
            described |= {"points": points_of(looked.found), "lps": in_lps(looked)}
        if output == "json":
            return JSONResponse(described)
        written = await run_in_threadpool(label_file, looked)
        if output == "image":
            return Response(written, media_type="application/octet-stream")
        return multipart(described, written)


def in_lps(looked: Looked) -> list[list[float] | None] | None:
    """The points in mm in the world coordinates of DICOM and 3D Slicer; None: the image has no geometry."""
    if looked.placement is None:
        return None
    points = World.of(looked.placement, looked.found.points.shape[1]).points(looked.found.points)
    return [None if np.isnan(point).any() else [float(value) for value in point] for point in points]


def label_file(looked: Looked) -> bytes:
    """A label map as NIfTI, in the geometry of the image."""
    import SimpleITK as sitk

    found = looked.found
    labels = found.labels if hasattr(found, "labels") else balls(found.points, looked.image.pixels.shape[1:])
    image = sitk.GetImageFromArray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))
    if (placed := looked.placement) is not None and len(placed.spacing) == labels.ndim:
        image.SetSpacing([float(step) for step in placed.spacing])  # type: ignore[no-untyped-call]
        image.SetOrigin([float(value) for value in placed.origin])  # type: ignore[no-untyped-call]
        image.SetDirection([float(value) for value in np.ravel(placed.direction)])  # type: ignore[no-untyped-call]
    with TemporaryDirectory() as folder:
        path = Path(folder) / RESULT
        sitk.WriteImage(image, str(path), True)
        return path.read_bytes()


def balls(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """A label map (*S) with a ball around each point (N, D); the first landmark is 1."""
    labels = np.zeros(shape, np.uint16)
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * len(shape), indexing="ij"), -1).reshape(-1, len(shape))
    grid = grid[np.linalg.norm(grid, axis=1) <= BALL]
    for value, point in enumerate(points, 1):
        if np.isfinite(point).all():
            places = np.round(point[::-1]).astype(int) + grid
            inside = places[((places >= 0) & (places < shape)).all(axis=1)]
            labels[tuple(inside.T)] = value
    return labels


def multipart(described: Any, label: bytes) -> Response:
    """The documented form: `params`, and the label map as `image`."""
    boundary = secrets.token_hex(16)
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(described)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{RESULT}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + label
    body += f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
