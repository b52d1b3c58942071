"""What to install where something is missing."""

import re
from importlib import metadata

from lannunet_core.names import plain

CORE = "lannunet-core"
INSTALL = "lannunet plugins install"


def distribution_of(name: str) -> str | None:
    """The distribution of ours that brings a task or plugin of this name; None: it is none of ours."""
    optional = [required for required in metadata.requires(CORE) or [] if "extra ==" in required]
    ours = [re.split(r"[^\w.-]", required)[0] for required in optional]
    return next((one for one in ours if plain(one) == plain(f"lannunet-{name}")), None)


def both(task: str | None = None) -> str:
    """What a run of a task, or of the default one, needs, and the command that installs it."""
    from lannunet_core.config.schema import DEFAULT_TASK, FIRST_ARCHITECTURE  # `--help` does without

    distribution = distribution_of(task or DEFAULT_TASK) or "DISTRIBUTION"
    return f"A run needs a task and an architecture: {INSTALL} {distribution} {FIRST_ARCHITECTURE}"
