"""`lannunet serve RUN`: a local page for predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import echo


def command(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, a model file or a bundle.")],
    into: Annotated[
        Path, typer.Option(metavar="JSON", help="The annotation file into which corrections are merged.")
    ] = Path("corrected.json"),
    queue: Annotated[
        list[Path] | None, typer.Option(help="Images, folders of images, or folders of lannunet suggest.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the annotator; default: your login.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: a free one.")] = 0,
) -> None:
    """Show and correct predictions in the browser, or in 3D Slicer by MONAI Label's extension."""
    import secrets
    import socket
    from getpass import getuser

    import uvicorn

    from lannunet_core import UserError, api
    from lannunet_serve.app import make_app
    from lannunet_serve.looking import Model
    from lannunet_serve.queue import images_of
    from lannunet_serve.store import Store

    if into.suffix.lower() != ".json" or not into.absolute().parent.is_dir():
        raise UserError(f"--into: {into} is not a .json file in an existing folder.")
    opened = Model(api.load(model))
    about = opened.about
    names = about.outputs if about.task == "landmarks" else ()
    images = images_of(queue or [])
    store = Store(into, into.with_name(f"{into.stem}_images"), images, by or getuser(), names)
    token = secrets.token_urlsafe(24)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"--port: {port} cannot be used ({error.strerror}). Choose another.") from error
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}"
    echo(
        f"open {address}/ in a browser of this machine; it is also the server's address for 3D Slicer",
    )
    saved = f"saved to {into}" if names else "not saved: label maps are shown and passed to 3D Slicer"
    echo(f"{len(images)} images are queued; corrections are {saved}. End with Ctrl-C.")
    settings = uvicorn.Config(
        make_app(opened, store, token), log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(settings).run(sockets=[listening])
