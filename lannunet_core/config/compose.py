"""A run's configuration: the core's schema and those of the chosen plugins as one, and what the user set."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from lannunet_core.config import lannunet, schema
from lannunet_core.config.problems import Value, did_you_mean, problems
from lannunet_core.config.schema import (
    DatasetConfig,
    KeyPath,
    ModelConfig,
    RunConfig,
    SegmentationRunConfig,
    Spellings,
    canonical,
    key_of,
    section_of,
)
from lannunet_core.config.yaml import Entry, entries, read_file, read_override
from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, manager
from lannunet_core.plugins.api import Plugin, PluginConfig
from lannunet_core.plugins.discovery import InstalledPlugin

STAGE_SECTIONS = ("sampler", "solver", "trainer", "model")
"""What a second stage may have of its own."""

NAMES: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "landmarks": {
        "solver.loss_function": ("losses", schema.LOSSES),
        "inference.decoder": ("decoders", schema.DECODERS),
        "sampler.data_aug": ("augmentations", schema.SCHEMES),
    },
    "segmentation": {
        "solver.loss_function": ("losses", schema.SEGMENTATION_LOSSES),
        "sampler.data_aug": ("augmentations", schema.SCHEMES),
    },
}
"""By task: keys that choose by name, the hook with which plugins bring further names, and the core's own."""


Section = tuple[InstalledPlugin, type[PluginConfig]]
"""A plugin and the model of its settings."""


@dataclass(frozen=True)
class ChosenPlugin:
    """A plugin that the run uses, imported, with its validated section."""

    installed: InstalledPlugin
    plugin_class: type[Plugin]
    config: PluginConfig


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration.

    Attributes:
        run: The core's part, with absolute paths; the plugins' sections are in it too.
        architecture: The plugin that brings the network.
        extensions: The plugins laid over it, in listed order.
        path: The file, or where else it comes from.
        given: Where each key that was set is written (`my.yaml:4`, `--set …`), by its dotted path.
        warnings: What the user should know.
        refine: The second stage, a run of its own.
    """

    run: RunConfig
    architecture: ChosenPlugin
    extensions: tuple[ChosenPlugin, ...]
    path: Path
    given: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()
    refine: LoadedConfig | None = None

    @property
    def plugins(self) -> tuple[ChosenPlugin, ...]:
        return (self.architecture, *self.extensions)

    @property
    def replaced(self) -> dict[str, ChosenPlugin]:
        """Keys that mean nothing in this run, each with the plugin that answers in their place."""
        return {key: plugin for plugin in self.plugins for key in manager.replaced_keys(plugin.plugin_class)}

    def resolved(self) -> dict[str, Any]:
        """Every value as plain data, which `load_config` (as YAML) and `load_resolved` read back."""
        data = self.run.model_dump(mode="json", by_alias=True)
        for key in self.replaced:
            section, name = key.split(".")
            del data[section][name]
        if self.refine is None:
            del data["refine"]
        else:
            second = self.refine.resolved()
            data["refine"] = {section: second[section] for section in STAGE_SECTIONS}
            del second["sampler"]["sample_mode"], second["sampler"]["patch"]["centres"]
        return data


def load_config(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and validate a configuration.

    Args:
        path: The YAML file. Relative paths in it start at its folder.
        overrides: `key=value` each; relative paths in them start at the working folder.

    Raises:
        UserError: All that is wrong with it, one line each.
    """
    written = read_file(path)
    for override in overrides:
        written += read_override(override)
    return _load(written, path)


def written_output_dir(path: Path, overrides: Sequence[str] = ()) -> Path | None:
    """`output.output_dir` of a configuration that need not be valid; None where it is not given."""
    written = read_file(path)
    for override in overrides:
        written += read_override(override)
    value = _merge(_translated(written, RunConfig, [])).get(("output", "output_dir"))
    if value is None or not isinstance(value.value, str):
        return None
    return value.entry.folder / Path(value.value).expanduser()


