"""`lannunet config check|schema|explain|import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.config.compose import load_config
from lannunet_core.config.json_schema import json_schema
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.schema import DEFAULT_TASK
from lannunet_core.config.yaml import entries, inline_yaml
from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.plugins import discovery, tasks
from lannunet_core.plugins.inspection import Look, look
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.plugins.tasks import asked_of

app = typer.Typer(help="Look at a configuration without running it.", no_args_is_help=True)

Config = Annotated[Path, typer.Argument(help="The run's YAML.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the YAML.")
]


@app.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Say all that is wrong with a configuration."""
    loaded = load_config(config, overrides or [])
    _show_warnings(loaded)
    tasks.find(loaded.run.task).check(loaded)
    if loaded.refine is not None:
        tasks.find(loaded.run.task).check(loaded.refine)
    typer.echo(f"{config}: OK ({', '.join(str(plugin.installed) for plugin in loaded.plugins)})")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to this file.")] = None,
) -> None:
    """Print the JSON schema of a configuration, with the settings of every installed plugin that loads."""
    text = json.dumps(json_schema(tasks.every(), _usable_plugins()), indent=2, ensure_ascii=False)
    if out:
        write_text(out, text + "\n")
    else:
        typer.echo(text)


@app.command()
def explain(config: Config, overrides: Overrides = None) -> None:
    """Print every value that a run would use, where it comes from, and who answers each hook."""
    loaded = load_config(config, overrides or [])
    _show_warnings(loaded)
    for value in entries(loaded.resolved(), "", Path(), {}):
        _show(
            ".".join(value.path), inline_yaml(value.value), loaded.given.get(".".join(value.path), "default")
        )
    for key, plugin in loaded.replaced.items():
        _show(key, "-", f"replaced by plugin {plugin.installed}")
    typer.echo("\nHooks, and who is asked, in this order:")
    for hook, asked in asked_of(loaded):
        typer.echo(f"  {hook}: {', '.join(f'{name} {version}' for name, version in asked) or 'nobody'}")


@app.command("import")
def import_(
    old: Annotated[Path, typer.Argument(help="A YAML of LaNNU-Net.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write ours to this file.")] = None,
) -> None:
    """Rewrite a LaNNU-Net YAML, with its own defaults spelled out where ours differ."""
    text, dropped = tasks.find(DEFAULT_TASK).import_config(old)
    for key, why in dropped:
        typer.echo(f"{old}: {key} is dropped: {why}.", err=True)
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise UserError(f"{out}: there is such a file already. Choose another name, or remove it.")
    write_text(out, text)
    typer.echo(f"{out} is written. `lannunet config check {out}` says whether it can run.")


def _usable_plugins() -> list[tuple[InstalledPlugin, Look]]:
    """Those that a run can name, looked at in processes of their own; the others are named on stderr."""
    names = dict.fromkeys(plugin.name for plugin in discovery.installed())
    found = [plugin for plugin in map(_find, names) if plugin is not None]
    usable = []
    for plugin, seen in zip(found, look(found), strict=True):
        for warning in seen.warnings:
            typer.echo(f"Warning: {warning}", err=True)
        if seen.problems:
            typer.echo(f"Left out: {' '.join(seen.problems)}", err=True)
        else:
            usable.append((plugin, seen))
    return usable


def _find(name: str) -> InstalledPlugin | None:
    try:
        return discovery.find(name)
    except UserError as error:
        typer.echo(f"Left out: {error}", err=True)
        return None


def _show_warnings(loaded: LoadedConfig) -> None:
    for warning in loaded.warnings:
        typer.echo(f"Warning: {warning}", err=True)


def _show(key: str, value: str, source: str) -> None:
    typer.echo(f"{f'{key}: {value}':<64}  # {source}")
