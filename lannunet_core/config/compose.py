"""A run's configuration: the schemas of the core and of the chosen plugins, and the user's values."""

import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from lannunet_core.config.acting import acting, idle_keys, replaced_keys
from lannunet_core.config.choosing import TORCH, Files, choose_plugins, name_of, suggestions
from lannunet_core.config.formats import AUTO
from lannunet_core.config.loaded import ChosenPlugin, LoadedConfig
from lannunet_core.config.problems import Value, is_foreign, problems
from lannunet_core.config.schema import (
    DEFAULT_TASK,
    KeyPath,
    RunConfig,
    Spellings,
    before,
    canonical,
    key_of,
    section_of,
)
from lannunet_core.config.yaml import (
    UNWRITABLE,
    Entry,
    Place,
    Repeated,
    entries,
    inline_yaml,
    read_override,
    read_yaml,
)
from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean, is_among, plain
from lannunet_core.plugins import manager, tasks
from lannunet_core.plugins.api import PluginConfig
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.plugins.references import ADDRESS
from lannunet_core.task import Task

Section = tuple[InstalledPlugin, type[PluginConfig]]
"""A plugin and the model class of its settings."""


def load_config(path: Path, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()) -> LoadedConfig:
    """Read and validate a configuration.

    Args:
        path: The YAML file. Relative paths in it are relative to its folder.
        overrides: `key=value` each; relative paths in them are relative to the working directory.
        plugins: Plugin files, in addition to those that the configuration names.

    Raises:
        UserError: The configuration is wrong; one line per error.
    """
    repeated: list[Repeated] = []
    written = _written(path, overrides, repeated)
    warnings = [
        f"{path}:{line}: {key} is ignored: line {again} gives it again, and the last one is used."
        for key, line, again in repeated
    ]
    recorded = path.name == "config.yaml" and path.with_name("run.json").is_file()
    return _load(written, path, Files(tuple(plugins)), warnings, recorded=recorded)


def load_values(values: Mapping[str, Any], plugins: Sequence[Path] = ()) -> LoadedConfig:
    """As `load_config`, from nested dicts, whose relative paths are relative to the working directory."""
    try:
        plain_values = json.loads(json.dumps(values, default=os.fspath))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the configuration holds more than plain values and paths: {error}.") from None
    where = Path("configuration")
    return _load(
        entries(plain_values, str(where), Path(), {}), where, Files(tuple(plugins)), [], recorded=False
    )


def written_output_dir(path: Path, overrides: Sequence[str] = ()) -> Path | None:
    """`output.output_dir` of a configuration that need not be valid; None if it is not given."""
    value = _spelled(_written(path, overrides)).get(("output", "output_dir"))
    if value is None or not isinstance(value.value, str):
        return None
    return value.entry.folder / os.path.expanduser(value.value)  # noqa: PTH111  (it never raises)


def _written(path: Path, overrides: Sequence[str], repeated: list[Repeated] | None = None) -> list[Entry]:
    written = read_yaml(path, repeated)
    return [*written, *(entry for override in overrides for entry in read_override(override))]


def load_resolved(
    data: dict[str, Any],
    where: str,
    plugins: Sequence[Path] = (),
    lines: dict[Place, int] | None = None,
) -> LoadedConfig:
    """Validate the result of `LoadedConfig.resolved`, from the file `where`; idle keys are left out.

    Only plugin files in `plugins` are run, whatever the configuration names. Messages show the
    `lines` of keys, if they are known.
    """
    files = Files(tuple(plugins), any_named=False)
    try:
        data = json.loads(json.dumps(data))
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"{where}: its configuration is damaged: it holds more than plain values.") from None
    written = entries(data, where, Path(where).parent, lines or {})
    return _load(written, Path(where), files, [], recorded=True)


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
    """A section of the core with those of plugins added, as `create_model` takes a field."""
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
        # The name of a plugin may not be an identifier, so it is the alias.
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


