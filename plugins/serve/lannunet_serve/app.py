"""The page's server: routes of the page, and those of MONAI Label, behind the guard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lannunet_core import RunFailed, UserError
from lannunet_serve.guard import LARGEST_BODY, Guard, TooLarge, too_large
from lannunet_serve.looking import Model, keep_upload, points_of
from lannunet_serve.monai import monai_routes
from lannunet_serve.pictures import labels_png, plane_png
from lannunet_serve.store import Conflict, Served, Store

STATIC = Path(__file__).with_name("static")
FILES = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
LARGEST_POINTS = 1 << 20  # maximum bytes of a request without an image


def make_app(model: Model, store: Store, token: str, largest: int = LARGEST_BODY) -> Guard:
    """The whole server as an ASGI application."""
    page = Page(model, store)
    routes = [
        *(Route(path, static(name)) for path, name in FILES.items()),
        Route("/state", page.state),
        Route("/images", page.upload, methods=["POST"]),
        Route("/images/{key}", page.image),
        Route("/images/{key}", page.save, methods=["PUT"]),
        Route("/images/{key}/plane", page.plane),
        Route("/images/{key}/labels", page.labels),
        *monai_routes(model, store),
    ]
    handlers: dict[Any, Any] = {
        UserError: refused,
        RunFailed: failed,
        TooLarge: over_size,
        Conflict: conflicting,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, largest)


def static(name: str) -> Any:
    def give(request: Request) -> Response:
        return FileResponse(STATIC / name)

    return give


def refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 422)


def failed(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 500)


def over_size(request: Request, error: Exception) -> Response:
    return too_large(error.args[0])


def conflicting(request: Request, error: Exception) -> Response:
    return PlainTextResponse("Another user saved this image in the meantime. Open it again.", 409)


class Page:
    """The routes of the page; see `static/page.js`, which calls them."""

    def __init__(self, model: Model, store: Store) -> None:
        self.model, self.store = model, store

    def served(self, request: Request) -> Served:
        key = request.path_params["key"]
        if key not in self.store.images:
            raise UserError("There is no such image. Reload the page.")
        return self.store.images[key]

    def state(self, request: Request) -> Response:
        about = self.model.about
        return JSONResponse({"task": about.task, "dimensions": about.dimensions, **self.store.state()})

    async def upload(self, request: Request) -> Response:
        served = await keep_upload(
            self.model, self.store, request.query_params.get("name", ""), request.stream()
        )
        return JSONResponse({"key": served.key, "name": served.name}, 201)

    def image(self, request: Request) -> Response:
        served = self.served(request)
        looked = self.model.look(served)
        size = looked.image.pixels.shape[:0:-1]
        described: dict[str, Any] = {"key": served.key, "name": served.name, "size": size}
        if self.model.about.task == "landmarks":
            unit = "mm" if looked.found.spacing is not None else "px"
            described |= {"points": points_of(looked.found), "unit": unit}
            described |= {"radius": looked.found.radius, "saved": self.store.points_of(served)}
        else:
            described["classes"] = looked.found.names
        return JSONResponse(described)

    async def save(self, request: Request) -> Response:
        served = self.served(request)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_POINTS:
                raise TooLarge(LARGEST_POINTS)
        try:
            given = json.loads(body)
            points, before = list(given["points"]), given["before"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f"The landmarks cannot be read ({type(error).__name__}).") from error
        if len(points) != len(self.store.names):
            raise UserError(f"{len(points)} landmarks are given, but the model has {len(self.store.names)}.")
        return JSONResponse({"saved": await run_in_threadpool(self.store.save, served, points, before)})

    def plane(self, request: Request) -> Response:
        pixels = self.model.look(self.served(request)).image.pixels
        return Response(plane_png(pixels, plane_of(request, pixels.shape)), media_type="image/png")

    def labels(self, request: Request) -> Response:
        looked = self.model.look(self.served(request))
        if self.model.about.task != "segmentation":
            raise UserError("This model predicts landmarks, not label maps.")
        z = plane_of(request, looked.image.pixels.shape)
        return Response(labels_png(looked.found.labels, z), media_type="image/png")


def plane_of(request: Request, shape: tuple[int, ...]) -> int:
    """The requested plane of an image (C, [z,] y, x)."""
    depth = shape[1] if len(shape) == 4 else 1
    try:
        return min(max(int(request.query_params.get("z", "0")), 0), depth - 1)
    except ValueError:
        raise UserError("z is not a whole number.") from None
