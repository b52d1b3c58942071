"""`lannunet config check|schema|explain|import`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.cli import Overrides, PluginFiles
from lannunet_core.config.compose import load_config
from lannunet_core.config.json_schema import json_schema
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.schema import DEFAULT_TASK
from lannunet_core.config.yaml import entries, inline_yaml
from lannunet_core.errors import UserError
from lannunet_core.files import refuse_existing, write_text
from lannunet_core.plugins import discovery, tasks
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.telling import echo, terminal_columns
from lannunet_core.testing.inspection import Look, look

app = typer.Typer(help="Inspect a configuration without running it.", no_args_is_help=True)

Config = Annotated[Path, typer.Argument(help="The run's YAML.")]


@app.command()
def check(config: Config, overrides: Overrides = None, plugins: PluginFiles = None) -> None:
    """Check a configuration, and report all errors."""
    loaded = _load(config, overrides, plugins)
    for stage in filter(None, (loaded, loaded.refine)):
        tasks.find(stage.run.task).check(stage)
    echo(f"{config}: OK ({', '.join(str(plugin.installed) for plugin in loaded.plugins)})")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
) -> None:
    """Print the JSON schema of a configuration, with the settings of every installed plugin that loads."""
    if out:
        refuse_existing(out)
    text = json.dumps(json_schema(tasks.every(), _usable_plugins()), indent=2, ensure_ascii=False)
    if out:
        write_text(out, text + "\n")
    else:
        typer.echo(text)


@app.command()
def explain(config: Config, overrides: Overrides = None, plugins: PluginFiles = None) -> None:
    """Print every value that a run would use, its source, and the plugins that implement each hook."""
    loaded = _load(config, overrides, plugins)
    for value in entries(loaded.resolved(), "", Path(), {}):
        key = ".".join(value.path)
        _show(key, inline_yaml(value.value), loaded.given.get(key, "default"))
    for key, plugin in loaded.replaced.items():
        _show(key, "-", f"replaced by plugin {plugin.installed}")
    for key, why in loaded.idle.items():
        if key not in loaded.replaced:
            _show(key, "-", why)
    echo("\nHooks, and the plugins that implement them, in the order of the calls:")
    for hook, asked in tasks.asked_of(loaded):
        echo(f"  {hook}: {', '.join(f'{name} {version}' for name, version in asked) or 'nobody'}")


@app.command("import")
def import_(
    old: Annotated[Path, typer.Argument(help="A YAML of LaNNU-Net.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write ours to this file.")] = None,
) -> None:
    """Convert a LaNNU-Net YAML, with its own defaults written out where ours differ."""
    if out:
        refuse_existing(out)
    text, dropped = tasks.find(DEFAULT_TASK).import_config(old)
    for key, why in dropped:
        echo(f"{old}: {key} is dropped: {why}.", err=True)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    echo(f"{out} is written. `lannunet config check {out}` checks whether it can run.")


def _usable_plugins() -> list[tuple[InstalledPlugin, Look]]:
    """Plugins that a run can name, inspected in separate processes; the others are listed on stderr."""
    found, usable = [], []
    for name in dict.fromkeys(plugin.name for plugin in discovery.installed()):
        try:
            found.append(discovery.find(name))
        except UserError as error:  # noqa: PERF203
            echo(f"Left out: {error}", err=True)
    for plugin, seen in zip(found, look(found), strict=True):
        for warning in seen.warnings:
            echo(f"Warning: {warning}", err=True)
        if seen.problems:
            echo(f"Left out: {' '.join(seen.problems)}", err=True)
        else:
            usable.append((plugin, seen))
    return usable


def _load(config: Path, overrides: Overrides, plugins: PluginFiles) -> LoadedConfig:
    loaded = load_config(config, overrides or [], plugins or [])
    for warning in loaded.warnings:
        echo(f"Warning: {warning}", err=True)
    return loaded


def _show(key: str, value: str, source: str) -> None:
    found = f"{key}: {value}"
    fits = len(line := f"{found:<40}  # {source}") <= (terminal_columns() or len(line))
    echo(line if fits else f"{found}\n    {source}")
