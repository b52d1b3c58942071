"""Hints for installing missing packages."""

import re
from importlib import metadata

from lannunet_core.names import plain

CORE = "lannunet-core"
INSTALL, EVERYTHING = "lannunet plugins install", "pip install lannunet"


def distribution_of(name: str) -> str | None:
    """The first-party distribution that provides a task or plugin of this name; None: there is none."""
    return next((one for one in ours() if plain(one) == plain(f"lannunet-{name}")), None)


def ours() -> list[str]:
    """The first-party distributions, which are extras of the core."""
    optional = [required for required in metadata.requires(CORE) or [] if "extra ==" in required]
    return [re.split(r"[^\w.-]", required)[0] for required in optional]


def for_a_run(plugins: object) -> str:
    """The missing requirements of a run, given the installed plugins, and the command that installs them."""
    return f"A run needs a task{'' if plugins else ' and an architecture'}: {EVERYTHING}"


def for_command(name: str, tasks: object) -> str | None:
    """The package of a first-party command, and how to install it, given the tasks; None: no such command."""
    ours = metadata.distribution(CORE).entry_points.select(group="lannunet_commands_elsewhere")
    bringing = next((one.value.replace("_", "-") for one in ours if one.name == name), None)
    return bringing and f"{bringing} provides it: {f'{INSTALL} {bringing}' if tasks else EVERYTHING}"
