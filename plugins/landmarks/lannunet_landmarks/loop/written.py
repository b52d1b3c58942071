"""The folder that `lannunet suggest` writes: the images in order, and predictions to start from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lannunet_report import from_spreadsheet, spreadsheet_text

from lannunet_core import UserError, atomic_path
from lannunet_landmarks.data.formats import Annotations, LandmarkFormat, relative_to
from lannunet_landmarks.loop.suggest import Suggestion

QUEUE = "queue.csv"
COLUMNS = ("id", "image", "confidence", "shape", "distance", "chosen")


def write_suggestions(
    folder: Path, found: Sequence[Suggestion], start: Annotations, of: LandmarkFormat
) -> None:
    """Write `queue.csv`, the images in the order in which to annotate them, and predictions in a format."""
    folder.mkdir(parents=True)
    assert of.write is not None
    of.write(start, folder / (of.file or of.name))
    with (
        atomic_path(folder / QUEUE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in found:
            figures = (1 - one.doubt, one.strangeness, one.novelty)
            image = relative_to(one.prediction.image, folder)
            names = map(spreadsheet_text, (one.prediction.id, image))
            chosen = "random" if one.random else "difficult"
            writer.writerow([*names, *(f"{figure:.4f}" for figure in figures), chosen])


def read_queue(path: Path) -> list[tuple[str, Path]]:
    """Id and image of each suggestion, the first one first; `path` is the folder or its `queue.csv`.

    Raises:
        UserError: It is none.
    """
    file = path / QUEUE if path.is_dir() else path
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        return [(from_spreadsheet(row["id"]), file.parent / from_spreadsheet(row["image"])) for row in rows]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: is no folder that lannunet suggest wrote ({error}).") from error
