"""A plugin, a command or a task that a distribution registers, and its import.

Broken ones are listed like others. Only loading imports them, and turns any exception into one message.
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
    """A message for users or authors about a plugin that still works."""


@dataclass(frozen=True)
class Installed:
    """An entry point of a distribution: a plugin, a task, or a sub-command of `lannunet`.

    Attributes:
        name: Name of the entry point; for a plugin, the canonical one.
        distribution: The distribution's name.
        version: The distribution's version.
        value: Its location, `module:attribute`.
    """

    name: str
    distribution: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"

    @property
    def claim(self) -> str:
        """Identifies it among several with one name."""
        return f"{self.distribution} {self.version} ({self.value})"

    @property
    def remedy(self) -> str:
        return f"Update {self.distribution}, or report it to its author."

    def load_as(self, kind: str) -> Any:
        """Import the registered object, called `kind` in messages."""
        return import_object(f"{kind} {self}", self.distribution, self.value)


@dataclass(frozen=True)
class InstalledPlugin(Installed):
    """A plugin class that a distribution registers.

    Attributes:
        aliases: Additional names of the same class.
        requires_core: Requirement of the distribution on `lannunet-core`, such as `>=0.1,<0.2`, or None.
    """

    aliases: tuple[str, ...] = ()
    requires_core: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def answers_to(self, name: str) -> bool:
        return is_among(name, self.names)

    def unmet_requirement(self) -> str | None:
        """Why the core's version does not suit this plugin, or None."""
        from packaging.specifiers import SpecifierSet

        if SpecifierSet(self.requires_core or "").contains(__version__, prereleases=True):
            return None
        wanted = f"lannunet-core{self.requires_core}"
        return (
            f"it requires {wanted}, but {__version__} is installed. Install a version of {self.distribution} "
            f"made for lannunet-core {__version__}, or pip install '{wanted}'"
        )

    def load(self) -> type[Plugin]:
        """Import the plugin's class.

        Raises:
            UserError: The class cannot be imported, or is not a plugin.
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
    """The object at `module:attribute`; output of the import goes to stderr."""
    module_name, _, attribute = value.partition(":")
    stdout = _ToStderr()
    started = time.process_time()
    try:
        # It replaces a text stream: a plugin may keep it, in a log handler for instance.
        with contextlib.redirect_stdout(cast("IO[str]", stdout)):
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        cause, remedy = cause_and_remedy(error, distribution, module_name)
        message = f"{what} cannot be imported from '{value}': {cause}. To continue, {remedy}."
        raise UserError(message) from error
    if stdout.written:
        warnings.warn(f"{what} prints while it is imported; this went to stderr.", PluginWarning, 3)
    if (seconds := time.process_time() - started) > SLOW_IMPORT_SECONDS:
        warnings.warn(f"{what} took {seconds:.0f} s to import.", PluginWarning, 3)
    return found


def cause_and_remedy(error: BaseException, distribution: str, module: str) -> tuple[str, str]:
    """The error of a plugin's code in one line, and a remedy for its user."""
    # The message of an error may have many lines; the first one is the most important.
    said = str(error).strip().partition("\n")[0]
    cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if not (isinstance(error, ModuleNotFoundError) and error.name):
        return cause, f"update or reinstall {distribution}, or report it to its author"
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
