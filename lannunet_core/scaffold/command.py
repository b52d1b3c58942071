"""`lannunet plugins new NAME`: write a working plugin package."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.scaffold import check_name, check_package, defaults, write_package
from lannunet_core.telling import echo

QUESTIONS = {
    "distribution": "Distribution (the name for pip)",
    "package": "Package (the name for imports)",
    "description": "Description, in one line",
    "author": "Author",
}


def command(
    name: Annotated[str, typer.Argument(help="The plugin's name, as in model.architecture: my-model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Use the default for every question.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The new folder; named like the distribution by default."),
    ] = None,
) -> None:
    """Write a plugin package: network, settings, tests, README and CI, ready to be installed and trained."""
    check_name(name)
    answers = defaults(name)
    if not yes:
        asked = {key: typer.prompt(text, default=getattr(answers, key)) for key, text in QUESTIONS.items()}
        answers = replace(answers, **{key: answer.strip() for key, answer in asked.items()})
    check_package(answers)
    folder = out or Path(answers.distribution)
    for path in write_package(answers, folder):
        echo(f"  {path}")
    echo(
        f"{folder} is written. Next: `pip install -e '{folder}[dev]'`, then `lannunet plugins check {name}`, "
        f"and `architecture: {name}` in a YAML."
    )
