"""`lannunet plugins uninstall NAME`."""

import importlib
from importlib import metadata
from typing import Annotated

import typer

from lannunet_core.cli.pip import pip
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.names import plain
from lannunet_core.plugins import discovery
from lannunet_core.telling import echo


def command(
    name: Annotated[str, typer.Argument(help="A plugin, by any of its names, or its distribution.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Uninstall the distribution that provides a plugin, even a broken one."""
    distribution = owner(name)
    provided = [str(found) for found in discovery.scan().everything if found.distribution == distribution]
    what = f"{distribution}, which provides {', '.join(provided)}" if provided else distribution
    if not yes:
        typer.confirm(f"Uninstall {what}?", abort=True)
    pip("uninstall", "--yes", distribution)
    importlib.invalidate_caches()
    discovery.scan.cache_clear()
    left = list(metadata.distributions(name=distribution))
    if left:
        place = left[0].locate_file("")
        raise RunFailed(f"{distribution} is still in {place}, where pip has not put it. Remove it there.")
    echo(f"{distribution} is uninstalled.")


def owner(name: str) -> str:
    """The distribution with this name, or the one that provides a plugin, task or command with it.

    Raises:
        UserError: There is none, or several.
    """
    scan = discovery.scan()
    by_own_name = {one.distribution for one in scan.everything if plain(one.distribution) == plain(name)}
    bringing = {plugin.distribution for plugin in scan.plugins if plugin.answers_to(name)}
    others = (*scan.tasks, *scan.commands)
    bringing |= {one.distribution for one in others if plain(one.name) == plain(name)}
    found = sorted(by_own_name or bringing)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"'{name}' is provided by {' and by '.join(found)}. Name the distribution to uninstall."
        )
    installed = ", ".join(str(plugin) for plugin in scan.plugins) or "none"
    message = f"No installed distribution provides a plugin '{name}'. Installed: {installed}."
    raise UserError(" ".join([message, *scan.problems]))
