"""Settings in words, from the schemas that pydantic writes."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from lannunet_core import PluginConfig
from lannunet_core.plugins.settings import settings


class Inner(PluginConfig):
    depth: int = Field(3, description="Layers.")


class Config(PluginConfig):
    width: int = Field(8, ge=1, lt=1025, description="Features.")
    name: str = Field(description="Must be given.")
    rate: float | None = Field(None, gt=0)
    kind: Literal["a", "b"] = "b"
    only: Literal["x"] = "x"
    on: bool = True
    either: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    size: tuple[int, int] = (3, 4)
    sizes: list[float] = Field([1.0], min_length=1)
    pair: tuple[int, ...] = Field((2, 2), min_length=2, max_length=3)
    anything: list = Field([])
    inner: Inner = Field(Inner(), description="A section.")
    many: dict[str, int] = Field({})


@pytest.fixture
def rows():
    schema = Config.model_json_schema(ref_template="#/$defs/acme.{model}")
    return {row.key: row for row in settings(schema)}


def test_keys_are_in_order_and_sections_are_spelled_out(rows):
    keys = "width name rate kind only on either size sizes pair anything inner.depth many"
    assert list(rows) == keys.split()


@pytest.mark.parametrize(
    ("key", "words"),
    {
        "width": "integer ≥ 1, < 1025",
        "name": "string",
        "rate": "number > 0 or null",
        "kind": '"a" or "b"',
        "only": '"x"',
        "on": "boolean",
        "either": 'integer ≥ 0 or "auto"',
        "size": "[integer, integer]",
        "sizes": "list of at least 1 number",
        "pair": "list of 2 to 3 integer",
        "anything": "list of any",
        "inner.depth": "integer",
        "many": "object",
    }.items(),
)
def test_types_in_words(rows, key, words):
    assert rows[key].type == words


def test_defaults_and_descriptions(rows):
    assert (rows["width"].default, rows["width"].required, rows["width"].description) == (
        8,
        False,
        "Features.",
    )
    assert (rows["name"].default, rows["name"].required) == (None, True)
    assert [rows[key].shown_default for key in ("kind", "rate", "on", "size")] == [
        '"b"',
        "null",
        "true",
        "[3, 4]",
    ]
    assert rows["inner.depth"].description == "Layers."


def test_no_settings():
    assert settings(PluginConfig.model_json_schema()) == []
