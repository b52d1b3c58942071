"""One JSON schema of a configuration, for editors, with the sections of inspected plugins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lannunet_core.config.schema import DEFAULT_TASK
from lannunet_core.names import plain
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.task import Task
from lannunet_core.testing.inspection import Look

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(tasks: Sequence[Task], plugins: Iterable[tuple[InstalledPlugin, Look]]) -> dict[str, Any]:
    """The schema of any run of these tasks with these plugins, each with the result of its inspection."""
    plugins = list(plugins)
    definitions: dict[str, Any] = {}
    schema: dict[str, Any] = {}
    # The default task applies if no other is named.
    for task in sorted(tasks, key=lambda task: task.name != DEFAULT_TASK):
        own = _of_task(task, plugins)
        definitions |= own.pop("$defs")
        named = {"properties": {"task": {"const": task.name}}, "required": ["task"]}
        schema = {"if": named, "then": own, "else": schema} if schema else own
    return {"$schema": DIALECT, "$defs": definitions, **schema}


def _of_task(task: Task, plugins: Iterable[tuple[InstalledPlugin, Look]]) -> dict[str, Any]:
    schema: dict[str, Any] = _renamed(task.config.model_json_schema(), f"{plain(task.name)}.")
    definitions = schema["$defs"]
    names: dict[str, list[str]] = {"model": [], "trainer": []}
    for plugin, seen in plugins:
        name = plain(plugin.name)
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
    for path, (_, known) in task.names.items():
        section, key = path.split(".")
        _suggest(_keys(schema, section)[key], known)
    return schema


def _renamed(part: Any, prefix: str) -> Any:
    """A schema with prefixed names of definitions, as tasks use the same names for their sections."""
    if isinstance(part, list):
        return [_renamed(one, prefix) for one in part]
    if not isinstance(part, dict):
        return part
    renamed = {key: _renamed(value, prefix) for key, value in part.items()}
    if "$defs" in renamed:
        renamed["$defs"] = {prefix + name: definition for name, definition in renamed["$defs"].items()}
    if isinstance(part.get("$ref"), str):
        renamed["$ref"] = part["$ref"].replace("#/$defs/", f"#/$defs/{prefix}")
    return renamed


def _keys(schema: Mapping[str, Any], section: str) -> dict[str, Any]:
    reference = schema["properties"][section]["$ref"]
    properties: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]["properties"]
    return properties


def _suggest(key: dict[str, Any], names: Iterable[str]) -> None:
    """Editors complete these names; others are allowed, in other spellings or from other plugins."""
    kinds = key.pop("anyOf", None) or [{"type": key.pop("type")}]
    key["anyOf"] = [{"enum": list(names)}, *kinds]