def load_resolved(data: dict[str, Any], where: str) -> LoadedConfig:
    """Validate what `LoadedConfig.resolved` gave, from the file `where`."""
    return _load(entries(data, where, Path(where).parent, {}), Path(where))


def composed(
    architectures: Iterable[Section], extensions: Iterable[Section], core: type[RunConfig] = RunConfig
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
    taken = {discovery.fold(name): name for name in core.model_fields}
    fields: dict[str, Any] = {}
    for index, (installed, config) in enumerate(plugins):
        if key := taken.get(discovery.fold(installed.name)):
            raise UserError(
                f"Plugin {installed} cannot be used: its settings would be {section}.{installed.name}, "
                f"and the core has a key {section}.{key}. Its author has to give it another name."
            )
        # The name of a plugin need not be an identifier, so it is the alias.
        spellings = Spellings(discovery.fold(name) for name in installed.names)
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
    values = _merge(_translated(written, RunConfig, []))
    task = values.get(("task",))
    core = SegmentationRunConfig if task and task.value == "segmentation" else RunConfig
    choice, choices = values.get(("model", "architecture")), values.get(("trainer", "plugins"))
    architecture = _find(choice, ModelConfig().architecture)
    extensions = _find_all(choices)
    classes = {architecture: _load_class(architecture, choice)}
    classes |= {plugin: _load_class(plugin, choices) for plugin in extensions}
    model = _composed(
        ((architecture, classes[architecture].Config),),
        tuple((plugin, classes[plugin].Config) for plugin in extensions),
        core,
    )
    values = _merge(_translated(written, model, warnings))
    sections = [("model", architecture.name), *(("trainer", plugin.name) for plugin in extensions)]
    run = _validate(model, values, sections, path)
    run = _settled(run, values, path.parent, architecture, extensions)
    loaded = LoadedConfig(
        run=run,
        architecture=ChosenPlugin(architecture, classes[architecture], getattr(run.model, _field_name(0))),
        extensions=tuple(
            ChosenPlugin(plugin, classes[plugin], getattr(run.trainer, _field_name(index)))
            for index, plugin in enumerate(extensions)
        ),
        path=path,
        given={value.key: value.entry.where() for value in values.values()},
        warnings=tuple(warnings),
    )
    manager.check(loaded)
    _check_meaning(loaded, values)
    if run.refine is None:
        return loaded
    return replace(loaded, refine=_second_stage(written, values, run, path))


def _second_stage(
    written: list[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
) -> LoadedConfig:
    """The run of the first with the keys of `refine` laid over it, on patches around its predictions."""
    own = {
        tuple(key.casefold() for key in value.path[1:]): value
        for value in values.values()
        if value.path[0] == "refine" and len(value.path) > 1
    }
    for keys, value in own.items():
        if keys[0] not in STAGE_SECTIONS:
            raise UserError(
                f"{value.at}: a second stage has its own {', '.join(STAGE_SECTIONS)}; "
                "the rest is the first's."
            )
        if keys in (("sampler", "sample_mode"), ("sampler", "patch", "centres")):
            raise UserError(
                f"{value.at}: a second stage looks around the first's predictions. Remove this key."
            )
    if first.inference.evaluation_mode == "use_input_size":
        raise UserError(
            f"{path}: refine: the first stage has to predict in original pixels, so "
            "inference.evaluation_mode cannot be use_input_size."
        )

    def shared(entry: Entry) -> bool:
        """Not what the first stage has for itself: its model file, and settings of another architecture."""
        keys = tuple(key.casefold() for key in entry.path)
        settings = keys[0] == "model" and len(keys) > 2 and ("model", "architecture") in own
        return keys[0] != "refine" and keys[:2] != ("model", "checkpoint") and not settings

    laid_over = [
        replace(
            value.entry,
            path=value.entry.path[1:],
            lines={
                place[1:]: line
                for place, line in value.entry.lines.items()
                if place[:1] == value.entry.path[:1]
            },
        )
        for value in own.values()
    ]
    sampler: dict[str, Any] = {"sample_mode": "patch_centred"}
    if ("sampler", "patch", "resolution_to_sample_from") not in own:
        sampler["patch"] = {"resolution_to_sample_from": "full"}
    fixed = {"sampler": sampler, "output": {"output_dir": str(first.output.output_dir / "refine")}}
    every = [entry for entry in written if shared(entry)] + laid_over
    try:
        return _load(every + entries(fixed, "refine", path.parent, {}), path)
    except UserError as error:
        raise UserError(f"refine (the second stage): {error}") from None


def _translated(written: list[Entry], model: type[RunConfig], warnings: list[str]) -> Iterator[Value]:
    """Each entry under our key; what means nothing here goes into `warnings`."""
    if any(entry.lines and entry.path[0].isupper() for entry in written):
        warnings.append(
            f"{written[0].source}: LaNNU-Net's keys are understood, but what is left out takes our defaults, "
            "and relative paths start at this file. `lannunet config import` spells out LaNNU-Net's defaults."
        )
    for entry in written:
        path, found = canonical(entry.path, model)
        key, value, note = lannunet.translate(".".join(path).lower(), entry.value)
        if found is None and (why := lannunet.why_dropped(key)):
            warnings.append(f"{entry.where()}: {'.'.join(entry.path)} is ignored: {why}.")
            continue
        if note is None and key == lannunet.PATIENCE and entry.path[-1].isupper():
            note = "here it counts validations, not epochs"
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


def _find(value: Value | None, default: str) -> InstalledPlugin:
    name = value.value if value else default
    try:
        # What is no name is left for validation to refuse.
        return discovery.find(name if isinstance(name, str) else default)
    except UserError as error:
        raise UserError(
            f"{value.at if value else f'model.architecture is left out, so {default}'}: {error}"
        ) from None


def _find_all(value: Value | None) -> tuple[InstalledPlugin, ...]:
    if value is None or not isinstance(value.value, list):
        return ()
    names = [name for name in value.value if isinstance(name, str)]
    return tuple(_find(Value(value.path, name, value.entry), name) for name in names)


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
    architecture: InstalledPlugin,
    extensions: Sequence[InstalledPlugin],
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
    root = values.get(("dataset", "root"))
    if isinstance(settled.dataset, DatasetConfig) and (root is None or root.value in ("", None)):
        settled.dataset.root = settled.dataset.annotations_folder
    settled.model.architecture = architecture.name
    settled.trainer.plugins = [plugin.name for plugin in extensions]
    return settled


def _check_meaning(loaded: LoadedConfig, values: Mapping[KeyPath, Value]) -> None:
    """What can only be said once it is known which hooks the plugins answer."""
    wrong = []
    for key, plugin in loaded.replaced.items():
        value = values.get(tuple(key.split(".")))
        if value and value.value != "auto":
            hook = manager.replaced_keys(plugin.plugin_class)[key]
            wrong.append(
                f"{value.at}: found {value.value!r}, but the plugin {plugin.installed} answers in its place "
                f"(hook '{hook}'). Remove this key."
            )
    hooks = {hook for plugin in loaded.plugins for hook in manager.implemented_hooks(plugin.plugin_class)}
    for key, (hook, known) in NAMES[loaded.run.task].items():
        section, name = key.split(".")
        found = getattr(getattr(loaded.run, section), name)
        if key in loaded.replaced or hook in hooks or found.lower() in map(str.lower, known):
            continue
        wrong.append(
            f"{values[section, name].at}: found {found!r}, should be {', '.join(known)} or a name that a "
            f"plugin of this run brings.{did_you_mean(found, known)}"
        )
    if wrong:
        raise UserError("\n".join(wrong))
