"""`lannunet import SOURCE -o FILE`: other people's annotations as our JSON."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Missing(str, Enum):
    unlabelled = "unlabelled"
    absent = "absent"


class SystemName(str, Enum):
    pixel = "pixel"
    LPS = "LPS"
    RAS = "RAS"


def command(
    source: Annotated[Path, typer.Argument(help="The annotations, a file or a folder.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The JSON to write.")],
    name: Annotated[
        str, typer.Option("--format", help="The format, see lannunet plugins list; auto: by the content.")
    ] = "auto",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; beside the annotations by default.")
    ] = None,
    missing: Annotated[
        Missing, typer.Option(help="What a landmark is that an annotated image does not place.")
    ] = Missing.unlabelled,
    y_up: Annotated[
        bool | None,
        typer.Option("--y-up/--y-down", help="Where y points; as the format has it by default."),
    ] = None,
    system: Annotated[
        SystemName | None,
        typer.Option("--coordinate-system", help="Of the numbers written; as in the source by default."),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of images for validation, if there are no lists."),
    ] = 0.15,
    testing: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for testing.")] = 0.15,
    group: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Keep the images of one patient or video together.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
) -> None:
    """Convert annotations of other programs; where they say no lists, split their images."""
    from lannunet_core import UserError, refuse_existing, write_text
    from lannunet_landmarks.data.annotations import dataset_of, dataset_section
    from lannunet_landmarks.data.exchange import Draw, as_absent, as_content, format_of, read_source, relative
    from lannunet_landmarks.data.exported import LANNUNET, in_system
    from lannunet_landmarks.data.formats import formats
    from lannunet_landmarks.data.json_file import read_json

    refuse_existing(out)
    if images is not None and not images.is_dir():
        raise UserError(f"--images: there is no folder {images}.")
    of = format_of(source, -1, name, "--format")
    if of is None and name.casefold() == "auto" and not LANNUNET.matches(source):
        if source.is_file() and source.suffix.lower() == ".json":
            read_json(source)  # says where it is no JSON
        there = "" if source.exists() else "there is no such file or folder. "
        known = ", ".join(one.name for one in formats())
        raise UserError(f"{source}: {there}It is of none of the formats {known}. Name one (--format).")
    found = read_source(source, of or LANNUNET, images, y_up)
    if missing is Missing.absent:
        found = as_absent(found)
    if system is not None:
        found = in_system(found, system.value)
    content = as_content(found, source, Draw(validation, testing, seed, group))
    section = dataset_section(source, source.parent)
    dataset = dataset_of(content, section)  # refuses what is wrong with it
    text = json.dumps(relative(content.json, out.parent), indent=1, ensure_ascii=False)
    write_text(out, text.encode("utf-8", "backslashreplace").decode())
    for note in dict.fromkeys((*content.notes, *dataset.notes)):
        print(f"note: {note}", file=sys.stderr)
    counts = ", ".join(f"{len(of_split)} {split}" for split, of_split in dataset.samples.items())
    print(
        f"{out} holds {counts} images with {len(dataset.landmark_names)} landmarks, from "
        f"{(of or LANNUNET).title}. Inspect it with lannunet plan {out}"
    )
