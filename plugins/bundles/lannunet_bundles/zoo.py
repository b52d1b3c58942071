"""A folder of bundles as a model zoo: `index.json` for programs, and a page of model cards for people."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from lannunet_report import write_page

from lannunet_bundles.archive import verified
from lannunet_bundles.card import figures
from lannunet_bundles.manifest import CARD
from lannunet_core import UserError, echo, lock_folder, write_text

FORMAT = 1
SHOWN = (
    *("task", "architecture", "outputs", "dimensions", "in_channels", "input_size", "spacing"),
    *("plugins", "plugin_files", "requires", "metrics", "card"),
)


def write_zoo(folder: Path) -> int:
    """Write `index.json` and `index.html` of the bundles in a folder; damaged ones are left out.

    Returns:
        The number of bundles.

    Raises:
        UserError: There are no bundles, or lannunet did not write an existing file with one of these names.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder.")
    entries, cards = [], []
    for path in sorted(folder.glob("*.lnb")):
        kept: dict[str, bytes] = {}
        try:
            manifest, digest = verified(path, kept_into(kept))
        except UserError as error:
            echo(f"warning: left out: {error}", err=True)
            continue
        described = manifest.model_dump(mode="json", include=set(SHOWN))
        entries.append(
            {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}
            | {key: described[key] for key in SHOWN}
        )
        cards.append(
            {
                "file": path.name,
                "sha256": digest,
                "megabytes": path.stat().st_size / 1e6,
                "bundle": manifest,
                "text": kept.get(CARD, b"").decode(errors="replace").partition("\n---\n")[2].strip(),
                "figures": [row for row in figures(manifest) if row["model"] == 0],
                "pictures": [
                    "data:image/jpeg;base64," + base64.b64encode(content).decode()
                    for name, content in kept.items()
                    if name.endswith(".jpg")
                ],
            }
        )
    if not entries:
        raise UserError(f"{folder}: there are no bundles (.lnb) in this folder.")
    lock_folder(folder)
    write_text(folder / "index.json", json.dumps({"format": FORMAT, "bundles": entries}, indent=1) + "\n")
    write_page(
        folder / "index.html",
        Path(__file__).with_name("zoo.html.j2"),
        {},
        {},
        title="Model zoo",
        charts=[],
        cards=cards,
    )
    return len(entries)


def kept_into(kept: dict[str, bytes]) -> Any:
    """A function that keeps the files that the page shows, and not the models."""

    def keep(name: str, content: bytes) -> None:
        if name == CARD or name.endswith(".jpg"):
            kept[name] = content

    return keep
