"""A plugin, a command or a task that some distribution registers, and importing it.

A broken one is an entry like any other. Only loading imports, and turns what that raises into one message.
"""

import contextlib
import importlib
import sys
import time
import warnings
from dataclasses import dataclass
from typing import IO, Any, cast

from lannunet_core.errors import UserError
from lannunet_core.names import is_among
from lannunet_core.plugins.api import Plugin, PluginConfig
from lannunet_core.version import __version__

SLOW_IMPORT_SECONDS = 5.0


class PluginWarning(UserWarning):
    """What a user or an author should know of a plugin that works nevertheless."""


@dataclass(frozen=True)
class Installed:
    """What a distribution registers: a plugin, a task, or a sub-command of `lannunet`.

    Attributes:
        name: As spelled in the entry point; of a plugin, the canonical one.
        distribution: The distribution's name.
        version: The distribution's version.
        value: Where it is, `module:attribute`.
    """

    name: str
    distribution: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"

    @property
    def claim(self) -> str:
        """Which it is of several of one name."""
        return f"{self.distribution} {self.version} ({self.value})"

    @property
    def remedy(self) -> str:
        return f"Update {self.distribution}, or tell its author."

    def load_as(self, kind: str) -> Any:
        """Imports what is registered, called `kind` in messages."""
        return import_object(f"{kind} {self}", self.distribution, self.value)


@dataclass(frozen=True)
class InstalledPlugin(Installed):
    """A plugin class that a distribution registers.

    Attributes:
        aliases: Additional names of the same class.
        requires_core: What the distribution requires of `lannunet-core`, such as `>=0.1,<0.2`, or None.
    """

    aliases: tuple[str, ...] = ()
    requires_core: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def answers_to(self, name: str) -> bool:
        return is_among(name, self.names)

    def unmet_requirement(self) -> str | None:
        """What is wrong with the core's version for this plugin, or None."""
        from packaging.specifiers import SpecifierSet

        if SpecifierSet(self.requires_core or "").contains(__version__, prereleases=True):
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
        found = self.load_as("Plugin")
        if not (isinstance(found, type) and issubclass(found, Plugin)):
            raise UserError(
                f"Plugin {self} cannot be used: its entry point '{self.value}' is not a class derived from "
                f"lannunet_core.Plugin but {found!r}. {self.remedy}"
            )
        config = found.Config
        if not (isinstance(config, type) and issubclass(config, PluginConfig)):
            raise UserError(
                f"Plugin {self} cannot be used: its Config is not a pydantic model derived from "
                f"lannunet_core.PluginConfig but {config!r}. {self.remedy}"
            )
        return found


def import_object(what: str, distribution: str, value: str) -> Any:
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
