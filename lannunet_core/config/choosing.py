"""Find and import the plugins that a configuration names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lannunet_core.config.problems import Value
from lannunet_core.config.schema import KeyPath, section_of
from lannunet_core.config.yaml import Entry
from lannunet_core.errors import UserError
from lannunet_core.names import plain
from lannunet_core.plugins import discovery, manager
from lannunet_core.plugins.api import Plugin
from lannunet_core.plugins.from_file import FilePlugin, plugin_of
from lannunet_core.plugins.hooks import ask_class
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.task import Task

TORCH = "torch"
"""Value of `sampler.data_aug_package` for the core."""

Values = Mapping[KeyPath, Value]
Classes = dict[InstalledPlugin, type[Plugin]]


@dataclass(frozen=True)
class Files:
    """Plugins in single files.

    Attributes:
        added: Files of `--plugin`: an architecture replaces the configuration's, extensions come last.
        any_named: Whether the configuration may name files; a third-party model may name only the added ones.
    """

    added: Sequence[Path] = ()
    any_named: bool = True


@dataclass(frozen=True)
class Chosen:
    """The plugins of a run, the architecture first, each with its class."""

    classes: Classes
    named: Sequence[str]  # names of the extensions in the configuration
    warnings: tuple[str, ...]


def choose_plugins(values: Values, task: Task, files: Files) -> Chosen:
    """Find and import what `model.architecture`, `trainer.plugins` and `sampler.data_aug_package` name.

    Raises:
        UserError: A plugin is not installed, or cannot be imported.
    """
    choice, choices = values.get(("model", "architecture")), values.get(("trainer", "plugins"))
    added: Classes = {plugin: plugin.load() for plugin in map(plugin_of, files.added)}
    networks = [plugin for plugin, found in added.items() if "network" in manager.plain_arguments(found)]
    architecture = networks[-1] if networks else _find(choice, default_architecture(task), task, files)
    classes: Classes = {architecture: added.get(architecture) or _load_class(architecture, choice)}
    extensions = _find_all(choices, task, files)
    every = [architecture, *extensions]
    if twice := [plugin.name for plugin in every if every.count(plugin) > 1]:
        raise UserError(
            f"Plugin '{twice[0]}' is named more than once; name it once in model or trainer.plugins."
        )
    classes |= {plugin: _load_class(plugin, choices) for plugin in extensions}
    classes |= {plugin: found for plugin, found in added.items() if plugin not in networks}
    named = [name_of(plugin) for plugin in classes if plugin is not architecture]
    package = _augmentation_package(values.get(("sampler", "data_aug_package")))
    if package is not None and package not in classes:
        classes[package] = _load_class(package, values["sampler", "data_aug_package"])
    warnings = tuple(
        f"{plugin.path}: is not an installed plugin but a file, and its code runs"
        for plugin in classes
        if isinstance(plugin, FilePlugin)
    )
    return Chosen(classes, named, warnings)


def name_of(plugin: InstalledPlugin) -> str:
    """The name of a plugin in a configuration."""
    return str(plugin.path) if isinstance(plugin, FilePlugin) else plugin.name


def suggestions(chosen: Chosen, task: str, path: Path) -> list[Entry]:
    """The keys that plugins set if the user does not; the last plugin wins.

    Raises:
        UserError: A plugin sets a key that only the user may set.
    """
    entries = []
    for plugin, plugin_class in chosen.classes.items():
        if plugin_class.tasks is not None and task not in plugin_class.tasks:
            continue  # an error is raised for it later
        for key, value in ask_class(plugin, plugin_class.suggestions, task).items():
            if key in ("model.architecture", "trainer.plugins") or "." not in key:
                raise UserError(
                    f"Plugin {plugin} suggests a value for '{key}', which only the user may set. Update "
                    f"{plugin.distribution}, or report it to its author."
                )
            source = f"suggested by plugin {plugin}"
            entries.append(Entry(tuple(key.split(".")), value, source, path.parent, {}, True))
    return entries


def default_architecture(task: Task) -> str:
    """The architecture of a configuration that names none; empty if the task has no default."""
    section = section_of(task.config.model_fields["model"])
    default = section.model_fields["architecture"].default if section else None
    return default if isinstance(default, str) else ""


def _find(value: Value | None, default: str, task: Task, files: Files) -> InstalledPlugin:
    name = value.value if value else default
    if value is None and not default:
        raise UserError(
            f"model.architecture: is missing, and task {task.name} has no default; name the plugin that "
            f"provides the network. Installed: {', '.join(p.name for p in discovery.installed()) or 'none'}."
        )
    try:
        if value and isinstance(name, str) and name.endswith(".py"):
            return _in_file(name, value, files)
        # A value that is not a name is refused by the validation.
        return discovery.find(name if isinstance(name, str) else default)
    except (UserError, OSError, RuntimeError) as error:  # a name may be too long for a path, or name no user
        raise UserError(
            f"{value.at if value else f'model.architecture is missing, so {default}'}: {error}"
        ) from None


def _in_file(name: str, value: Value, files: Files) -> FilePlugin:
    if files.any_named:
        return plugin_of(value.entry.folder / Path(name).expanduser())
    for path in files.added:
        if plain(path.stem) == plain(Path(name).stem):
            return plugin_of(path)
    raise UserError(
        f"the model was made with the file {name}, whose code is not run automatically. If you have and "
        f"trust it: --plugin {Path(name).name}"
    )


def _find_all(value: Value | None, task: Task, files: Files) -> list[InstalledPlugin]:
    if value is None or not isinstance(value.value, list):
        return []
    names = [name for name in value.value if isinstance(name, str)]
    return [_find(Value(value.path, name, value.entry), name, task, files) for name in names]


def _load_class(plugin: InstalledPlugin, value: Value | None) -> type[Plugin]:
    try:
        return plugin.load()
    except UserError as error:
        raise UserError(f"{value.at}: {error}" if value else str(error)) from error


def _augmentation_package(value: Value | None) -> InstalledPlugin | None:
    """The plugin that `sampler.data_aug_package` names; None: the core."""
    if value is None or not isinstance(value.value, str) or plain(value.value) == TORCH:
        return None
    try:
        return discovery.find(value.value)
    except UserError as error:
        raise UserError(
            f"{value.at}: {error} data_aug_package: {TORCH} applies the same schemes without it."
        ) from None
