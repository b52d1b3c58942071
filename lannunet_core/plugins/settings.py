"""A plugin's settings as a table, from the JSON schema of its Config."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Setting:
    """One key as in YAML (dotted in an inner section), and a description of its type and bounds.

    The default is None also if the key is required.
    """

    key: str
    type: str
    default: Any
    required: bool
    description: str

    @property
    def shown_default(self) -> str:
        return "(required)" if self.required else _inline(self.default)


def settings(schema: Schema) -> list[Setting]:
    """The keys of a model's JSON schema (from pydantic), in its order."""
    definitions = schema.get("$defs", {})

    def resolved(part: Schema) -> Schema:
        if "$ref" not in part:
            return part
        name = part["$ref"].rpartition("/")[2]
        # A reference is `<plugin>.<model>`, a definition `<model>`.
        inner: Schema = definitions[name if name in definitions else name.partition(".")[2]]
        return {**inner, **{key: value for key, value in part.items() if key != "$ref"}}

    def walk(section: Schema, prefix: str = "") -> Iterator[Setting]:
        for key, written in section.get("properties", {}).items():
            part = resolved(written)
            if "properties" in part and prefix.count(".") < 5:
                yield from walk(part, f"{prefix}{key}.")
            else:
                required = key in section.get("required", ())
                about = part.get("description", "")
                yield Setting(prefix + key, in_words(part), part.get("default"), required, about)

    def in_words(part: Schema) -> str:
        part = resolved(part)
        if "const" in part:
            return _inline(part["const"])
        if "enum" in part:
            return " or ".join(map(_inline, part["enum"]))
        if "anyOf" in part:
            return " or ".join(map(in_words, part["anyOf"]))
        if "prefixItems" in part:
            return f"[{', '.join(map(in_words, part['prefixItems']))}]"
        if part.get("type") == "array":
            return f"list of {_count(part)}{in_words(part.get('items', {}))}"
        limits = ", ".join(f"{sign} {part[key]:g}" for key, sign in SIGNS.items() if key in part)
        return f"{part.get('type', 'any')} {limits}".rstrip()

    return list(walk(resolved(schema)))


def _count(array: Schema) -> str:
    """The number of items, followed by a space; empty if it is not fixed."""
    lengths = dict.fromkeys(str(array[key]) for key in ("minItems", "maxItems") if key in array)
    if not lengths:
        return ""
    return f"{'' if 'maxItems' in array else 'at least '}{' to '.join(lengths)} "


def _inline(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
