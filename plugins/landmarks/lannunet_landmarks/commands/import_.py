"""`lannunet import SOURCE -o FILE`: convert annotations to our JSON, or merge them into an existing one."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core import echo

if TYPE_CHECKING:
    from lannunet_landmarks.data.formats import Annotations


class Missing(str, Enum):
    unlabelled = "unlabelled"
    absent = "absent"


class SystemName(str, Enum):
    pixel = "pixel"
    LPS = "LPS"
    RAS = "RAS"


def command(
    source: Annotated[Path, typer.Argument(help="The annotations, a file or a folder.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="The JSON to write.")] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Merge them into this JSON; its old version is kept as a backup."),
    ] = None,
    name: Annotated[
        str, typer.Option("--format", help="The format, see lannunet plugins list; auto: by the content.")
    ] = "auto",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; beside the annotations by default.")
    ] = None,
    missing: Annotated[
        Missing, typer.Option(help="State of a landmark that an annotated image does not place.")
    ] = Missing.unlabelled,
    y_up: Annotated[
        bool | None,
        typer.Option("--y-up/--y-down", help="Direction of the y axis; the format's by default."),
    ] = None,
    system: Annotated[
        SystemName | None,
        typer.Option("--coordinate-system", help="System of the written numbers; the source's by default."),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of images for validation, if the source has no lists."),
    ] = 0.15,
    testing: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images for testing.")] = 0.15,
    group: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Keep the images of one patient or video together.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split.")] = 0,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --into: who annotated; your login by default.")
    ] = None,
) -> None:
    """Convert annotations of other programs, or merge corrected ones into an existing JSON."""
    from lannunet_core import UserError, refuse_existing, write_text
    from lannunet_landmarks.data.annotations import dataset_of, dataset_section, outside
    from lannunet_landmarks.data.exchange import Draw, as_absent, as_content, format_of, read_source, relative
    from lannunet_landmarks.data.exported import LANNUNET, in_system
    from lannunet_landmarks.data.formats import formats
    from lannunet_landmarks.data.json_file import read_json

    if (out is None) == (into is None):
        raise UserError("--output or --into: give one of them, the JSON to write (-o) or to merge into.")
    if out is not None:
        refuse_existing(out)
    if images is not None and not images.is_dir():
        raise UserError(f"--images: there is no folder {images}.")
    of = format_of(source, -1, name, "--format")
    if of is None and name.casefold() == "auto" and not LANNUNET.matches(source):
        if source.is_file() and source.suffix.lower() == ".json":
            read_json(source)  # raises where the file is not JSON
        there = "" if source.exists() else "there is no such file or folder. "
        known = ", ".join(one.name for one in formats())
        raise UserError(f"{source}: {there}It is of none of the formats {known}. Name one (--format).")
    found = read_source(source, of or LANNUNET, images, y_up)
    if missing is Missing.absent:
        found = as_absent(found)
    if into is not None:
        merge_into(into, found, by)
        return
    assert out is not None
    if system is not None:
        found = in_system(found, system.value)
    content = as_content(found, source, Draw(validation, testing, seed, group))
    section = dataset_section(source, source.parent)
    dataset = dataset_of(content, section)  # raises an error if the content is wrong
    text = json.dumps(relative(content.json, out.parent), indent=1, ensure_ascii=False)
    write_text(out, text.encode("utf-8", "backslashreplace").decode())
    for note in dict.fromkeys((*content.notes, *dataset.notes)):
        echo(f"note: {note}", err=True)
    if wrong := outside(dataset):
        echo(f"warning: {len(wrong)} images cannot be used as they are, the first: {wrong[0]}", err=True)
    counts = ", ".join(f"{len(of_split)} {split}" for split, of_split in dataset.samples.items())
    echo(
        f"{out} holds {counts} images with {len(dataset.landmark_names)} landmarks, from "
        f"{(of or LANNUNET).title}. Inspect it with `lannunet plan {out}`"
    )


def merge_into(into: Path, found: Annotations, by: str | None) -> None:
    """Merge, and print what changed."""
    from getpass import getuser

    from lannunet_core import UserError, terminal_text
    from lannunet_landmarks.loop.merge import merge

    if not into.is_file():
        raise UserError(f"--into: there is no file {into}. Write a new one with -o.")
    done = merge(into, found, by or getuser())
    for sample, changes in done.changed.items():
        echo(f"{terminal_text(sample)}: {'; '.join(terminal_text(str(one)) for one in changes)}")
    moved = [one for changes in done.changed.values() for one in changes if one.pixels is not None]
    unit = "px" if any(one.millimetres is None for one in moved) else "mm"
    by_how_much = sorted(one.pixels if unit == "px" else one.millimetres for one in moved)  # type: ignore[type-var]
    if by_how_much:
        middle, most = by_how_much[len(by_how_much) // 2], by_how_much[-1]
        echo(f"{len(moved)} landmarks moved, by {middle:.2f} {unit} in the median and {most:.2f} at most")
    echo(
        f"{into}: {len(done.added)} images are new (in its training list), {len(done.changed)} changed, "
        f"{len(done.same)} are unchanged"
    )
    if done.backup is not None:
        echo(f"backup of the previous version: {done.backup}")
