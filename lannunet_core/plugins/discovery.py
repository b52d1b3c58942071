"""Which plugins, tasks and commands are installed, read from package metadata alone: none is imported."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from importlib import metadata

from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean, plain
from lannunet_core.plugins.installed import InstalledCommand, InstalledPlugin, InstalledTask

PLUGIN_GROUP = "lannunet.plugins"
TASK_GROUP = "lannunet.tasks"
COMMAND_GROUP = "lannunet.commands"
DISABLE_VARIABLE = "LANNUNET_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Scan:
    """Everything that this environment's metadata says, disabled plugins included.

    Attributes:
        plugins: By distribution, in its own order.
        tasks: By name.
        commands: By name.
        problems: Distributions whose entry points cannot be read.
    """

    plugins: tuple[InstalledPlugin, ...]
    tasks: tuple[InstalledTask, ...]
    commands: tuple[InstalledCommand, ...]
    problems: tuple[str, ...]


@functools.cache
def scan() -> Scan:
    """Reads the metadata of every installed distribution, once a process (`scan.cache_clear()` forgets it).

    The first of two distributions of one name counts, as it does for imports: an editable installation is
    listed twice where its source folder is on the path.
    """
    plugins: list[InstalledPlugin] = []
    tasks: list[InstalledTask] = []
    commands: list[InstalledCommand] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if "lannunet." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = distribution.metadata["Name"], distribution.version
            entries = list(distribution.entry_points)
            seen_before = plain(name) in seen
            found = _plugins_of(distribution, name, version, entries)
        except Exception as error:
            problems.append(
                f"The metadata of a distribution with plugins in {distribution.locate_file('')} "
                f"cannot be read ({error!r}): remove its .dist-info folder there, and install it again."
            )
            continue
        if seen_before:
            continue
        seen.add(plain(name))
        plugins += found
        for entry in entries:
            if entry.group == TASK_GROUP:
                tasks.append(InstalledTask(entry.name, name, version, _place(entry)))
            elif entry.group == COMMAND_GROUP:
                commands.append(InstalledCommand(entry.name, name, version, _place(entry)))
    plugins.sort(key=lambda plugin: plain(plugin.distribution))
    tasks.sort(key=lambda task: task.name)
    commands.sort(key=lambda command: command.name)
    return Scan(tuple(plugins), tuple(tasks), tuple(commands), tuple(problems))


def installed() -> tuple[InstalledPlugin, ...]:
    """The installed plugins without those that LANNUNET_DISABLE_PLUGINS names."""
    return tuple(plugin for plugin in scan().plugins if not _disabled(plugin))


def find(name: str) -> InstalledPlugin:
    """The plugin of this name, in any spelling.

    Raises:
        UserError: There is none, or several lay claim to the name.
    """
    claims = [plugin for plugin in installed() if plugin.answers_to(name)]
    if len(claims) > 1:
        raise UserError(
            f"The plugin name '{name}' is claimed by {' and by '.join(map(_claim, claims))}. "
            f"Uninstall one of them: lannunet plugins uninstall DISTRIBUTION."
        )
    if claims:
        return claims[0]
    for plugin in scan().plugins:
        if plugin.answers_to(name):
            raise UserError(f"Plugin {plugin} is hidden: {DISABLE_VARIABLE} names it. Take it out of there.")
    spelled = [known for plugin in installed() for known in plugin.names]
    raise UserError(
        " ".join(
            [
                f"No plugin '{name}' is installed.{did_you_mean(name, spelled)}",
                f"Installed: {', '.join(plugin.name for plugin in installed()) or 'none'}.",
                "To add one: lannunet plugins install DISTRIBUTION.",
                *scan().problems,
            ]
        )
    )


def canonical_name(name: str) -> str:
    """A plugin's own name for any spelling of one of its names; of what is not installed, the plain spelling."""
    known = [plugin.name for plugin in installed() if plugin.answers_to(name)]
    return known[0] if known else plain(name)


def _plugins_of(
    distribution: metadata.Distribution, name: str, version: str, entries: list[metadata.EntryPoint]
) -> list[InstalledPlugin]:
    names: dict[str, list[str]] = {}
    for entry in entries:
        if entry.group == PLUGIN_GROUP:
            spellings = names.setdefault(_place(entry), [])
            if entry.name not in spellings:
                spellings.append(entry.name)
    requires_core = _requirement_on_core(distribution.requires or []) if names else None
    plugins = []
    for value, spellings in names.items():
        # Build tools sort entry points: the name that the distribution bears is the canonical one, else the
        # shortest.
        own = {plain(name), plain(name).removeprefix("lannunet")}
        shortest = min(spellings, key=len)
        canonical = next((spelling for spelling in spellings if plain(spelling) in own), shortest)
        aliases = tuple(spelling for spelling in spellings if spelling != canonical)
        plugins.append(InstalledPlugin(canonical, aliases, name, version, value, requires_core))
    return plugins


def _place(entry: metadata.EntryPoint) -> str:
    return entry.value.partition("[")[0].strip()


def _requirement_on_core(requirements: list[str]) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement

    specifiers = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if plain(requirement.name) == "lannunetcore" and applies and requirement.specifier:
            specifiers.append(str(requirement.specifier))
    return ",".join(specifiers) or None


def _disabled(plugin: InstalledPlugin) -> bool:
    disabled = {plain(name) for name in os.environ.get(DISABLE_VARIABLE, "").split(",")}
    return any(plain(name) in disabled for name in plugin.names)


def _claim(plugin: InstalledPlugin) -> str:
    return f"{plugin.distribution} {plugin.version} ({plugin.value})"
