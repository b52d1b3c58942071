"""Access control for every route: the sender of a request, its page, and its size.

The server listens only on the loopback interface, which other programs of this machine, and pages in its
browser, can reach. Each request therefore needs the token in its path, a loopback name in `Host` (a page with
DNS rebinding to 127.0.0.1 has another one), and no foreign `Origin`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 1 << 30  # bytes: an image of 512 × 512 × 1000 voxels of 4 bytes
LOCAL = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address has the token
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class TooLarge(Exception):
    """A body exceeds the size limit; raised while it is read."""


class Guard:
    """Refuses requests before they reach `app`; `app` gets paths without the token.

    Args:
        app: The guarded application; it creates the response for `TooLarge`.
        token: The first part of each path.
        largest: Maximum bytes of a body.
    """

    def __init__(self, app: ASGIApp, token: str, largest: int = LARGEST_BODY) -> None:
        self.app, self.token, self.largest = app, token, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if refused := self.refusal(scope["path"], headers):
            await refused(scope, receive, send)
            return
        read = 0

        async def counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.largest:
                raise TooLarge(self.largest)
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(dict(scope, root_path=f"/{self.token}"), counting, with_headers)

    def refusal(self, path: str, headers: Mapping[str, str]) -> PlainTextResponse | None:
        """The response that refuses a request; None: the request is allowed."""
        token = path.split("/")[1] if path.startswith("/") else ""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return PlainTextResponse(
                "This address lacks the token. Use the one that lannunet serve printed.", 403
            )
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in LOCAL and host not in LOCAL:
            return PlainTextResponse("Only requests from this machine are allowed.", 403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("Only the page of this server may ask.", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return PlainTextResponse("Only the page of this server may ask.", 403)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.largest:
            return too_large(self.largest)
        return None


def too_large(largest: int) -> PlainTextResponse:
    return PlainTextResponse(f"More than {largest >> 20} MB are not accepted.", 413, {"connection": "close"})
