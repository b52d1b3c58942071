"""The installed plugins, tasks, commands and file formats, from metadata alone: none is imported."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TypeVar

from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean, plain
from lannunet_core.plugins import missing
from lannunet_core.plugins.installed import Installed, InstalledPlugin

PLUGIN_GROUP = "lannunet.plugins"
TASK_GROUP = "lannunet.tasks"
COMMAND_GROUP = "lannunet.commands"
FORMAT_GROUP = re.compile(r"lannunet\.(\w+_formats|launchers|schedulers)")
DISABLE_VARIABLE = "LANNUNET_DISABLE_PLUGINS"
Claimed = TypeVar("Claimed", bound=Installed)


@dataclass(frozen=True)
class Scan:
    """The entry points in this environment's metadata, including disabled plugins.

    Attributes:
        plugins: Plugins by distribution, in its own order.
        tasks: Tasks, sorted by name.
        commands: Commands, sorted by name.
        formats: File formats by kind, `image_formats` and those of tasks, sorted by name.
        problems: Distributions whose entry points cannot be read.
    """

    plugins: tuple[InstalledPlugin, ...]
    tasks: tuple[Installed, ...]
    commands: tuple[Installed, ...]
    formats: Mapping[str, tuple[Installed, ...]]
    problems: tuple[str, ...]

    @property
    def everything(self) -> tuple[Installed, ...]:
        groups = (self.plugins, self.tasks, self.commands, *self.formats.values())
        return tuple(one for group in groups for one in group)


@functools.cache
def scan() -> Scan:
    """Read the metadata of every installed distribution, once per process (`scan.cache_clear()` repeats it).

    Of two distributions with one name the first is used, as in imports: an editable installation is
    listed twice if its source folder is on the path.
    """
    plugins: list[InstalledPlugin] = []
    registered: list[tuple[str, Installed]] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if "lannunet." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = distribution.metadata["Name"], distribution.version
            entries = [
                (entry.group, Installed(entry.name, name, version, entry.value.partition("[")[0].strip()))
                for entry in distribution.entry_points
            ]
            classes = [entry for group, entry in entries if group == PLUGIN_GROUP]
            found = _plugins_of(classes, distribution.requires or [])
            folded = plain(name)
        except Exception as error:
            problems.append(
                f"The metadata of a distribution with plugins in {distribution.locate_file('')} "
                f"cannot be read ({error!r}): remove its .dist-info folder there, and install it again."
            )
            continue
        if folded in seen:
            continue
        seen.add(folded)
        plugins += found
        registered += entries
    plugins.sort(key=lambda plugin: plain(plugin.distribution))
    registered.sort(key=lambda entry: entry[1].name)
    groups: dict[str, tuple[Installed, ...]] = {}
    for group, entry in registered:
        groups[group] = (*groups.get(group, ()), entry)
    tasks, commands = groups.get(TASK_GROUP, ()), groups.get(COMMAND_GROUP, ())
    formats = {kind[1]: groups[kind[0]] for kind in map(FORMAT_GROUP.fullmatch, sorted(groups)) if kind}
    return Scan(tuple(plugins), tasks, commands, formats, tuple(problems))


def installed() -> tuple[InstalledPlugin, ...]:
    """The installed plugins, except those in LANNUNET_DISABLE_PLUGINS."""
    disabled = {plain(name) for name in os.environ.get(DISABLE_VARIABLE, "").split(",")}
    return tuple(plugin for plugin in scan().plugins if disabled.isdisjoint(map(plain, plugin.names)))


def find(name: str) -> InstalledPlugin:
    """The plugin of this name, in any spelling.

    Raises:
        UserError: There is none, or several claim the name.
    """
    claims = [plugin for plugin in installed() if plugin.answers_to(name)]
    if claims:
        return only(f"The plugin name '{name}'", claims)
    for plugin in scan().plugins:
        if plugin.answers_to(name):
            raise UserError(f"Plugin {plugin} is hidden: {DISABLE_VARIABLE} names it. Remove it there.")
    spelled = [known for plugin in installed() for known in plugin.names]
    raise UserError(
        " ".join(
            [
                f"No plugin '{name}' is installed.{did_you_mean(name, spelled)}",
                f"Installed: {', '.join(plugin.name for plugin in installed()) or 'none'}.",
                f"To add it: {missing.INSTALL} {missing.distribution_of(name) or 'DISTRIBUTION'}.",
                *scan().problems,
            ]
        )
    )


def only(what: str, claims: Sequence[Claimed]) -> Claimed:
    """The only item of `claims`; several are an error."""
    if len(claims) > 1:
        raise UserError(
            f"{what} is claimed by {' and by '.join(one.claim for one in claims)}. Uninstall one of them: "
            "lannunet plugins uninstall DISTRIBUTION."
        )
    return claims[0]


def is_installed(name: str) -> bool:
    """Whether a plugin has this name, in any spelling."""
    return any(plugin.answers_to(name) for plugin in installed())


def canonical_name(name: str) -> str:
    """A plugin's canonical name for any spelling of its names; the plain spelling if it is not installed."""
    return next((plugin.name for plugin in installed() if plugin.answers_to(name)), plain(name))


def _plugins_of(entries: list[Installed], requirements: list[str]) -> list[InstalledPlugin]:
    """The classes that a distribution registers, each under all its names."""
    by_class: dict[str, list[Installed]] = {}
    for entry in dict.fromkeys(entries):
        by_class.setdefault(entry.value, []).append(entry)
    requires_core = _requirement_on_core(requirements) if entries else None
    plugins = []
    for spellings in by_class.values():
        # Build tools sort entry points: the name of the distribution is the canonical one, else the shortest.
        distribution = plain(spellings[0].distribution)
        own = {distribution, distribution.removeprefix("lannunet")}
        shortest = min(spellings, key=lambda entry: len(entry.name))
        canonical = next((entry for entry in spellings if plain(entry.name) in own), shortest)
        aliases = tuple(entry.name for entry in spellings if entry != canonical)
        plugins.append(InstalledPlugin(**vars(canonical), aliases=aliases, requires_core=requires_core))
    return plugins


# The usual form; packaging, which parses all forms, takes a sixth of the time of `lannunet --help`.
PLAIN = re.compile(r"lannunet-core *\(?((?:[<>]=?|[=!~]=) *\d[\d.]*(?:, *(?:[<>]=?|[=!~]=) *\d[\d.]*)*)\)?")


def _requirement_on_core(requirements: list[str]) -> str | None:
    specifiers = []
    for text in requirements:
        if not plain(text).startswith("lannunetcore"):
            continue
        if written := PLAIN.fullmatch(text):
            specifiers += sorted(written[1].replace(" ", "").split(","))
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.specifier:
            specifiers.append(str(requirement.specifier))
    return ",".join(specifiers) or None
