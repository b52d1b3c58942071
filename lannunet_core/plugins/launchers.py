"""Launchers of runs on several devices, in parallel, or as jobs of a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, missing


class TrainRequest(NamedTuple):
    """The request of `lannunet train`."""

    config: Path
    overrides: Sequence[str]  # KEY=VALUE
    plugins: Sequence[Path]  # trusted plugin files
    folds: str | None  # as given; None: the configured fold
    resume: bool
    overwrite: bool
    debug: bool
    loaded: LoadedConfig  # with the overrides
    argument: str  # the text after the colon of --submit


def launcher(name: str, option: str, group: str = "launchers") -> Any:
    """The entry point of this name in the group `lannunet.launchers` or `lannunet.schedulers`.

    It is a function (TrainRequest) → exit code; `processes` has such a function as its attribute `start`.
    """
    every = discovery.scan().formats.get(group, ())
    if not (found := [one for one in every if one.name == name]):
        known = ", ".join(sorted({one.name for one in every})) or "none"
        raise UserError(
            f"{option}: there is no '{name}' to start runs with (installed: {known}). lannunet-cluster "
            f"provides folds, devices, local and slurm: {missing.INSTALL} lannunet-cluster"
        )
    return discovery.only(f"The launcher '{name}'", found).load_as("The launcher")
