"""A run's configuration: the core's schema and those of the chosen plugins as one, and what the user set."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from lannunet_core.config.loaded import ChosenPlugin, LoadedConfig
from lannunet_core.config.problems import Value, problems
from lannunet_core.config.schema import (
    DEFAULT_TASK,
    KeyPath,
    RunConfig,
    Spellings,
    canonical,
    key_of,
    section_of,
)
from lannunet_core.config.stages import second_stage
from lannunet_core.config.yaml import Entry, entries, read_override, read_yaml
from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean, is_among, plain
from lannunet_core.plugins import discovery, manager, tasks
from lannunet_core.plugins.api import Plugin, PluginConfig
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.task import Task

TORCH = "torch"
"""`sampler.data_aug_package` of the core itself."""

Section = tuple[InstalledPlugin, type[PluginConfig]]
"""A plugin and the model of its settings."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and validate a configuration.

    Args:
        path: The YAML file. Relative paths in it start at its folder.
        overrides: `key=value` each; relative paths in them start at the working folder.

    Raises:
        UserError: All that is wrong with it, one line each.
    """
    written = read_yaml(path)
    for override in overrides:
        written += read_override(override)
    return _load(written, path)


def written_output_dir(path: Path, overrides: Sequence[str] = ()) -> Path | None:
    """`output.output_dir` of a configuration that need not be valid; None where it is not given."""
    written = read_yaml(path)
    for override in overrides:
        written += read_override(override)
    value = _merge(_spelled(written, RunConfig)).get(("output", "output_dir"))
    if value is None or not isinstance(value.value, str):
        return None
    return value.entry.folder / Path(value.value).expanduser()


def load_resolved(data: dict[str, Any], where: str) -> LoadedConfig:
    """Validate what `LoadedConfig.resolved` gave, from the file `where`."""
    return _load(entries(data, where, Path(where).parent, {}), Path(where))


def composed(
    architectures: Iterable[Section], extensions: Iterable[Section], core: type[RunConfig]
) -> type[RunConfig]:
    """The core's schema with the plugins' sections: model.<name> and trainer.<name>."""
    fields = core.model_fields
    model = _with_sections(_section(core, "model"), "model", architectures)
    trainer = _with_sections(_section(core, "trainer"), "trainer", extensions)
    return create_model(
        "Configuration",
        __base__=core,
        model=(model, Field(default_factory=model, description=fields["model"].description)),
        trainer=(trainer, Field(default_factory=trainer, description=fields["trainer"].description)),
    )


def _with_sections(core: type[BaseModel], section: str, plugins: Iterable[Section]) -> type[BaseModel]:
    taken = {plain(name): name for name in core.model_fields}
    fields: dict[str, Any] = {}
    for index, (installed, config) in enumerate(plugins):
        if key := taken.get(plain(installed.name)):
            raise UserError(
                f"Plugin {installed} cannot be used: its settings would be {section}.{installed.name}, "
                f"and the core has a key {section}.{key}. Its author has to give it another name."
            )
        # The name of a plugin need not be an identifier, so it is the alias.
        spellings = Spellings(plain(name) for name in installed.names)
        description = f"Settings of the plugin {installed.name} ({installed.distribution})."
        fields[_field_name(index)] = (
            Annotated[config, spellings],
            Field(alias=installed.name, default_factory=config, description=description),
        )
    return create_model(core.__name__, __base__=core, **fields)


def _section(core: type[RunConfig], name: str) -> type[BaseModel]:
    found = section_of(core.model_fields[name])
    assert found is not None
    return found


def _field_name(index: int) -> str:
    return f"plugin_{index}"


_composed = functools.cache(composed)  # so that configurations of the same plugins are of one class


def _load(written: list[Entry], path: Path) -> LoadedConfig:
    warnings: list[str] = []
    values = _merge(_spelled(written, RunConfig))
    task = tasks.find(*_task_name(values))
    values = _merge(_translated(written, task, task.config, []))
    choice, choices = values.get(("model", "architecture")), values.get(("trainer", "plugins"))
    architecture = _find(choice, _default_architecture(task), task)
    extensions = _find_all(choices, task)
    package = _augmentation_package(values.get(("sampler", "data_aug_package")), task)
    if package is not None and package not in extensions:
        extensions = (*extensions, package)
    classes = {architecture: _load_class(architecture, choice)}
    classes |= {plugin: _load_class(plugin, choices) for plugin in extensions}
    model = _composed(
        ((architecture, classes[architecture].Config),),
        tuple((plugin, classes[plugin].Config) for plugin in extensions),
        task.config,
    )
    values = _merge(_translated(written, task, model, warnings))
    sections = [("model", architecture.name), *(("trainer", plugin.name) for plugin in extensions)]
    run = _validate(model, values, sections, path)
    named = [plugin.name for plugin in extensions if plugin is not package]
    run = _settled(run, values, path.parent, architecture.name, named)
    chosen = [
        ChosenPlugin(architecture, classes[architecture], getattr(run.model, _field_name(0))),
        *(
            ChosenPlugin(plugin, classes[plugin], getattr(run.trainer, _field_name(index)))
            for index, plugin in enumerate(extensions)
        ),
    ]
    manager.check(chosen, run.task, tasks.specs_asked(task))
    loaded = LoadedConfig(
        run=run,
        architecture=chosen[0],
        extensions=tuple(chosen[1:]),
        path=path,
        given={value.key: value.entry.where() for value in values.values()},
        warnings=tuple(warnings),
        replaced={
            key: plugin
            for plugin in chosen
            for key in replaced_keys(plugin.plugin_class, task.defaults.replaced)
        },
    )
    _check_meaning(loaded, task, values)
    if getattr(run, "refine", None) is None:
        return loaded
    stage = second_stage(task, written, values, run, path)
    try:
        second = _load(stage.entries, path)
    except UserError as error:
        raise UserError(f"refine (the second stage): {error}") from None
    return replace(loaded, refine=replace(second, fixed=stage.fixed))


def replaced_keys(plugin: type, replaced: Mapping[str, str]) -> dict[str, str]:
    """The YAML keys that mean nothing once this plugin is chosen, each with the hook that replaces it.

    Args:
        plugin: Its class.
        replaced: Of the task's defaults.
    """
    hooks = manager.implemented_hooks(plugin)
    return {key: hook for hook, key in replaced.items() if hooks.get(hook) is False}


def _task_name(values: Mapping[KeyPath, Value]) -> tuple[str, str]:
    """The task's name, and where it is written."""
    value = values.get(("task",))
    if value is None or not isinstance(value.value, str):
        return DEFAULT_TASK, "task is left out"
    return value.value, value.at


