"""A plugin's settings as a table, from the JSON schema of its Config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One key; that of an inner section has a dotted path.

    Attributes:
        key: How it is written in YAML.
        type: In words, with its bounds.
        default: None also where it is required.
        required: It has no default.
        description: What it does.
    """

    key: str
    type: str
    default: Any
    required: bool
    description: str

    @property
    def shown_default(self) -> str:
        return json.dumps(self.default, ensure_ascii=False)


def settings(schema: Schema) -> list[Setting]:
    """The keys of a model's JSON schema (as pydantic writes it), in its order."""
    definitions = schema.get("$defs", {})

    def resolved(part: Schema) -> Schema:
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            # A reference is `<plugin>.<model>`, a definition `<model>`.
            inner: Schema = definitions[name if name in definitions else name.partition(".")[2]]
            return {**inner, **{key: value for key, value in part.items() if key != "$ref"}}
        return part

    def walk(section: Schema, prefix: str, depth: int) -> list[Setting]:
        rows = []
        for key, written in section.get("properties", {}).items():
            part = resolved(written)
            if "properties" in part and depth < 5:
                rows += walk(part, f"{prefix}{key}.", depth + 1)
                continue
            required = key in section.get("required", ())
            rows.append(
                Setting(
                    prefix + key, in_words(part), part.get("default"), required, part.get("description", "")
                )
            )
        return rows

    def in_words(part: Schema) -> str:
        part = resolved(part)
        if "const" in part:
            return json.dumps(part["const"], ensure_ascii=False)
        if "enum" in part:
            return " or ".join(json.dumps(value, ensure_ascii=False) for value in part["enum"])
        if "anyOf" in part:
            return " or ".join(in_words(alternative) for alternative in part["anyOf"])
        kind = part.get("type", "any")
        if kind == "array":
            return array_in_words(part)
        return " ".join([str(kind), *bounds(part)])

    def array_in_words(part: Schema) -> str:
        if "prefixItems" in part:
            return f"[{', '.join(map(in_words, part['prefixItems']))}]"
        lengths = [str(part[key]) for key in ("minItems", "maxItems") if key in part]
        count = f"{' to '.join(dict.fromkeys(lengths))} " if lengths else ""
        if lengths and "maxItems" not in part:
            count = f"at least {count}"
        return f"list of {count}{in_words(part['items']) if part.get('items') else 'any'}"

    return walk(resolved(schema), "", 0)


def bounds(part: Schema) -> list[str]:
    """Limits of a number or of a text's length."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {part[key]:g}" for key, sign in signs.items() if key in part]
    return [", ".join(found)] if found else []
