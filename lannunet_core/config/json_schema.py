"""One JSON schema of a configuration, for editors, with the sections of plugins that were looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lannunet_core.config.compose import NAMES
from lannunet_core.config.schema import RunConfig, SegmentationRunConfig
from lannunet_core.plugins.discovery import InstalledPlugin, fold
from lannunet_core.plugins.inspection import Look

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(plugins: Iterable[tuple[InstalledPlugin, Look]]) -> dict[str, Any]:
    """The schema of any run with these plugins, each with what a look at it found."""
    plugins = list(plugins)
    landmarks = _of_task(RunConfig, "landmarks", plugins)
    segmentation = _of_task(SegmentationRunConfig, "segmentation", plugins)
    definitions = landmarks.pop("$defs") | segmentation.pop("$defs")
    chosen = {"properties": {"task": {"const": "segmentation"}}, "required": ["task"]}
    return {
        "$schema": DIALECT,
        "$defs": definitions,
        "if": chosen,
        "then": segmentation,
        "else": landmarks,
    }


def _of_task(
    core: type[RunConfig], task: str, plugins: Iterable[tuple[InstalledPlugin, Look]]
) -> dict[str, Any]:
    schema = core.model_json_schema()
    definitions = schema["$defs"]
    names: dict[str, list[str]] = {"model": [], "trainer": []}
    for plugin, seen in plugins:
        name = fold(plugin.name)
        described = dict(seen.schema or {})
        for inner, definition in described.pop("$defs", {}).items():
            definitions[f"{name}.{inner}"] = definition
        definitions[name] = described
        section = "model" if "network" in seen.hooks else "trainer"
        names[section].append(plugin.name)
        for spelling in plugin.names:
            _keys(schema, section)[spelling] = {
                "$ref": f"#/$defs/{name}",
                "description": seen.description or f"Settings of the plugin {plugin.name}.",
            }
    _suggest(_keys(schema, "model")["architecture"], names["model"])
    _suggest(_keys(schema, "trainer")["plugins"]["items"], names["trainer"])
    for path, (_, known) in NAMES[task].items():
        section, key = path.split(".")
        _suggest(_keys(schema, section)[key], known)
    return schema


def _keys(schema: Mapping[str, Any], section: str) -> dict[str, Any]:
    reference = schema["properties"][section]["$ref"]
    properties: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]["properties"]
    return properties


def _suggest(key: dict[str, Any], names: Iterable[str]) -> None:
    """Editors complete these names; others are allowed, in other spellings or of other plugins."""
    del key["type"]
    key["anyOf"] = [{"enum": list(names)}, {"type": "string"}]