def _default_architecture(task: Task) -> str:
    field = task.config.model_fields["model"]
    section = section_of(field)
    default = section.model_fields["architecture"].default if section else None
    return default if isinstance(default, str) else ""


def _augmentation_package(value: Value | None, task: Task) -> InstalledPlugin | None:
    """The plugin that `sampler.data_aug_package` names; None: the core's own way."""
    if value is None or not isinstance(value.value, str) or plain(value.value) == TORCH:
        return None
    try:
        return discovery.find(value.value)
    except UserError as error:
        raise UserError(
            f'{value.at}: {error} `pip install "lannunet-core[all]"` brings the packages that belong to the '
            "core; data_aug_package: torch applies the same schemes without any."
        ) from None


def _spelled(written: list[Entry], model: type[RunConfig]) -> Iterator[Value]:
    """Each entry under our spelling of its key."""
    for entry in written:
        yield Value(canonical(entry.path, model)[0], entry.value, entry)


def _translated(
    written: list[Entry], task: Task, model: type[RunConfig], warnings: list[str]
) -> Iterator[Value]:
    """Each entry under our key; what means nothing here goes into `warnings`."""
    if any(entry.lines and entry.path[0].isupper() for entry in written):
        warnings.append(
            f"{written[0].source}: LaNNU-Net's keys are understood, but what is left out takes our defaults, "
            "and relative paths start at this file. `lannunet config import` spells out LaNNU-Net's defaults."
        )
    for entry in written:
        path, found = canonical(entry.path, model)
        foreign = entry.path[-1].isupper()
        key, value, note = task.translate(".".join(path).lower(), entry.value, foreign)
        if found is None and (why := task.why_dropped(key)):
            warnings.append(f"{entry.where()}: {'.'.join(entry.path)} is ignored: {why}.")
            continue
        if note:
            warnings.append(f"{entry.where()}: {'.'.join(entry.path)}: {note}.")
        translated = found is None and canonical(tuple(key.split(".")), model)[1] is not None
        if found and section_of(found) and value is None:
            continue  # `solver:` with nothing below it
        yield Value(tuple(key.split(".")) if translated else path, value, entry)


