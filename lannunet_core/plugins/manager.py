"""The plugins of one run: what they implement, whether they go together, and putting them together.

Every run has a manager of its own, so that two runs in one process do not see each other. It cannot be
pickled and never travels to loader workers.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from lannunet_core import hookspecs
from lannunet_core.errors import UserError
from lannunet_core.names import did_you_mean
from lannunet_core.plugins.api import Plugin, RunInfo
from lannunet_core.plugins.hooks import CORE, Hooks, telling_of
from lannunet_core.plugins.installed import InstalledPlugin, PluginWarning
from lannunet_core.version import __version__

if TYPE_CHECKING:
    from lannunet_core.config.loaded import ChosenPlugin, LoadedConfig

H = TypeVar("H", bound=Hooks)


@dataclass(frozen=True)
class Spec:
    """A hook's specification.

    Attributes:
        single: Whether one answer counts.
        arguments: What is given.
        tasks: Those that ask for it; empty: every task.
    """

    single: bool
    arguments: tuple[str, ...]
    tasks: tuple[str, ...]

    def asked_in(self, task: str) -> bool:
        return not self.tasks or task in self.tasks


Specs = Mapping[str, Spec]


def specs_of(*namespaces: ModuleType) -> Specs:
    """The specifications in modules, by hook."""
    return {
        name: Spec(
            function.lannunet_spec["firstresult"],
            tuple(inspect.signature(function).parameters),
            getattr(function, "lannunet_tasks", ()),
        )
        for namespace in namespaces
        for name, function in vars(namespace).items()
        if hasattr(function, "lannunet_spec")
    }


SPECS = specs_of(hookspecs)
"""Those of the core."""


def implemented_hooks(plugin: type) -> dict[str, bool]:
    """The hooks that a class implements, and whether in wrapper form (one that only changes an answer)."""
    return {name: _is_wrapper(options) for name, _, options in _implementations(plugin)}


def plain_arguments(plugin: type) -> dict[str, set[str]]:
    """The hooks that a class answers itself, each with the arguments that it takes."""
    return {
        name: set(inspect.signature(function).parameters)
        for name, function, options in _implementations(plugin)
        if not _is_wrapper(options)
    }


def check(plugins: Sequence[ChosenPlugin], task: str, specs: Specs = SPECS) -> None:
    """Inspects the chosen classes, the architecture's first, before anything is made of them.

    Raises:
        UserError: A hook is misspelt or asks for what it is not given, a plugin does not serve the run's
            task, or plugins contradict each other.
    """
    architecture, *extensions = plugins
    for plugin in plugins:
        check_class(plugin.installed, plugin.plugin_class, specs)
    for plugin in plugins:
        served = plugin.plugin_class.tasks
        if served is not None and task not in served:
            is_first = plugin is architecture
            key = "model.architecture" if is_first else "trainer.plugins"
            way_out = "choose another architecture" if is_first else "remove it there"
            raise UserError(
                f"{key}: plugin {plugin.installed} does not serve `task: {task}`; it serves "
                f"{' and '.join(served)}. To go on, {way_out}, or set `task: {served[0]}`."
            )
        hooks = [hook for hook in implemented_hooks(plugin.plugin_class) if hook in specs]
        if hooks and not any(specs[hook].asked_in(task) for hook in hooks):
            raise UserError(
                f"trainer.plugins: plugin {plugin.installed} would do nothing: `task: {task}` does not "
                f"ask for {' and '.join(hooks)}, which is all that it implements. Remove it there."
            )
    if "network" not in implemented_hooks(architecture.plugin_class):
        # An author's likely slip: the method is there, its mark is not.
        unmarked = hasattr(architecture.plugin_class, "network")
        hint = " (its method 'network' lacks @hookimpl)" if unmarked else ""
        raise UserError(
            f"model.architecture: plugin {architecture.installed} provides no network. Name it in "
            f"trainer.plugins, and an architecture here{hint}."
        )
    for hook, spec in specs.items():
        rivals = plugins if hook == "network" else extensions
        plain = [str(p.installed) for p in rivals if implemented_hooks(p.plugin_class).get(hook) is False]
        if spec.single and len(plain) > 1:
            what = "provide a network" if hook == "network" else f"implement the hook '{hook}'"
            raise UserError(
                f"Plugins {' and '.join(plain)} both {what}, and only one can count. Choose one of them "
                f"(a plugin that only changes another's answer uses @hookimpl(wrapper=True))."
            )


def answers(
    loaded: LoadedConfig, defaults: type, specs: Specs = SPECS
) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each hook of the run's task the names and versions of those who answer, as they are asked.

    Those that wrap others' answers are asked before those that answer, the defaults of the task last.
    """
    hooks = [
        (implemented_hooks(plugin.plugin_class), (plugin.installed.name, plugin.installed.version))
        for plugin in [*reversed(loaded.extensions), loaded.architecture]
    ]
    hooks.append((implemented_hooks(defaults), (CORE, __version__)))

    def asked(hook: str) -> list[tuple[str, str]]:
        return [who for wraps in (True, False) for found, who in hooks if found.get(hook) is wraps]

    return [(hook, asked(hook)) for hook, spec in specs.items() if spec.asked_in(loaded.run.task)]


