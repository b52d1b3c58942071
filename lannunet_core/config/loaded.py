"""A configuration after reading and validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lannunet_core.config.schema import KeyPath, RunConfig
from lannunet_core.plugins.api import Plugin, PluginConfig
from lannunet_core.plugins.from_file import FilePlugin
from lannunet_core.plugins.installed import InstalledPlugin

STAGE_SECTIONS = ("preprocess", "sampler", "solver", "trainer", "model")
"""Sections that a second stage may have."""
SECOND_STAGE_FOLDER = "refine"


@dataclass(frozen=True)
class ChosenPlugin:
    """A plugin of the run, imported, with its validated section."""

    installed: InstalledPlugin
    plugin_class: type[Plugin]
    config: PluginConfig


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration.

    Attributes:
        run: The task's part, with absolute paths and the plugins' sections.
        architecture: The plugin that provides the network.
        extensions: The plugins applied on top of it, in listed order.
        path: Path of the file, or another source.
        given: Place of each key that was set (`my.yaml:4`, `--set …`), by its dotted path.
        warnings: Messages for the user.
        replaced: Keys without a meaning in this run, each with the plugin that replaces their default.
        idle: Keys without effect in this run, each with the reason.
        refine: The second stage, a run of its own.
        fixed: Keys of a second stage that its first stage sets.
    """

    run: RunConfig
    architecture: ChosenPlugin
    extensions: tuple[ChosenPlugin, ...]
    path: Path
    given: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()
    replaced: Mapping[str, ChosenPlugin] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    refine: LoadedConfig | None = None
    fixed: tuple[KeyPath, ...] = ()

    @property
    def plugins(self) -> tuple[ChosenPlugin, ...]:
        return (self.architecture, *self.extensions)

    @property
    def files(self) -> list[Path]:
        """Files of the plugins that are not distributions."""
        return [plugin.installed.path for plugin in self.plugins if isinstance(plugin.installed, FilePlugin)]

    def named(self, key: str) -> list[str]:
        """The name, or names, in the value of a dotted key."""
        section, name = key.split(".")
        found = getattr(getattr(self.run, section), name)
        return [found] if isinstance(found, str) else list(found)

    def resolved(self) -> dict[str, Any]:
        """Every effective value, as plain data, which `load_config` (YAML) and `load_resolved` can read."""
        data = self.run.model_dump(mode="json", by_alias=True)
        for key in self.idle:
            _remove(data, tuple(key.split(".")))
        if self.refine is not None:
            second = self.refine.resolved()
            for path in self.refine.fixed:
                _remove(second, path)
            data["refine"] = {section: second[section] for section in STAGE_SECTIONS if section in second}
        elif "refine" in data:
            del data["refine"]
        return data


def _remove(data: dict[str, Any], path: KeyPath) -> None:
    *sections, name = path
    for section in sections:
        data = data[section]
    data.pop(name, None)
