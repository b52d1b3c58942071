"""What to install where something is missing."""

import re
from importlib import metadata

from lannunet_core.names import plain

CORE = "lannunet-core"
INSTALL, EVERYTHING = "lannunet plugins install", "pip install lannunet"


def distribution_of(name: str) -> str | None:
    """The distribution of ours that provides a task or plugin of this name; None: it is none of ours."""
    return next((one for one in ours() if plain(one) == plain(f"lannunet-{name}")), None)


def ours() -> list[str]:
    """The distributions of the core's repository, which extras of the core name."""
    optional = [required for required in metadata.requires(CORE) or [] if "extra ==" in required]
    return [re.split(r"[^\w.-]", required)[0] for required in optional]


def for_a_run(plugins: object) -> str:
    """What a run needs and is not there, and the command that installs it; `plugins` are those that are."""
    return f"A run needs a task{'' if plugins else ' and an architecture'}: {EVERYTHING}"


def for_command(name: str, tasks: object) -> str | None:
    """The package of a command of ours, and how to install it, given the tasks; None: no such command."""
    ours = metadata.distribution(CORE).entry_points.select(group="lannunet_commands_elsewhere")
    bringing = next((one.value.replace("_", "-") for one in ours if one.name == name), None)
    return bringing and f"{bringing} provides it: {f'{INSTALL} {bringing}' if tasks else EVERYTHING}"
