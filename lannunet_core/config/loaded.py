"""A configuration that was read and found valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lannunet_core.config.schema import KeyPath, RunConfig
from lannunet_core.plugins.api import Plugin, PluginConfig
from lannunet_core.plugins.from_file import FilePlugin
from lannunet_core.plugins.installed import InstalledPlugin

STAGE_SECTIONS = ("sampler", "solver", "trainer", "model")
"""What a second stage may have of its own."""


@dataclass(frozen=True)
class ChosenPlugin:
    """A plugin that the run uses, imported, with its validated section."""

    installed: InstalledPlugin
    plugin_class: type[Plugin]
    config: PluginConfig


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration.

    Attributes:
        run: The task's part, with absolute paths; the plugins' sections are in it too.
        architecture: The plugin that provides the network.
        extensions: The plugins applied on top of it, in listed order.
        path: The file, or where else it comes from.
        given: Where each key that was set is written (`my.yaml:4`, `--set …`), by its dotted path.
        warnings: What the user should know.
        replaced: Keys that mean nothing in this run, each with the plugin that replaces their default.
        idle: Keys that do nothing in this run for whatever reason, each with the reason.
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
        """Of those plugins that are no distributions but files."""
        return [plugin.installed.path for plugin in self.plugins if isinstance(plugin.installed, FilePlugin)]

    def named(self, key: str) -> list[str]:
        """The name, or the names, that a dotted key has."""
        section, name = key.split(".")
        found = getattr(getattr(self.run, section), name)
        return [found] if isinstance(found, str) else list(found)

    def resolved(self) -> dict[str, Any]:
        """Every value that acts, as plain data, which `load_config` (YAML) and `load_resolved` read back."""
        data = self.run.model_dump(mode="json", by_alias=True)
        for key in self.idle:
            _remove(data, tuple(key.split(".")))
        if self.refine is not None:
            second = self.refine.resolved()
            for path in self.refine.fixed:
                _remove(second, path)
            data["refine"] = {section: second[section] for section in STAGE_SECTIONS}
        elif "refine" in data:
            del data["refine"]
        return data


def _remove(data: dict[str, Any], path: KeyPath) -> None:
    *sections, name = path
    for section in sections:
        data = data[section]
    data.pop(name, None)
