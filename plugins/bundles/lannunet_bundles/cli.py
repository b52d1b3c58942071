"""`lannunet bundle`: each of its commands imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lannunet_bundles.cli_export import export
from lannunet_core import UserError, echo

Bundle = Annotated[Path, typer.Argument(help="A bundle (.lnb), or its address with its hash.")]


def group(function: Callable[[], None]) -> typer.Typer:
    """A group of commands; its help is the docstring of a function, which `lannunet --help` reads."""
    made = typer.Typer(no_args_is_help=True)
    made.callback()(function)
    return made


@group
def app() -> None:
    """Make, verify and show bundles: trained models as one file."""


@app.command()
def create(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, one per fold, or model files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write, NAME.lnb.")],
    card: Annotated[
        Path | None, typer.Option(help="A YAML that describes the model: data, intended_use, limits …")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A file of lannunet calibrate; predictions will use it.")
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Include thumbnails of the evaluated images.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="An Ed25519 private key (PEM) that signs the bundle.")
    ] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE",
            help="A Python file with a plugin; its code runs, and is not included.",
        ),
    ] = None,
) -> None:
    """Write the models of runs into one file with a card, and without information about this machine."""
    from lannunet_bundles.archive import verified
    from lannunet_bundles.create import create_bundle

    manifest = create_bundle(
        runs,
        output,
        card=card,
        calibration=calibration,
        thumbnails=thumbnails,
        key=key,
        plugins=plugins or (),
    )
    if pictures := sum(name.endswith(".jpg") for name in manifest.files):
        echo(f"the bundle contains {pictures} pictures of evaluated images: check that they may be shared")
    lacking = [
        key for key in ("data", "intended_use", "limits", "license") if not getattr(manifest.card, key)
    ]
    if lacking:
        echo(f"the model card lacks: {', '.join(lacking)} (--card FILE, a YAML with these keys)")
    _, digest = verified(output)
    echo(f"{output} is written: {output.stat().st_size / 1e6:.1f} MB, sha256={digest}")


@app.command()
def show(
    bundle: Bundle,
    as_json: Annotated[bool, typer.Option("--json", help="Print its manifest as JSON.")] = False,
) -> None:
    """Verify a bundle, and print its manifest."""
    from lannunet_bundles.archive import verified
    from lannunet_bundles.manifest import CARD
    from lannunet_core import terminal_text

    kept: list[bytes] = []

    def keep(name: str, content: bytes) -> None:
        if name == CARD:
            kept.append(content)

    manifest, digest = verified(_file(bundle), keep)
    if as_json:
        print(manifest.text(), end="")
        return
    for line in b"".join(kept).decode(errors="replace").splitlines():
        echo(terminal_text(line))
    echo(f"\nmade by {terminal_text(manifest.made_by)}, sha256={digest}")


@app.command()
def verify(
    bundle: Bundle,
    public_key: Annotated[
        Path | None, typer.Option(help="An Ed25519 public key (PEM): check that its owner signed it.")
    ] = None,
) -> None:
    """Check that a bundle is complete and contains no code; with a key, that its owner signed it."""
    from lannunet_bundles.archive import verified
    from lannunet_bundles.manifest import MANIFEST, SIGNATURE
    from lannunet_bundles.signature import is_signed

    kept: dict[str, bytes] = {}

    def keep(name: str, content: bytes) -> None:
        if name in (MANIFEST, SIGNATURE):
            kept[name] = content

    manifest, digest = verified(_file(bundle), keep)
    signature = kept.get(SIGNATURE)
    if public_key is not None:
        if signature is None:
            raise UserError(f"{bundle}: is not signed. Remove --public-key, or get a signed bundle.")
        if not is_signed(public_key, kept[MANIFEST], signature):
            raise UserError(f"{bundle}: was not signed by the owner of {public_key}. Do not use it.")
        signed = f"signed by the owner of {public_key}"
    else:
        signed = "signed (--public-key FILE shows by whom)" if signature else "not signed"
    echo(f"{bundle}: OK, {len(manifest.files)} files, {signed}, sha256={digest}")


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="A folder of bundles.")],
) -> None:
    """Write index.json and index.html of a folder of bundles: a model zoo."""
    from lannunet_bundles.zoo import write_zoo

    echo(f"{folder / 'index.html'}: {write_zoo(folder)} bundles")


app.command()(export)


def _file(bundle: Path) -> Path:
    """The bundle as a local file; it is downloaded if `bundle` is an address."""
    address = bundle.as_posix()
    if address.startswith("hf:/"):
        from lannunet_bundles.hub import file_from_hub

        return file_from_hub(bundle)
    if address.startswith(("https:/", "http:/")):
        from lannunet_bundles.fetch import fetched_file

        return fetched_file(bundle)
    return bundle
