"""Which plugins and commands are installed, read from package metadata alone: none is imported.

A broken plugin is an entry like any other here. Only `load` imports, and turns whatever that raises into one
message.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import sys
import time
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from typing import IO, Any, cast

from lannunet_core.errors import UserError
from lannunet_core.plugins.api import Plugin, PluginConfig

PLUGIN_GROUP = "lannunet.plugins"
COMMAND_GROUP = "lannunet.commands"
DISABLE_VARIABLE = "LANNUNET_DISABLE_PLUGINS"
SLOW_IMPORT_SECONDS = 5.0


class PluginWarning(UserWarning):
    """What a user or an author should know of a plugin that works nevertheless."""


def fold(name: str) -> str:
    """The form in which names are compared: `U-Net`, `unet` and `UNet` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin class that a distribution registers.

    Attributes:
        name: The canonical name as spelled in the entry point.
        aliases: Further names of the same class.
        distribution: The distribution's name.
        version: The distribution's version.
        value: Where the class is, `module:Class`.
        requires_core: What the distribution requires of `lannunet-core`, such as `>=0.1,<0.2`, or None.
    """

    name: str
    aliases: tuple[str, ...]
    distribution: str
    version: str
    value: str
    requires_core: str | None

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def answers_to(self, name: str) -> bool:
        return fold(name) in map(fold, self.names)

    def unmet_requirement(self) -> str | None:
        """What is wrong with the core's version for this plugin, or None."""
        from packaging.specifiers import SpecifierSet

        from lannunet_core import __version__

        if self.requires_core is None or SpecifierSet(self.requires_core).contains(
            __version__, prereleases=True
        ):
            return None
        wanted = f"lannunet-core{self.requires_core}"
        return (
            f"it requires {wanted}, but {__version__} is installed. Install a version of {self.distribution} "
            f"made for lannunet-core {__version__}, or pip install '{wanted}'"
        )

    def load(self) -> type[Plugin]:
        """Imports the plugin's class.

        Raises:
            UserError: The class cannot be had, whatever the reason, or is not a plugin.
        """
        if problem := self.unmet_requirement():
            raise UserError(f"Plugin {self} cannot be used: {problem}.")
        found = _import(f"Plugin {self}", self.distribution, self.value)
        if not (isinstance(found, type) and issubclass(found, Plugin)):
            raise UserError(
                f"Plugin {self} cannot be used: its entry point '{self.value}' is not a class derived from "
                f"lannunet_core.Plugin but {found!r}. Update {self.distribution}, or tell its author."
            )
        config = found.Config
        if not (isinstance(config, type) and issubclass(config, PluginConfig)):
            raise UserError(
                f"Plugin {self} cannot be used: its Config is not a pydantic model derived from "
                f"lannunet_core.PluginConfig but {config!r}. Update {self.distribution}, or tell its author."
            )
        return found


@dataclass(frozen=True)
class InstalledCommand:
    """A sub-command of `lannunet` that a distribution registers: a function or a typer app at `value`."""

    name: str
    distribution: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"

    def load(self) -> Any:
        return _import(f"The command {self}", self.distribution, self.value)


@dataclass(frozen=True)
class Scan:
    """Everything that this environment's metadata says, disabled plugins included.

    Attributes:
        plugins: By distribution, in its own order.
        commands: Likewise.
        problems: Distributions whose entry points cannot be read.
    """

    plugins: tuple[InstalledPlugin, ...]
    commands: tuple[InstalledCommand, ...]
    problems: tuple[str, ...]


