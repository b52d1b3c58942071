"""`lannunet plugins check NAME`: the conformance kit on an installed plugin or file format, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lannunet_core.config.yaml import read_override
from lannunet_core.errors import UserError
from lannunet_core.names import plain
from lannunet_core.plugins import discovery
from lannunet_core.plugins.api import PluginConfig
from lannunet_core.plugins.installed import Installed
from lannunet_core.telling import echo, fold, terminal_columns

if TYPE_CHECKING:
    from lannunet_core.testing import Result
    from lannunet_core.testing.suites import Planned

STYLES = {"passed": "green", "failed": "bold red", "not claimed": "yellow"}


def command(
    name: Annotated[str, typer.Argument(help="The plugin, by any of its names, or a file format.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the plugin, for example for a small model; for a format: example=FILE.",
        ),
    ] = None,
) -> None:
    """Check that a plugin, or a format that a task reads, fulfils its contracts, without pytest.

    Features that a plugin refuses with a message (3D, for example), or does not have, are not claimed, which
    is not a failure. The exit code is 1 if a check fails.
    """
    if not any(plugin.answers_to(name) for plugin in discovery.installed()) and (of := format_entry(name)):
        finish(f"Format {of[1]}", check_format(*of, overrides or []))
        return
    plugin = discovery.find(name)
    try:
        config = plugin.load().Config
    except UserError as error:
        echo(f"Failed: {error}", err=True)
        raise typer.Exit(1) from error
    finish(f"Plugin {plugin}", check(plugin.name, settings_from(overrides or [], config)))


def finish(what: str, results: list[Result]) -> None:
    show(what, results)
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


def format_entry(name: str) -> tuple[str, Installed] | None:
    """The kind and the entry of an installed file format; None: there is none of this name."""
    found = (
        (kind, one)
        for kind, entries in discovery.scan().formats.items()
        for one in entries
        if plain(one.name) == plain(name)
    )
    return next(found, None)


def check_format(kind: str, entry: Installed, overrides: list[str]) -> list[Result]:
    """The results of the checks that a task provides for formats of this kind."""
    from lannunet_core.plugins import tasks
    from lannunet_core.testing.suites import checks_of

    benches = filter(None, (task.bench() for task in tasks.every()))
    suites = [suite for bench in benches for of, suite in bench.formats().items() if of == kind]
    if not suites:
        raise UserError(f"{entry} is one of the {kind.replace('_', ' ')}, for which there are no checks.")
    given = [one for override in overrides for one in read_override(override)]
    settings = {".".join(map(str, one.path)): one.value for one in given}
    known = [key for key in suites[0].__annotations__ if key != "format"]
    if unknown := [key for key in settings if key not in known]:
        raise UserError(f"--set: a check of a format has no setting {unknown[0]}, but {', '.join(known)}.")
    loaded = entry.load_as("Format")
    planned: list[Planned] = []
    for one in loaded if isinstance(loaded, Sequence) else [loaded]:
        name = getattr(one, "name", entry.name)
        suite = type(suites[0].__name__, (suites[0],), {"format": name, **settings})()
        planned += [(suite, test, name) for test in checks_of(type(suite))]
    return run_all(str(entry), planned)


def check(plugin: str, settings: dict[str, Any]) -> list[Result]:
    """The results of all checks of an installed plugin, with a progress bar."""
    from lannunet_core.testing import Result
    from lannunet_core.testing.suites import plan

    try:
        planned = plan(plugin, settings)
    except Exception as error:
        asked = "A run can be built with it, and its hooks say what they provide"
        return [Result("hooks", asked, "failed", f"it raises {type(error).__name__}: {error}")]
    return run_all(plugin, planned)


def run_all(what: str, planned: list[Planned]) -> list[Result]:
    from lannunet_core.run.progress import progress_bar
    from lannunet_core.testing.suites import run_one

    results = []
    with progress_bar(f"checking {what}", len(planned)) as progress:
        for suite, test, about in planned:
            progress.advance(0, test.removeprefix("test_"))
            results.append(run_one(suite, test, about))
            progress.advance(1)
    return results


def settings_from(overrides: list[str], config: type[PluginConfig]) -> dict[str, Any]:
    """The plugin's section of a YAML, from `--set`."""
    from pydantic import ValidationError

    settings: dict[str, Any] = {}
    for override in overrides:
        for entry in read_override(override):
            section = settings
            for key in entry.path[:-1]:
                section = section.setdefault(key, {})
            section[entry.path[-1]] = entry.value
    try:
        config.model_validate(settings)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"--set: {wrong}. `lannunet plugins show` lists the settings.") from None
    return settings


def show(what: str, results: list[Result]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    console.print(Text(what, "italic"), soft_wrap=True)
    for result in results:
        outcome = f"{result.outcome:<13}"
        line = fold(
            f"{outcome}{result.check.replace('_', ' ')}: {result.contract}", console.width, len(outcome)
        )
        console.print(Text.assemble((outcome, STYLES[result.outcome]), line[len(outcome) :]), soft_wrap=True)
    for result in results:
        if result.message:
            words = f"{result.check.replace('_', ' ')}, {result.outcome}: {result.message}"
            console.print(Text(fold(words, terminal_columns()), STYLES[result.outcome]), soft_wrap=True)
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in STYLES}
    echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
