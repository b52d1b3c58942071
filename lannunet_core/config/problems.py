"""Errors of a configuration, for users: the place, the value found, and the allowed values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lannunet_core.config.schema import KeyPath, RunConfig, canonical, key_of, section_of
from lannunet_core.config.yaml import Entry, Place
from lannunet_core.names import did_you_mean
from lannunet_core.plugins import discovery
from lannunet_core.plugins.installed import InstalledPlugin

MOST = 20  # reported at once


@dataclass(frozen=True)
class Value:
    """An entry of the user under our spelling of its path."""

    path: KeyPath
    value: Any
    entry: Entry

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def at(self) -> str:
        return f"{self.entry.where()}: {'.'.join(self.entry.path)}"


def is_foreign(written: str, ours: str) -> bool:
    """Whether a key is written as in LaNNU-Net: in upper case, or with a name that differs from ours."""
    return written.isupper() or written.casefold() != ours.casefold()


def problems(
    error: ValidationError,
    model: type[RunConfig],
    data: Mapping[str, Any],
    values: Mapping[KeyPath, Value],
    path: Path,
) -> list[str]:
    """A line for each wrong key: the place, the value found, and the allowed values."""
    by_place: dict[Place, list[Any]] = {}
    found = error.errors(include_url=False, include_context=False)
    for problem in found[:MOST]:
        by_place.setdefault(_place(problem, data), []).append(problem)
    for place in list(by_place):
        # pydantic reports a list with wrong items also as too short.
        if any(len(other) > len(place) and other[: len(place)] == place for other in by_place):
            by_place[place] = [problem for problem in by_place[place] if problem["type"] != "too_short"]
    lines = [
        f"{_where(place, values, path)}: {_what(place, here, model)}"
        for place, here in by_place.items()
        if here
    ]
    return lines + [f"{path}: and {len(found) - MOST} more."] * (len(found) > MOST)


def _place(problem: Any, data: Any) -> Place:
    """The place in the YAML, without the alternatives of a type that pydantic appends."""
    place: list[str | int] = []
    for part in problem["loc"]:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data))):
            data = data[part]
        elif problem["type"] != "missing":
            break
        place.append(part)
    return tuple(place)


def _where(place: Place, values: Mapping[KeyPath, Value], path: Path) -> str:
    for depth in range(len(place), 0, -1):
        start, rest = place[:depth], place[depth:]
        for value in values.values():
            if value.path[:depth] == start[: len(value.path)] and len(value.path) <= depth:
                written = (*value.entry.path, *place[len(value.path) :])
                return f"{value.entry.where(written)}: {'.'.join(map(str, written))}"
            if value.path[:depth] == start:
                written = value.entry.path[:depth]
                return f"{value.entry.where(written)}: {'.'.join(map(str, (*written, *rest)))}"
    return f"{path}: {'.'.join(map(str, place))}"


def _what(place: Place, found: list[Any], model: type[RunConfig]) -> str:
    kinds = {problem["type"]: problem for problem in found}
    if "extra_forbidden" in kinds:
        is_section = isinstance(kinds["extra_forbidden"]["input"], dict)
        return _unknown_key(tuple(map(str, place)), is_section, model)
    if "missing" in kinds:
        _, missing = canonical(tuple(map(str, place)), model)
        return f"is missing. {missing.description if missing else ''}".strip()
    if "later" in kinds:
        return f"found {kinds['later']['input']!r:.80}; {kinds['later']['msg']}."
    phrases = list(dict.fromkeys(_phrase(problem["msg"]) for problem in found))
    allowed = " or ".join([phrases[0], *(phrase.removeprefix("should be ") for phrase in phrases[1:])])
    value = found[0]["input"]
    if found[0]["type"] == "model_type":
        allowed = "should be a section of keys"
    return f"{allowed}." if isinstance(value, dict) else f"found {value!r:.80}, {allowed}."


def _phrase(message: str) -> str:
    for subject in ("Input ", "Tuple ", "List ", "String ", "Value error, "):
        message = message.removeprefix(subject)
    for theirs, ours in (("a valid tuple", "a list"), ("a valid list", "a list"), (" after validation", "")):
        message = message.replace(theirs, ours)
    return message.removesuffix(".")


def _unknown_key(path: KeyPath, is_section: bool, model: type[RunConfig]) -> str:
    *sections, key = path
    inside: type[BaseModel] | None = model
    if sections:
        _, field = canonical(tuple(sections), model)
        inside = section_of(field) if field else None
    allowed = [key_of(name, field) for name, field in inside.model_fields.items()] if inside else []
    unknown = "unknown key."
    if sections in (["model"], ["trainer"]):
        for plugin in discovery.installed():
            if plugin.answers_to(key):
                return _misplaced(plugin, model)
        if is_section:
            unknown = f"unknown section; no plugin '{key}' is installed."
    elsewhere = [known for known in _all_keys(model) if known.split(".")[-1] == key.casefold()]
    quoted = " or ".join(f"'{known}'" for known in elsewhere)
    hint = f" Did you mean {quoted}?" if elsewhere else did_you_mean(key, allowed)
    return f"{unknown}{hint or ' Known here: ' + ', '.join(allowed) + '.'}"


def _misplaced(plugin: InstalledPlugin, model: type[RunConfig]) -> str:
    for section in ("model", "trainer"):
        if canonical((section, plugin.name), model)[1]:
            return f"the settings of the plugin {plugin} are in {section}.{plugin.name}."
    return (
        f"these are settings of the plugin {plugin}, which this run does not use. "
        "Name it in model.architecture or trainer.plugins, or remove them."
    )


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = prefix + key_of(name, field)
        if section := section_of(field):
            yield from _all_keys(section, f"{key}.")
        else:
            yield key