def assemble(
    plugins: Sequence[ChosenPlugin],
    run: RunInfo,
    defaults: Any,
    hooks: type[H],
    further_specs: Sequence[ModuleType] = (),
) -> H:
    """The hooks of plugins that were checked before; the last is asked first, the defaults last.

    Args:
        plugins: The architecture first.
        run: What they receive.
        defaults: Answers at the bottom; its `hooks` are set.
        hooks: What is made.
        further_specs: Modules with a task's own specifications.

    Raises:
        RunFailed: A plugin cannot be made.
    """
    manager = pluggy.PluginManager("lannunet")
    for namespace in (hookspecs, *further_specs):
        manager.add_hookspecs(namespace)
    manager.register(defaults, CORE)
    for plugin in plugins:
        with telling_of(plugin.installed, "when it is made for a run"):
            instance = plugin.plugin_class(plugin.config, run)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            manager.register(_Registered(plugin.installed, instance), str(plugin.installed))
        for warning in caught:  # of specifications: `warn_on_impl`, `warn_on_impl_args`
            warnings.warn(f"Plugin {plugin.installed}: {warning.message}", PluginWarning, 2)
    made = hooks(manager)
    defaults.hooks = made
    return made


class _Registered:
    """What pluggy sees of a plugin: its hook methods."""

    def __init__(self, installed: InstalledPlugin, plugin: Plugin) -> None:
        self._installed = installed
        self._has_settings = bool(plugin.Config.model_fields)
        for attribute in dir(type(plugin)):
            if _options(getattr(type(plugin), attribute, None)) is not None:
                setattr(self, attribute, getattr(plugin, attribute))


def _implementations(plugin: type) -> list[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """(hook, function, the options of its @hookimpl) of every marked method, inherited ones included."""
    found: list[tuple[str, Callable[..., Any], Mapping[str, Any]]] = []
    for attribute in dir(plugin):
        function: Any = getattr(plugin, attribute, None)
        options = _options(function)
        if options is not None:
            found.append((options.get("specname") or attribute, function, options))
    return found


def _options(function: Any) -> Mapping[str, Any] | None:
    options = getattr(function, "lannunet_impl", None)
    return options if inspect.isroutine(function) and isinstance(options, dict) else None


def _is_wrapper(options: Mapping[str, Any]) -> bool:
    return bool(options.get("wrapper") or options.get("hookwrapper"))


def check_class(installed: InstalledPlugin, plugin_class: type[Plugin], specs: Specs = SPECS) -> None:
    """Inspects how a class implements its hooks.

    Raises:
        UserError: A hook is misspelt or asks for what it is not given, or `tasks` is no tuple of names.
    """
    tasks: object = plugin_class.tasks
    if tasks is not None and not (
        isinstance(tasks, tuple) and tasks and all(isinstance(task, str) for task in tasks)
    ):
        raise UserError(
            f"Plugin {installed}: {plugin_class.__qualname__}.tasks is {tasks!r}, should be a tuple of "
            f"tasks' names, or None for every task. {installed.remedy}"
        )
    for hook, function, options in _implementations(plugin_class):
        where = f"Plugin {installed}, {function.__qualname__}"
        if hook not in specs:
            if options.get("optionalhook"):
                continue
            raise UserError(
                f"{where}: there is no hook '{hook}';{did_you_mean(hook, specs).lower()} "
                f"Hooks: {', '.join(specs)}. {installed.remedy}"
            )
        allowed = specs[hook].arguments
        # pluggy passes by name what is asked for without a default, and silently nothing else.
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name == "self":
                continue
            known = parameter.name in allowed
            plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
            if not (known and plain):
                problem = "must have no default" if known else "is not an argument of this hook"
                hint = "" if known else did_you_mean(parameter.name, allowed)
                raise UserError(
                    f"{where}: '{parameter}' {problem}. "
                    f"It may ask for: {', '.join(allowed) or 'nothing'}.{hint} {installed.remedy}"
                )
        if options.get("tryfirst") or options.get("trylast"):
            raise UserError(
                f"{where}: tryfirst and trylast are not allowed; the run's configuration gives the order. "
                f"{installed.remedy}"
            )
        if _is_wrapper(options) and not inspect.isgeneratorfunction(function):
            raise UserError(
                f"{where}: a hook in wrapper form must yield once, and return the answer. {installed.remedy}"
            )
