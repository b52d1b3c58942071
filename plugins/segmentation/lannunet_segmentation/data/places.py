"""Folders of nnU-Net's data sets, from the environment variables of its version 2."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lannunet_core import UserError

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
NUMBER = re.compile(r"\d{1,4}")
NAME = re.compile(r"Dataset\d{3,4}_.+")


def located(given: Path) -> Path:
    """The folder for a path, or for the number or name of an nnU-Net data set.

    An existing path is returned unchanged. The number, such as 4, or the name, such as
    Dataset004_Hippocampus, is searched in `nnUNet_raw` and then in `nnUNet_preprocessed`.

    Args:
        given: A path, or one whose last part is a number or name.

    Returns:
        The folder, or `given` if it is neither.

    Raises:
        UserError: There is no such data set, or several have the number.
    """
    if given.exists() or not (NUMBER.fullmatch(given.name) or NAME.fullmatch(given.name)):
        return given
    places = {name: Path(os.environ[name]) for name in (RAW, PREPROCESSED) if os.environ.get(name)}
    if not places:
        if NAME.fullmatch(given.name):
            return given
        raise UserError(
            f"{given}: does not exist, and the environment variable {RAW} is not set, so {given.name} is not "
            "data set's number either. Set it, or name the folder."
        )
    for place in places.values():
        if len(found := matching(place, given.name)) > 1:
            names = " and ".join(path.name for path in found)
            raise UserError(f"{place}: the number {given.name} is that of {names}. Name one of them.")
        if found:
            return found[0]
    looked = " and ".join(f"{place} ({name})" for name, place in places.items())
    raise UserError(f"{given}: does not exist, and no data set {given.name} is in {looked}.")


def matching(place: Path, name: str) -> list[Path]:
    """The data sets in a folder of nnU-Net that have this number or name."""
    if not NUMBER.fullmatch(name):
        return [place / name] if (place / name).is_dir() else []
    return sorted(path for path in place.glob(f"Dataset{int(name):03d}_*") if path.is_dir())


def preprocessed_beside(dataset: Path) -> Path | None:
    """The folder of a raw data set's splits and preprocessed cases; None: there is none."""
    place = os.environ.get(PREPROCESSED)
    found = Path(place) / dataset.name if place else None
    return found if found is not None and found.is_dir() else None


def results_of(dataset: str) -> Path | None:
    """The folder for runs on a data set, by its name: in `nnUNet_results`; None: that is not set."""
    place = os.environ.get(RESULTS)
    return Path(place) / dataset / "lannunet" if place else None
