"""`lannunet plugins check NAME`: the conformance kit on an installed plugin, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lannunet_core.config.yaml import read_override
from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery
from lannunet_core.plugins.api import PluginConfig

if TYPE_CHECKING:
    from lannunet_core.testing import Result

STYLES = {"passed": "green", "failed": "bold red", "not claimed": "yellow"}


def command(
    name: Annotated[str, typer.Argument(help="The plugin, by any of its names.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the plugin, for a small model say."),
    ] = None,
) -> None:
    """Check that a plugin keeps its contracts: the checks of lannunet_core.testing, without pytest.

    What a plugin refuses with a message (3D, say), or does not offer, is not claimed and no failure. Ends
    with exit code 1 where a check fails.
    """
    plugin = discovery.find(name)
    try:
        config = plugin.load().Config
    except UserError as error:
        typer.echo(f"Failed: {error}", err=True)
        raise typer.Exit(1) from error
    results = check(plugin.name, settings_from(overrides or [], config))
    show(str(plugin), results)
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


def check(plugin: str, settings: dict[str, Any]) -> list[Result]:
    """The results of all checks of an installed plugin, with a progress bar meanwhile."""
    from lannunet_core.run.progress import progress_bar
    from lannunet_core.testing import Result
    from lannunet_core.testing.suites import plan, run_one

    try:
        planned = plan(plugin, settings)
    except Exception as error:
        asked = "A run can be built with it, and its hooks say what they bring"
        return [Result("hooks", asked, "failed", f"it raises {type(error).__name__}: {error}")]
    results = []
    with progress_bar(f"checking {plugin}", len(planned)) as progress:
        for suite, test, about in planned:
            progress.advance(0, test.removeprefix("test_"))
            results.append(run_one(suite, test, about))
            progress.advance(1)
    return results


def settings_from(overrides: list[str], config: type[PluginConfig]) -> dict[str, Any]:
    """The plugin's section of a YAML with what `--set` says."""
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


def show(plugin: str, results: list[Result]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Plugin {escape(plugin)}", title_justify="left", show_lines=False)
    table.add_column("check", overflow="fold")
    table.add_column("contract", overflow="fold", ratio=1)
    table.add_column("result", no_wrap=True)
    for result in results:
        outcome = f"[{STYLES[result.outcome]}]{result.outcome}[/]"
        table.add_row(result.check.replace("_", " "), escape(result.contract), outcome)
    console = Console(soft_wrap=False)
    console.print(table)
    for result in results:
        if result.message:
            words = f"{result.check.replace('_', ' ')}, {result.outcome}: {result.message}"
            console.print(words, style=STYLES[result.outcome], markup=False, highlight=False, soft_wrap=True)
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in STYLES}
    console.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