_composed = functools.cache(composed)  # so that configurations of the same plugins share a class


def _load(
    written: list[Entry], path: Path, files: Files, warnings: list[str], *, recorded: bool
) -> LoadedConfig:
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
    _convert(values, task, path, warnings)
    if recorded:
        meant = [one for one in _before(model, path) if not values.keys() & _above(one.path)]
        values |= {one.path: one for one in meant}
    if ("task",) in values and isinstance(values["task",].value, str):
        values["task",] = replace(values["task",], value=task.name)  # in canonical spelling
    sections = [("model", architecture.name), *(("trainer", plugin.name) for plugin in extensions)]

    def settled(values: Mapping[KeyPath, Value]) -> tuple[RunConfig, list[ChosenPlugin]]:
        run = _validate(model, values, sections, path)
        run = _settled(run, values, path.parent, name_of(architecture), list(found.named))
        configs = [getattr(run.model, _field_name(0))]
        configs += [getattr(run.trainer, _field_name(index)) for index in range(len(extensions))]
        return run, list(starmap(ChosenPlugin, zip(classes, classes.values(), configs, strict=True)))

    run, chosen = settled(values)
    manager.check(chosen, run.task, tasks.specs_asked(task))
    second = None
    if getattr(run, "refine", None) is not None:
        stage = task.stage(written, values, run, path)
        try:
            second = _load([*stage.entries], path, files, [], recorded=recorded)
        except UserError as error:
            raise UserError(f"refine (the second stage): {error}") from None
        second = replace(second, fixed=stage.fixed)
    replaced = task.defaults.replaced
    idle = idle_keys(run, chosen, replaced)
    later = second.given if second else {}
    off = values.get(("refine",))  # from the command line; settings for the second stage are kept
    recorded = recorded or (off is not None and not off.entry.lines)
    kept = acting(values, idle, later, warnings, recorded=recorded)
    if len(kept) < len(values):
        run, chosen = settled(kept)
    called = values["trainer", "plugins"].value if ("trainer", "plugins") in values else []
    for name, one in zip(called, chosen[1:], strict=False):
        warnings += one.plugin_class.notes(name, one.config)
    loaded = LoadedConfig(
        run=run,
        architecture=chosen[0],
        extensions=tuple(chosen[1:]),
        path=path,
        given={value.key: value.entry.where() for value in kept.values()},
        warnings=(*found.warnings, *warnings),
        replaced={key: plugin for plugin in chosen for key in replaced_keys(plugin.plugin_class, replaced)},
        idle={key: why for key, (why, _) in idle.items()},
        refine=second,
    )
    _check_names(loaded, task, kept)
    return loaded


def _spelled(written: list[Entry]) -> dict[KeyPath, Value]:
    """The effective entries, under the core's spelling of their keys."""
    return _merge(Value(canonical(entry.path, RunConfig)[0], entry.value, entry) for entry in written)


