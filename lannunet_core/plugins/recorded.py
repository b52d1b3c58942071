"""Compare the plugins that a model was trained with and the installed ones."""

import shlex
import warnings
from collections.abc import Mapping, Sequence

from lannunet_core.errors import UserError
from lannunet_core.names import is_among, plain
from lannunet_core.plugins import discovery, missing
from lannunet_core.plugins.from_file import FILE
from lannunet_core.plugins.installed import InstalledPlugin, PluginWarning


def require(recorded: Sequence[Mapping[str, str]], where: str) -> None:
    """Check that the plugins that a model was trained with are installed.

    Another major version (for 0.x: minor version) may build another network or decode maps differently.

    Args:
        recorded: Each plugin's `name`, `distribution` and `version`.
        where: The model, for messages.

    Raises:
        UserError: Some are missing, or have another major version; the message says what to install.
    """
    problems, pins = [], []
    for plugin in recorded:
        if plugin["distribution"] == FILE:
            continue  # named by its path, which is checked when the configuration is read
        named = f"plugin '{plugin['name']}' ({plugin['distribution']} {plugin['version']})"
        here = _same(plugin, discovery.installed())
        if here is not None and _major(here.version) == _major(plugin["version"]):
            _warn_of_minor(where, named, plugin["version"], here.version)
            continue
        if here is not None and _is_promised(here, plugin["version"]):
            continue
        if here is None and _same(plugin, discovery.scan().plugins):
            problems.append(f"{named}, which {discovery.DISABLE_VARIABLE} hides: remove it there")
            continue
        pins.append(shlex.quote(f"{plugin['distribution']}=={plugin['version'].partition('+')[0]}"))
        if here is not None:
            problems.append(f"{named}, but {here.version} is installed, which may not be compatible")
            continue
        problems.append(f"{named}, which is not installed")
        if rivals := [other for other in discovery.installed() if other.answers_to(plugin["name"])]:
            remedy = f"lannunet plugins uninstall {rivals[0].distribution}"
            problems[-1] += f" (here {rivals[0]} has its name: {remedy})"
    if problems:
        remedy = f" To continue: lannunet plugins install {' '.join(dict.fromkeys(pins))}" if pins else ""
        raise UserError(f"{where}: it was trained with {'; and with '.join(problems)}.{remedy}")


def _same(plugin: Mapping[str, str], installed: Sequence[InstalledPlugin]) -> InstalledPlugin | None:
    for here in installed:
        if here.answers_to(plugin["name"]) and plain(here.distribution) == plain(plugin["distribution"]):
            return here
    return None


def _major(version: str) -> tuple[int | str, ...]:
    """The part that compatible versions share; an invalid version is compatible only with itself."""
    from packaging.version import InvalidVersion, Version

    try:
        parsed = Version(version)
    except InvalidVersion:
        return (version,)
    return (parsed.epoch, parsed.major, 0 if parsed.major else parsed.minor)


def _is_promised(here: InstalledPlugin, version: str) -> bool:
    """A later first-party version reads models of an earlier one: docs/compatibility.md."""
    now, then = _major(here.version), _major(version)
    return is_among(here.distribution, missing.ours()) and len(now) == len(then) > 1 and now > then


def _warn_of_minor(where: str, named: str, then: str, now: str) -> None:
    from packaging.version import Version

    if then != now and Version(then).release[:2] != Version(now).release[:2]:
        warnings.warn(
            f"{where}: it was trained with {named}; {now} is installed. Results may differ.", PluginWarning, 3
        )