@functools.cache
def scan() -> Scan:
    """Reads the metadata of every installed distribution, once a process (`scan.cache_clear()` forgets it).

    The first of two distributions of one name counts, as it does for imports: an editable installation is
    listed twice where its source folder is on the path.
    """
    plugins: list[InstalledPlugin] = []
    commands: list[InstalledCommand] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if "lannunet." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = distribution.metadata["Name"], distribution.version
            entries = list(distribution.entry_points)
            seen_before = fold(name) in seen
            found = _plugins_of(distribution, name, version, entries)
        except Exception as error:
            problems.append(
                f"The metadata of a distribution with plugins in {distribution.locate_file('')} "
                f"cannot be read ({error!r}): remove its .dist-info folder there, and install it again."
            )
            continue
        if seen_before:
            continue
        seen.add(fold(name))
        plugins += found
        commands += [
            InstalledCommand(entry.name, name, version, _without_extras(entry))
            for entry in entries
            if entry.group == COMMAND_GROUP
        ]
    plugins.sort(key=lambda plugin: fold(plugin.distribution))
    commands.sort(key=lambda command: command.name)
    return Scan(tuple(plugins), tuple(commands), tuple(problems))


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
    spelled = {fold(known): known for plugin in installed() for known in plugin.names}
    nearest = get_close_matches(fold(name), spelled, n=1)
    raise UserError(
        " ".join(
            [
                f"No plugin '{name}' is installed.",
                *(f"Did you mean '{spelled[match]}'?" for match in nearest),
                f"Installed: {', '.join(plugin.name for plugin in installed()) or 'none'}.",
                "To add one: lannunet plugins install DISTRIBUTION.",
                *scan().problems,
            ]
        )
    )


def _plugins_of(
    distribution: metadata.Distribution, name: str, version: str, entries: list[metadata.EntryPoint]
) -> list[InstalledPlugin]:
    names: dict[str, list[str]] = {}
    for entry in entries:
        if entry.group == PLUGIN_GROUP:
            spellings = names.setdefault(_without_extras(entry), [])
            if entry.name not in spellings:
                spellings.append(entry.name)
    requires_core = _requirement_on_core(distribution.requires or []) if names else None
    plugins = []
    for value, spellings in names.items():
        # Build tools sort entry points: the name that the distribution bears is the canonical one, else the
        # shortest.
        own = {fold(name), fold(name).removeprefix("lannunet")}
        shortest = min(spellings, key=len)
        canonical = next((spelling for spelling in spellings if fold(spelling) in own), shortest)
        aliases = tuple(spelling for spelling in spellings if spelling != canonical)
        plugins.append(InstalledPlugin(canonical, aliases, name, version, value, requires_core))
    return plugins


def _without_extras(entry: metadata.EntryPoint) -> str:
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
        if fold(requirement.name) == "lannunetcore" and applies and requirement.specifier:
            specifiers.append(str(requirement.specifier))
    return ",".join(specifiers) or None


def _disabled(plugin: InstalledPlugin) -> bool:
    disabled = {fold(name) for name in os.environ.get(DISABLE_VARIABLE, "").split(",")}
    return any(fold(name) in disabled for name in plugin.names)


def _claim(plugin: InstalledPlugin) -> str:
    return f"{plugin.distribution} {plugin.version} ({plugin.value})"


def _import(what: str, distribution: str, value: str) -> Any:
    """The object at `module:attribute`; what the import prints goes to stderr."""
    module_name, _, attribute = value.partition(":")
    stdout = _ToStderr()
    started = time.monotonic()
    try:
        # It stands in for a text stream: a plugin may keep it, in a log handler for instance.
        with contextlib.redirect_stdout(cast("IO[str]", stdout)):
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        cause, remedy = cause_and_remedy(error, distribution, module_name)
        raise UserError(f"{what} cannot be imported from '{value}': {cause}. To go on, {remedy}.") from error
    if stdout.written:
        warnings.warn(f"{what} prints while it is imported; this went to stderr.", PluginWarning, 3)
    if (seconds := time.monotonic() - started) > SLOW_IMPORT_SECONDS:
        warnings.warn(f"{what} took {seconds:.0f} s to import.", PluginWarning, 3)
    return found


def cause_and_remedy(error: BaseException, distribution: str, module: str) -> tuple[str, str]:
    """What a plugin's code raised in one line, and what its user can do."""
    # The message of an error may have many lines; the first says what it is.
    said = str(error).strip().partition("\n")[0]
    cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if not (isinstance(error, ModuleNotFoundError) and error.name):
        return cause, f"update or reinstall {distribution}, or tell its author"
    if module == error.name or module.startswith(error.name + "."):
        return cause, f"install {distribution} again"
    return cause, f"install the missing '{error.name}', or {distribution} again with its dependencies"


class _ToStderr:
    written = False

    def write(self, text: str) -> int:
        self.written = True
        return sys.stderr.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