def _merge(values: Iterable[Value]) -> dict[KeyPath, Value]:
    """Later values replace earlier ones, as an override does; a file may give each only once."""
    merged: dict[KeyPath, Value] = {}
    for value in values:
        for path, earlier in list(merged.items()):
            shorter = min(len(path), len(value.path))
            if path[:shorter] == value.path[:shorter]:
                if earlier.entry.lines and earlier.entry.lines is value.entry.lines:
                    raise UserError(
                        f"{value.at}: {value.key} is also given in {earlier.at}. Remove one of them."
                    )
                del merged[path]
        merged[value.path] = value
    return merged


def _find(value: Value | None, default: str, task: Task) -> InstalledPlugin:
    name = value.value if value else default
    if not name and not default:
        raise UserError(
            f"model.architecture: is left out, and task {task.name} has no default; name the plugin that brings "
            f"the network. Installed: {', '.join(plugin.name for plugin in discovery.installed()) or 'none'}."
        )
    try:
        # What is no name is left for validation to refuse.
        return discovery.find(name if isinstance(name, str) else default)
    except UserError as error:
        raise UserError(
            f"{value.at if value else f'model.architecture is left out, so {default}'}: {error}"
        ) from None


def _find_all(value: Value | None, task: Task) -> tuple[InstalledPlugin, ...]:
    if value is None or not isinstance(value.value, list):
        return ()
    names = [name for name in value.value if isinstance(name, str)]
    return tuple(_find(Value(value.path, name, value.entry), name, task) for name in names)


def _load_class(plugin: InstalledPlugin, value: Value | None) -> type[Plugin]:
    try:
        return plugin.load()
    except UserError as error:
        raise UserError(f"{value.at}: {error}" if value else str(error)) from error


def _validate(
    model: type[RunConfig],
    values: Mapping[KeyPath, Value],
    plugin_sections: Sequence[tuple[str, str]],
    path: Path,
) -> RunConfig:
    data: dict[str, Any] = {}
    for value in values.values():
        inner = data
        for key in value.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[value.path[-1]] = value.value
    for section, name in plugin_sections:  # also those left out: a plugin may have keys that must be set
        if isinstance(data.setdefault(section, {}), dict):
            data[section].setdefault(name, {})
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(problems(error, model, data, values, path))) from None


def _settled(
    run: RunConfig,
    values: Mapping[KeyPath, Value],
    folder: Path,
    architecture: str,
    extensions: list[str],
) -> RunConfig:
    """With absolute paths and the canonical names of plugins."""

    def absolute(value: Any, path: KeyPath) -> Any:
        if isinstance(value, Path):
            start = next((values[path[:n]].entry.folder for n in (2, 3, 4) if path[:n] in values), folder)
            # Not `resolve`: a symbolic link stays as the user wrote it.
            return Path(os.path.abspath(start / value.expanduser()))  # noqa: PTH100
        if isinstance(value, BaseModel):
            old = {name: getattr(value, name) for name in type(value).model_fields}
            new = {
                name: absolute(old[name], (*path, key_of(name, field_)))
                for name, field_ in type(value).model_fields.items()
            }
            return value.model_copy(update={name: new[name] for name in new if new[name] is not old[name]})
        if isinstance(value, list | tuple) and any(isinstance(item, Path) for item in value):
            return type(value)(absolute(item, path) for item in value)
        return value

    settled: RunConfig = absolute(run, ())
    settled.model.architecture = architecture
    settled.trainer.plugins = extensions
    return settled


def _check_meaning(loaded: LoadedConfig, task: Task, values: Mapping[KeyPath, Value]) -> None:
    """What can only be said once it is known which hooks the plugins answer."""
    wrong = []
    for key, plugin in loaded.replaced.items():
        value = values.get(tuple(key.split(".")))
        if value and value.value != "auto":
            hook = replaced_keys(plugin.plugin_class, task.defaults.replaced)[key]
            wrong.append(
                f"{value.at}: found {value.value!r}, but the plugin {plugin.installed} answers in its place "
                f"(hook '{hook}'). Remove this key."
            )
    hooks = {hook for plugin in loaded.plugins for hook in manager.implemented_hooks(plugin.plugin_class)}
    for key, (hook, known) in task.names.items():
        section, name = key.split(".")
        found = getattr(getattr(loaded.run, section), name)
        if key in loaded.replaced or hook in hooks or is_among(found, known):
            continue
        wrong.append(
            f"{values[section, name].at}: found {found!r}, should be {', '.join(known)} or a name that a "
            f"plugin of this run brings.{did_you_mean(found, known)}"
        )
    if wrong:
        raise UserError("\n".join(wrong))