def _translated(
    written: list[Entry], task: Task, model: type[RunConfig], warnings: list[str]
) -> Iterator[Value]:
    """Each entry under our key; entries without a meaning here are added to `warnings`."""
    if theirs := next((entry for entry in written if entry.lines and entry.path[0].isupper()), None):
        warnings.append(
            f"{theirs.source}: LaNNU-Net's keys are accepted, but missing keys get our defaults, and "
            "relative paths start at this file. `lannunet config import` writes out LaNNU-Net's defaults."
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
            continue  # an empty section such as `solver:`
        yield Value(tuple(key.split(".")) if translated else path, value, entry)


def _above(path: KeyPath) -> set[KeyPath]:
    """A key's path, and the paths of the sections that contain it."""
    return {path[:depth] for depth in range(1, len(path) + 1)}


def _before(model: type[BaseModel], source: Path, above: KeyPath = ()) -> Iterator[Value]:
    """Values for keys that a recorded configuration lacks because they were added later."""
    for name, field_ in model.model_fields.items():
        path, section = (*above, key_of(name, field_)), section_of(field_)
        if section is not None:
            yield from _before(section, source, path)
        elif isinstance(field_.json_schema_extra, dict) and "before" in field_.json_schema_extra:
            was = before(field_)
            yield Value(path, was, Entry(path, was, str(source), source.parent, {}, True))


def _convert(values: dict[KeyPath, Value], task: Task, path: Path, warnings: list[str]) -> None:
    """Convert values that LaNNU-Net defines in other units."""
    foreign = {value.key for value in values.values() if is_foreign(value.entry.path[-1], value.path[-1])}
    if not foreign:
        return
    try:
        converted = task.convert({value.key: value.value for value in values.values()}, foreign)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for key, (new, note) in converted.items():
        place = tuple(key.split("."))
        missing = Value(place, new, Entry(place, new, str(path), path.parent, {}, True))
        values[place] = replace(values.get(place, missing), value=new)
        warnings.append(f"{values[place].at}: {inline_yaml(new)} {note}.")


def _merge(values: Iterable[Value]) -> dict[KeyPath, Value]:
    """Later values replace earlier ones, like an override; a file may give each only once."""
    merged: dict[KeyPath, Value] = {}
    sections: set[KeyPath] = set()
    for value in values:
        above = [value.path[:depth] for depth in range(1, len(value.path))]
        others = [*merged] if value.path in sections else []
        for path in (*above, value.path, *(one for one in others if one[: len(value.path)] == value.path)):
            earlier = merged.pop(path, None)
            if earlier and earlier.entry.lines and earlier.entry.lines is value.entry.lines:
                raise UserError(f"{value.at}: {value.key} is also given in {earlier.at}. Remove one of them.")
        merged[value.path] = value
        sections.update(above)
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
    for section, name in plugin_sections:  # also missing ones: a plugin may have required keys
        if isinstance(data.setdefault(section, {}), dict):
            data[section].setdefault(name, {})
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(problems(error, model, data, values, path))) from None


def _settled(
    run: RunConfig, values: Mapping[KeyPath, Value], folder: Path, architecture: str, extensions: list[str]
) -> RunConfig:
    """The configuration with absolute paths, and names in their canonical spelling."""

    def absolute(value: Any, path: KeyPath) -> Any:
        if isinstance(value, Path) and not ADDRESS.match(value.as_posix()):
            start = next((values[path[:n]].entry.folder for n in (2, 3, 4) if path[:n] in values), folder)
            # Not `resolve`: symbolic links are kept as the user wrote them.
            place = Path(os.path.abspath(start / os.path.expanduser(value)))  # noqa: PTH100, PTH111
            if UNWRITABLE.search(str(place)):  # neither YAML nor a model file could store it
                raise UserError(
                    f"{'.'.join(path)}: {place} has a name in it that is not UTF-8. Rename that folder, or "
                    "move its content."
                )
            if "\\" in str(value) and os.sep == "/" and not place.exists():
                at = next((values[path[:n]].at for n in (2, 3, 4) if path[:n] in values), ".".join(path))
                raise UserError(
                    f"{at}: {value} has backslashes, which do not separate folders here; write / instead."
                )
            return place
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


def _check_names(loaded: LoadedConfig, task: Task, values: Mapping[KeyPath, Value]) -> None:
    """Raise a UserError for names that neither the task nor a plugin of the run provides."""
    wrong = []
    hooks = {hook for plugin in loaded.plugins for hook in manager.implemented_hooks(plugin.plugin_class)}
    for key, name in tasks.foreign_names(loaded, task):
        hook, known = task.names[key]
        if hook not in hooks:
            wrong.append(
                f"{values[tuple(key.split('.'))].at}: found {name!r}, should be {', '.join(known)} or a name "
                f"that a plugin of this run provides.{did_you_mean(name, known)}"
            )
    if wrong:
        raise UserError("\n".join(wrong))
