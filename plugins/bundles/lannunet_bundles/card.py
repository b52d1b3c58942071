"""The model card: Markdown from a template, with the front matter that Hugging Face reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from lannunet_bundles.manifest import Card, Manifest
from lannunet_core import UserError

if TYPE_CHECKING:
    from jinja2 import Template


def read_card(path: Path) -> Card:
    """The author's description of a model, from YAML.

    Raises:
        UserError: The file cannot be read, or has other keys or values.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        known = ", ".join(Card.model_fields)
        raise UserError(f"{path}: {place}: {first['msg']}. A card has the keys {known}.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: is not YAML ({str(error).splitlines()[0]}).") from None


def render_card(manifest: Manifest) -> str:
    """The card of a bundle. Markdown and HTML in names are escaped; the author's texts are Markdown."""
    front = {
        "library_name": "lannunet",
        **({"license": manifest.card.license} if manifest.card.license else {}),
        "tags": ["medical", "lannunet", manifest.task, manifest.architecture],
    }
    return _template().render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        bundle=manifest,
        card=manifest.card,
        figures=list(figures(manifest)),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # for Markdown
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["name"] = lambda text: re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", str(text))
    return environment.get_template("card.md.j2")


def figures(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The overall metrics of each model's summary, for any task: rows with a confidence interval."""
    for path, summary in zip(manifest.models, manifest.metrics, strict=False):
        model = path.split("/")[0] if len(manifest.models) > 1 else manifest.architecture
        overall = summary.get("overall", {})
        for name, block in overall.items():
            if isinstance(block, Mapping) and isinstance(block.get("mean"), (int, float)):
                yield {
                    "model": model,
                    "name": name,
                    "value": block["mean"],
                    "interval": block.get("mean_ci95"),
                }
        unit = summary.get("unit", "")
        for row in overall.get("detection_rates") or ():
            name = f"within {row['radius']:g} {unit}"
            yield {"model": model, "name": name, "value": row["rate"], "interval": row.get("ci95")}
