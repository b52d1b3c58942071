"""A run's configuration: the core's schema and those of the chosen plugins as one, and what the user set."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from lannunet_core.config.choosing import TORCH, Files, choose_plugins, name_of, suggestions
from lannunet_core.config.formats import AUTO
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
from lannunet_core.config.yaml import Entry, entries, read_override, read_yaml
from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean, is_among, plain
from lannunet_core.plugins import manager, tasks
from lannunet_core.plugins.api import PluginConfig
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.task import Task

Section = tuple[InstalledPlugin, type[PluginConfig]]
"""A plugin and the model of its settings."""


def load_config(path: Path, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()) -> LoadedConfig:
    """Read and validate a configuration.

    Args:
        path: The YAML file. Relative paths in it start at its folder.
        overrides: `key=value` each; relative paths in them start at the working folder.
        plugins: Files with a plugin each, beside those that the configuration names.

    Raises:
        UserError: All that is wrong with it, one line each.
    """
    return _load(_written(path, overrides), path, Files(tuple(plugins)))


def written_output_dir(path: Path, overrides: Sequence[str] = ()) -> Path | None:
    """`output.output_dir` of a configuration that need not be valid; None where it is not given."""
    value = _spelled(_written(path, overrides)).get(("output", "output_dir"))
    if value is None or not isinstance(value.value, str):
        return None
    return value.entry.folder / Path(value.value).expanduser()


def _written(path: Path, overrides: Sequence[str]) -> list[Entry]:
    return [*read_yaml(path), *(entry for override in overrides for entry in read_override(override))]


def load_resolved(data: dict[str, Any], where: str, plugins: Sequence[Path] = ()) -> LoadedConfig:
    """Validate what `LoadedConfig.resolved` gave, from the file `where`.

    Of plugins in files, only those in `plugins` are run, whatever the configuration names.
    """
    files = Files(tuple(plugins), any_named=False)
    return _load(entries(data, where, Path(where).parent, {}), Path(where), files)


def composed(
    architectures: Iterable[Section], extensions: Iterable[Section], core: type[RunConfig]
) -> type[RunConfig]:
    """The core's schema with the plugins' sections: model.<name> and trainer.<name>."""
    return create_model(
        "Configuration",
        __base__=core,
        model=_with_sections(core, "model", architectures),
        trainer=_with_sections(core, "trainer", extensions),
    )


def _with_sections(core: type[RunConfig], section: str, plugins: Iterable[Section]) -> tuple[Any, Any]:
    """A section of the core's with those of plugins in it, as `create_model` takes a field."""
    own = section_of(core.model_fields[section])
    assert own is not None
    taken = {plain(name): name for name in own.model_fields}
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
    model = create_model(own.__name__, __base__=own, **fields)
    return model, Field(default_factory=model, description=core.model_fields[section].description)


def _field_name(index: int) -> str:
    return f"plugin_{index}"


_composed = functools.cache(composed)  # so that configurations of the same plugins are of one class


def _load(written: list[Entry], path: Path, files: Files) -> LoadedConfig:
    warnings: list[str] = []
    named = _spelled(written).get(("task",))
    if named is not None and isinstance(named.value, str):
        task = tasks.find(named.value, named.at)
    else:
        task = tasks.find(DEFAULT_TASK, "task is left out")
    found = choose_plugins(_merge(_translated(written, task, task.config, [])), task, files)
    classes = found.classes
    architecture, *extensions = classes
    written = suggestions(found, task.name, path) + written
    model = _composed(
        ((architecture, classes[architecture].Config),),
        tuple((plugin, classes[plugin].Config) for plugin in extensions),
        task.config,
    )
    values = _merge(_translated(written, task, model, warnings))
    if ("task",) in values and isinstance(values["task",].value, str):
        values["task",] = replace(values["task",], value=task.name)  # whatever its spelling
    sections = [("model", architecture.name), *(("trainer", plugin.name) for plugin in extensions)]
    run = _validate(model, values, sections, path)
    run = _settled(run, values, path.parent, name_of(architecture), list(found.named))
    chosen = [
        ChosenPlugin(architecture, classes[architecture], getattr(run.model, _field_name(0))),
        *(
            ChosenPlugin(plugin, classes[plugin], getattr(run.trainer, _field_name(index)))
            for index, plugin in enumerate(extensions)
        ),
    ]
    manager.check(chosen, run.task, tasks.specs_asked(task))
    replaced = task.defaults.replaced
    loaded = LoadedConfig(
        run=run,
        architecture=chosen[0],
        extensions=tuple(chosen[1:]),
        path=path,
        given={value.key: value.entry.where() for value in values.values()},
        warnings=(*found.warnings, *warnings),
        replaced={key: plugin for plugin in chosen for key in replaced_keys(plugin.plugin_class, replaced)},
    )
    _check_meaning(loaded, task, values)
    if getattr(run, "refine", None) is None:
        return loaded
    stage = task.stage(written, values, run, path)
    try:
        second = _load([*stage.entries], path, files)
    except UserError as error:
        raise UserError(f"refine (the second stage): {error}") from None
    return replace(loaded, refine=replace(second, fixed=stage.fixed))


def replaced_keys(plugin: type, replaced: Mapping[str, str]) -> dict[str, str]:
    """The YAML keys that mean nothing once this plugin is chosen, each with the hook that replaces it."""
    hooks = manager.implemented_hooks(plugin)
    return {key: hook for hook, key in replaced.items() if hooks.get(hook) is False}


def _spelled(written: list[Entry]) -> dict[KeyPath, Value]:
    """What counts of the entries, under the core's spelling of their keys."""
    return _merge(Value(canonical(entry.path, RunConfig)[0], entry.value, entry) for entry in written)


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
    run: RunConfig, values: Mapping[KeyPath, Value], folder: Path, architecture: str, extensions: list[str]
) -> RunConfig:
    """With absolute paths, and names in their canonical spelling."""

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
    own = ((settled.dataset, "format", AUTO), (settled.sampler, "data_aug_package", TORCH))
    for section, key, name in own:
        if is_among(getattr(section, key, ""), (name,)):
            setattr(section, key, name)
    settled.trainer.plugins = extensions
    return settled


def _check_meaning(loaded: LoadedConfig, task: Task, values: Mapping[KeyPath, Value]) -> None:
    """What can only be said once it is known which hooks the plugins answer."""
    wrong = []
    for key, plugin in loaded.replaced.items():
        value = values.get(tuple(key.split(".")))
        if value and value.value != "auto" and not value.entry.suggested:
            hook = replaced_keys(plugin.plugin_class, task.defaults.replaced)[key]
            wrong.append(
                f"{value.at}: found {value.value!r}, but the plugin {plugin.installed} answers in its place "
                f"(hook '{hook}'). Remove this key."
            )
    hooks = {hook for plugin in loaded.plugins for hook in manager.implemented_hooks(plugin.plugin_class)}
    for key, (hook, known) in task.names.items():
        section, name = key.split(".")
        found = getattr(getattr(loaded.run, section), name)
        if key in loaded.replaced or hook in hooks:
            continue
        for one in [found] if isinstance(found, str) else found:
            if not is_among(one, known):
                at = values[section, name].at
                wrong.append(
                    f"{at}: found {one!r}, should be {', '.join(known)} or a name that a plugin of this run "
                    f"brings.{did_you_mean(one, known)}"
                )
    if wrong:
        raise UserError("\n".join(wrong))
