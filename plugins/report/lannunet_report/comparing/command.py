"""`lannunet compare RUN RUN…`, and `lannunet compare --data DATA --models …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import UserError, echo, refuse_existing


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write; its numbers go into a .json beside it.")
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of finished runs on the same cases, the first the base."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Train on this data set, instead of RUNS: see --models.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Networks to train, by plugin or file; the first is the base."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each, which differ in the seed.")] = 3,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, max=1e6, help="Minutes per run; else as the data needs.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier page.")] = False,
) -> None:
    """Compare runs, or train models and compare them, with intervals.

    For both tasks: landmarks by their radial error, label maps by Dice.
    """
    runs = runs or []
    if (data is None) is not bool(runs) or (data is None) is not (models is None):
        raise UserError(
            "compare: give the folders of runs, or a data set and models: "
            "lannunet compare RUN RUN -o compare.html, or "
            "lannunet compare --data DATA --models unet,phdnet -o compare.html"
        )
    if output.suffix != ".html":
        raise UserError(f"--output: {output} should end in .html.")
    for path in (output, output.with_suffix(".json")):
        if not overwrite or not path.is_file():
            refuse_existing(path, "--output, or --overwrite to replace it")

    from lannunet_report.comparing.page import print_comparison, write_comparison
    from lannunet_report.comparing.results import Group, read_results
    from lannunet_report.comparing.training import about_runs, train_models

    if data is not None and models is not None:
        words = [word.strip() for word in models.split(",") if word.strip()]
        if not words:
            raise UserError("--models: is empty. Give plugins, as in unet,phdnet.")
        groups = train_models(data, words, seeds, minutes, output.with_suffix(""))
        title = f"Models on {data.resolve().stem}"
    else:
        if len(runs) < 2:
            raise UserError("compare: give two runs or more.")
        groups = [
            Group(name, (read_results(run),), about_runs([run]))
            for name, run in zip(distinct_names(runs), runs, strict=True)
        ]
        title = "Runs compared"
    comparison = write_comparison(output, groups, title)
    print_comparison(comparison)
    echo(f"comparison: {output}")


def distinct_names(runs: list[Path]) -> list[str]:
    """The shortest ends of paths that distinguish them.

    Raises:
        UserError: Two are the same folder.
    """
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError("compare: a run is given twice. Give each once.")
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names
