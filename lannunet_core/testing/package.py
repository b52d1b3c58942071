"""Checks of every plugin: its package, its name and its configuration. Each docstring states the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError

from lannunet_core.config.compose import composed
from lannunet_core.config.schema import section_of
from lannunet_core.errors import UserError
from lannunet_core.names import plain
from lannunet_core.plugins import manager, tasks
from lannunet_core.plugins.api import Plugin
from lannunet_core.testing.outcomes import Broken
from lannunet_core.testing.subject import Subject, tasks_of

HEAVY = ("torch", "imgaug", "cv2", "SimpleITK", "matplotlib", "lightning_fabric")

IMPORT = """
import contextlib, importlib, io, json, sys
sys.path[:] = json.loads(sys.argv[1])
module, _, name = sys.argv[2].partition(":")
said = io.StringIO()
with contextlib.redirect_stdout(said):
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    found.Config
print(json.dumps([sorted(set(sys.modules) & set(json.loads(sys.argv[3]))), said.getvalue()]))
"""


def is_found_by_name(subject: Subject) -> None:
    """The entry-point name is the one tested; its class loads, for this version of the core."""
    installed = subject.installed()
    if plain(installed.name) != plain(subject.plugin):
        raise Broken(
            f"'{subject.plugin}' is only an alias: the plugin's own name, which its settings have, is "
            f"'{installed.name}'. Test it under that name"
        )
    installed.load()


def says_which_core_it_is_for(subject: Subject) -> None:
    """The distribution declares the versions of lannunet-core that it supports."""
    installed = subject.installed()
    if installed.requires_core is None:
        raise Broken(
            f"{installed.distribution} {installed.version} does not require lannunet-core in any version; "
            'add for instance "lannunet-core>=0.1,<0.2" to its dependencies'
        )


def imports_without_torch(subject: Subject) -> None:
    """The plugin's module and its Config import without torch and other heavy libraries, and print
    nothing."""
    value = subject.installed().value
    arguments = [json.dumps(sys.path), value, json.dumps(HEAVY)]
    ended = subprocess.run([sys.executable, "-c", IMPORT, *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise Broken(
            f"importing '{value}' fails: {(ended.stderr.strip() or 'the process ended').splitlines()[-1]}"
        )
    heavy, said = json.loads(ended.stdout)
    if heavy:
        raise Broken(f"importing '{value}' imports {', '.join(heavy)}; import inside the hooks that need it")
    if said:
        raise Broken(f"importing '{value}' prints {said.strip()!r:.200}")


def config_is_valid_by_default(subject: Subject) -> None:
    """Config() works, satisfies its own rules, and is unchanged after writing and reading."""
    config = subject.plugin_class().Config
    try:
        default = config()
        read = config.model_validate(json.loads(json.dumps(default.model_dump(mode="json", by_alias=True))))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise Broken(
            f"the default of '{key}' is not valid: {first['msg']} (found {first.get('input')!r})"
        ) from None
    except (TypeError, ValueError) as error:
        raise Broken(f"the defaults cannot be written as JSON: {error}") from None
    if read != default:
        raise Broken(f"the defaults are {default!r}, but written and read again {read!r}")


def config_describes_every_field(subject: Subject) -> None:
    """Every field of Config has a description, which users see."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if not (field.description or "").strip():
                yield prefix + name
            if section := section_of(field):
                yield from walk(section, f"{prefix}{name}.")

    if missing := list(walk(subject.plugin_class().Config, "")):
        raise Broken(f"no description: {', '.join(missing)}; write Field(…, description=…)")


def config_refuses_unknown_keys(subject: Subject) -> None:
    """Config refuses unknown keys, so that mistakes of users are found."""
    config = subject.plugin_class().Config
    try:
        config.model_validate({**config().model_dump(by_alias=True), "no_such_key": 1})
    except ValidationError:
        return
    raise Broken("'no_such_key: 1' was accepted; keep extra='forbid' of PluginConfig")


def hooks_are_those_of_the_core(subject: Subject) -> None:
    """Hooks are spelled right and take existing arguments; the name is not a key of a configuration."""
    installed, plugin_class = subject.installed(), subject.plugin_class()
    beside = ("suggestions", "image_readers", "data_formats")
    brings = any(
        getattr(plugin_class, name).__func__ is not getattr(Plugin, name).__func__ for name in beside
    )
    if not (brings or manager.implemented_hooks(plugin_class)):
        raise Broken(f"{plugin_class.__name__} implements no hook; is @hookimpl missing?")
    try:
        served = tasks_of(subject)
        for task in served:
            composed([(installed, plugin_class.Config)], [(installed, plugin_class.Config)], task.config)
        specs = {name: spec for task in served for name, spec in tasks.specs_asked(task).items()}
        manager.check_class(installed, plugin_class, specs or manager.SPECS)
    except UserError as error:
        raise Broken(str(error)) from None
