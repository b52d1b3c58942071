"""The plugins of one run: what they implement, whether they go together, and calling their hooks.

Every run has a manager of its own, so that two runs in one process do not see each other. It cannot be
pickled and never travels to loader workers.
"""

from __future__ import annotations

import inspect
import reprlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, get_args

import pluggy

from lannunet_core import __version__, hookspecs
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.plugins import deprecations
from lannunet_core.plugins.api import Plugin, RunInfo, Task
from lannunet_core.plugins.discovery import InstalledPlugin, PluginWarning, cause_and_remedy

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lannunet_core.augment.schemes import Scheme
    from lannunet_core.config.compose import ChosenPlugin, LoadedConfig
    from lannunet_core.config.schema import SolverConfig
    from lannunet_core.hookspecs import Coordinates, Decoder, EvaluationMode, Event, Loss, Sampling
    from lannunet_core.plugins.defaults import Defaults
    from lannunet_core.segmentation.types import ExtraMap, SegmentationDataset
    from lannunet_core.stitch import Windows
    from lannunet_core.types import Prediction

CORE = "lannunet-core"

REPLACED_KEYS = {
    "loss": "solver.loss_function",
    "get_coords_from_heatmap": "inference.decoder",
    "sampling": "sampler.sample_mode",
}
"""The keys of the configuration that choose among the core's answers to a hook."""


@dataclass(frozen=True)
class Spec:
    """A hook's specification: does one answer count, and which arguments are there."""

    single: bool
    arguments: tuple[str, ...]


SPECS = {
    name: Spec(function.lannunet_spec["firstresult"], tuple(inspect.signature(function).parameters))
    for name, function in vars(hookspecs).items()
    if hasattr(function, "lannunet_spec")
}


class WrongAnswer(UserError):
    """A plugin answered a hook with something of another kind than the hook asks for."""


def implemented_hooks(plugin: type) -> dict[str, bool]:
    """The hooks that a class implements, and whether in wrapper form (one that only changes an answer)."""
    return {
        deprecations.present_hook(name): _is_wrapper(options) for name, _, options in _implementations(plugin)
    }


def replaced_keys(plugin: type) -> dict[str, str]:
    """The YAML keys that mean nothing once this plugin is chosen, each with the hook that replaces it."""
    hooks = implemented_hooks(plugin)
    return {key: hook for hook, key in REPLACED_KEYS.items() if hooks.get(hook) is False}


def check(loaded: LoadedConfig) -> None:
    """Looks at the chosen classes, before anything is made of them.

    Raises:
        UserError: A hook is misspelt or asks for what it is not given, a plugin does not serve the run's
            task, or plugins contradict each other.
    """
    chosen = [loaded.architecture, *loaded.extensions]
    for plugin in chosen:
        check_class(plugin.installed, plugin.plugin_class)
    for plugin in chosen:
        _check_task(
            plugin, loaded.run.task, "model.architecture" if plugin is chosen[0] else "trainer.plugins"
        )
    twice = [name for name, count in Counter(plugin.installed.name for plugin in chosen).items() if count > 1]
    if twice:
        raise UserError(
            f"Plugin '{twice[0]}' is named more than once; name it once in model or trainer.plugins."
        )
    if "network" not in implemented_hooks(loaded.architecture.plugin_class):
        raise UserError(
            f"model.architecture: plugin {loaded.architecture.installed} brings no network. Name it in "
            f"trainer.plugins, and an architecture here{_unmarked_hint(loaded.architecture, 'network')}."
        )
    for hook, spec in SPECS.items():
        rivals = chosen if hook == "network" else loaded.extensions
        plain = [str(p.installed) for p in rivals if implemented_hooks(p.plugin_class).get(hook) is False]
        if spec.single and len(plain) > 1:
            what = "bring a network" if hook == "network" else f"answer the hook '{hook}'"
            raise UserError(
                f"Plugins {' and '.join(plain)} both {what}, and only one can count. Choose one of them "
                f"(a plugin that only changes another's answer uses @hookimpl(wrapper=True))."
            )


def answers(loaded: LoadedConfig) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each hook the names and versions of those who answer, in the order in which they are asked.

    Those that wrap others' answers are asked before those that answer.
    """
    from lannunet_core.plugins.defaults import Defaults

    classes: list[tuple[type, tuple[str, str]]] = [
        (plugin.plugin_class, (plugin.installed.name, plugin.installed.version))
        for plugin in [*reversed(loaded.extensions), loaded.architecture]
    ]
    classes.append((Defaults, (CORE, __version__)))
    hooks = [(implemented_hooks(plugin), who) for plugin, who in classes]
    return [
        (
            name,
            [
                who
                for wrapping in (True, False)
                for implemented, who in hooks
                if implemented.get(name) is wrapping
            ],
        )
        for name in SPECS
    ]


def build(loaded: LoadedConfig, run: RunInfo, defaults: Defaults) -> Hooks:
    """Makes the chosen plugins' instances and lays them over the core's defaults."""
    check(loaded)
    return assemble([loaded.architecture, *loaded.extensions], run, defaults)


def assemble(plugins: Sequence[ChosenPlugin], run: RunInfo, defaults: Defaults) -> Hooks:
    """The hooks of plugins that were checked before; the last is asked first, the defaults last.

    Raises:
        RunFailed: A plugin cannot be made.
    """
    manager = pluggy.PluginManager("lannunet")
    manager.add_hookspecs(hookspecs)
    manager.register(defaults, CORE)
    for plugin in plugins:
        try:
            instance = plugin.plugin_class(plugin.config, run)
        except (UserError, RunFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _failed(plugin.installed, "when it is made for a run", error) from error
        manager.register(_Registered(plugin.installed, instance), str(plugin.installed))
    hooks = Hooks(manager)
    defaults.hooks = hooks
    return hooks


class _Registered:
    """What pluggy sees of a plugin: its hook methods, under the present names of hooks and arguments."""

    def __init__(self, installed: InstalledPlugin, plugin: Plugin) -> None:
        self._installed = installed
        for attribute in dir(type(plugin)):
            if _options(getattr(type(plugin), attribute, None)) is not None:
                method = deprecations.under_present_names(getattr(plugin, attribute), attribute)
                setattr(self, attribute, method)


class Hooks:
    """A run's hooks as typed methods. A plugin's first answer to each is checked for its kind.

    Arguments and answers are those of `lannunet_core.hookspecs`; the answers of collecting hooks are merged.
    """

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self._checked: set[str] = set()

    def network(self) -> nn.Module:
        from torch import nn

        answer: nn.Module = self._one(
            "network", {}, "a torch.nn.Module", lambda answer: isinstance(answer, nn.Module)
        )
        return answer

    def optimizer_and_scheduler(
        self, module: nn.Module, solver: SolverConfig, base_lr: float, total_steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        from torch.optim import Optimizer
        from torch.optim.lr_scheduler import LRScheduler

        answer: tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None] = self._one(
            "optimizer_and_scheduler",
            {"module": module, "solver": solver, "base_lr": base_lr, "total_steps": total_steps},
            "a pair of a torch optimizer and a scheduler or None",
            lambda answer: (
                isinstance(answer, tuple)
                and len(answer) == 2
                and isinstance(answer[0], Optimizer)
                and isinstance(answer[1], LRScheduler | None)
            ),
        )
        return answer

    def loss(self) -> Loss:
        answer: Loss = self._one(
            "loss",
            {},
            "a callable with a method 'activation'",
            lambda answer: callable(answer) and callable(getattr(answer, "activation", None)),
        )
        return answer

    def sampling(self) -> Sampling:
        answer: Sampling = self._one(
            "sampling",
            {},
            "an object with 'output_size' and a method 'centre'",
            lambda answer: hasattr(answer, "output_size") and callable(getattr(answer, "centre", None)),
        )
        return answer

    def generate_labels(
        self,
        landmarks: Tensor,
        states: Tensor,
        corner: Tensor,
        image_size: tuple[int, ...],
        sigmas: Tensor,
        num_res_levels: int,
        level_sizes: Sequence[tuple[int, ...]],
        lambda_scale: float,
        sample: Mapping[str, Any],
    ) -> dict[str, Any]:
        arguments = {
            "landmarks": landmarks,
            "states": states,
            "corner": corner,
            "image_size": image_size,
            "sigmas": sigmas,
            "num_res_levels": num_res_levels,
            "level_sizes": level_sizes,
            "lambda_scale": lambda_scale,
            "sample": sample,
        }
        answer: dict[str, Any] = self._one(
            "generate_labels",
            arguments,
            f"a dict with 'state' of shape {tuple(states.shape)}",
            lambda answer: (
                isinstance(answer, dict) and getattr(answer.get("state"), "shape", None) == states.shape
            ),
        )
        return answer

    def get_coords_from_heatmap(
        self, heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
    ) -> Coordinates:
        batch, dimensions = original_sizes.shape

        def fits(answer: Any) -> bool:
            return (
                isinstance(answer, hookspecs.Coordinates)
                and answer.points.ndim == 3
                and (answer.points.shape[0], answer.points.shape[2]) == (batch, dimensions)
                and answer.confidence.shape == answer.points.shape[:2]
            )

        answer: Coordinates = self._one(
            "get_coords_from_heatmap",
            {
                "heatmaps": heatmaps,
                "affine": affine,
                "original_sizes": original_sizes,
                "evaluation_mode": evaluation_mode,
            },
            f"hookspecs.Coordinates with points ({batch}, N, {dimensions}) and confidence ({batch}, N)",
            fits,
        )
        return answer

    def stitch_heatmap(
        self, patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Windows
    ) -> Any:
        return self._one(
            "stitch_heatmap",
            {"patches": patches, "windows": windows},
            "the whole image's outputs",
            lambda answer: answer is not None,
        )

    def get_segmentation(self, maps: Tensor) -> Tensor:
        answer: Tensor = self._one(
            "get_segmentation",
            {"maps": maps},
            f"integer labels of shape {tuple(maps.shape[1:])}",
            lambda answer: (
                getattr(answer, "shape", None) == maps.shape[1:] and not answer.is_floating_point()
            ),
        )
        return answer

    def extra_maps(self, dataset: SegmentationDataset, folder: Path) -> list[ExtraMap]:
        from lannunet_core.segmentation.types import ExtraMap

        maps: list[ExtraMap] = []
        for answer in self._call("extra_maps", {"dataset": dataset, "folder": folder}):
            if not (isinstance(answer, Sequence) and all(isinstance(one, ExtraMap) for one in answer)):
                raise self._wrong("extra_maps", "a list of ExtraMap", answer)
            maps += answer
        names = [one.name for one in maps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"The hook 'extra_maps' is answered with the name '{twice[0]}' more than once, by some of "
                f"{self._who('extra_maps')}. Choose one of them."
            )
        return maps

    def losses(self) -> dict[str, Callable[[], Loss]]:
        return self._merged("losses", {}, "a mapping from names to callables", callable)

    def decoders(self) -> dict[str, Callable[[], Decoder]]:
        return self._merged("decoders", {}, "a mapping from names to callables", callable)

    def augmentations(self) -> dict[str, Callable[[], Scheme]]:
        return self._merged("augmentations", {}, "a mapping from names to callables", callable)

    def metrics(self, predictions: Sequence[Any]) -> dict[str, float]:
        return self._merged(
            "metrics",
            {"predictions": predictions},
            "a mapping from names to numbers",
            lambda value: hasattr(value, "__float__"),
        )

    def observe(self, event: Event) -> None:
        """Tells each plugin. One that fails ends the run only before its first step (see `hookspecs`)."""
        plugins = dict.fromkeys(impl.plugin for impl in self._manager.hook.observe.get_hookimpls())
        for plugin in reversed(plugins):
            others = [other for other in plugins if other is not plugin]
            try:
                self._manager.subset_hook_caller("observe", others)(event=event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if event.name == "start" and isinstance(error, UserError):
                    raise
                where = f"in its hook 'observe' at the event '{event.name}'"
                failed = _failed(plugin._installed, where, error)
                if event.name == "start":
                    raise failed from error
                warnings.warn(f"{failed} The run goes on.", PluginWarning, 3)

    def debug_sample(self, batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool | None:
        answer: bool | None = self._call("debug_sample", {"batch": batch, "labels": labels, "folder": folder})
        return answer

    def debug_prediction(
        self, batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Prediction], folder: Path
    ) -> bool | None:
        answer: bool | None = self._call(
            "debug_prediction",
            {"batch": batch, "heatmaps": heatmaps, "predictions": predictions, "folder": folder},
        )
        return answer

    def _call(self, hook: str, arguments: Mapping[str, Any]) -> Any:
        caller = getattr(self._manager.hook, hook)
        try:
            return caller(**arguments)
        except (UserError, RunFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            if (plugin := _raised_by(caller, error)) is None:
                raise
            raise _failed(plugin, f"in its hook '{hook}'", error) from error

    def _one(
        self, hook: str, arguments: Mapping[str, Any], expected: str, fits: Callable[[Any], bool]
    ) -> Any:
        answer = self._call(hook, arguments)
        if hook not in self._checked and not fits(answer):
            raise self._wrong(hook, expected, answer)
        self._checked.add(hook)
        return answer

    def _merged(
        self, hook: str, arguments: Mapping[str, Any], expected: str, fits: Callable[[Any], bool]
    ) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for answer in self._call(hook, arguments):
            if not (isinstance(answer, Mapping) and all(fits(value) for value in answer.values())):
                raise self._wrong(hook, expected, answer)
            if both := sorted(merged.keys() & answer.keys()):
                raise UserError(
                    f"The hook '{hook}' is answered with the name '{both[0]}' more than once, by some of "
                    f"{self._who(hook)}. Choose one of them."
                )
            merged.update(answer)
        return merged

    def _wrong(self, hook: str, expected: str, answer: Any) -> WrongAnswer:
        shown = " ".join(reprlib.repr(answer).split())
        got = "None" if answer is None else f"{type(answer).__name__}: {shown}"
        return WrongAnswer(
            f"The hook '{hook}' must answer {expected}, but the answer was {got}. "
            f"It is answered by {self._who(hook)}: update it, or tell its author."
        )

    def _who(self, hook: str) -> str:
        names = [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]
        return " and ".join(f"plugin {name}" for name in reversed(names) if name != CORE) or CORE


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


def _raised_by(caller: pluggy.HookCaller, error: BaseException) -> InstalledPlugin | None:
    """The plugin in whose answer an error arose; None: in the core's own."""
    answering: dict[CodeType, InstalledPlugin | None] = {}
    for impl in caller.get_hookimpls():
        function = inspect.unwrap(getattr(impl.function, "__func__", impl.function))
        answering[function.__code__] = getattr(impl.plugin, "_installed", None)
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        found = answering.get(traceback.tb_frame.f_code, found)
        traceback = traceback.tb_next
    return found


def _failed(plugin: InstalledPlugin, where: str, error: BaseException) -> RunFailed:
    cause, remedy = cause_and_remedy(error, plugin.distribution, plugin.value.partition(":")[0])
    return RunFailed(
        f"Plugin {plugin} failed {where}: {cause}. To go on, {remedy} (lannunet --debug shows where)."
    )


def check_class(installed: InstalledPlugin, plugin_class: type[Plugin]) -> None:
    """Looks at how a class implements its hooks.

    Raises:
        UserError: A hook is misspelt or asks for what it is not given, or `tasks` is no tuple of tasks.
    """
    tasks: object = plugin_class.tasks
    if not (isinstance(tasks, tuple) and tasks and set(tasks) <= set(get_args(Task))):
        raise UserError(
            f"Plugin {installed}: {plugin_class.__qualname__}.tasks is {tasks!r}, should be a tuple of some "
            f"of {', '.join(map(repr, get_args(Task)))}. {_tell(installed)}"
        )
    for name, function, options in _implementations(plugin_class):
        where = f"Plugin {installed}, {function.__qualname__}"
        hook = deprecations.present_hook(name)
        _warn_of(installed, deprecations.of_hook(name))
        if hook not in SPECS:
            if options.get("optionalhook"):
                continue
            nearest = get_close_matches(hook, SPECS, n=1)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            raise UserError(
                f"{where}: there is no hook '{hook}'; {hint}Hooks: {', '.join(SPECS)}. {_tell(installed)}"
            )
        allowed = SPECS[hook].arguments
        # pluggy hands over by name what is asked for without a default, and silently nothing else.
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name == "self":
                continue
            _warn_of(installed, deprecations.of_argument(hook, parameter.name))
            known = deprecations.present_argument(hook, parameter.name) in allowed
            plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
            if not (known and plain):
                problem = "must have no default" if known else "is not an argument of this hook"
                nearest = get_close_matches(parameter.name, allowed, n=1)
                hint = f" Did you mean '{nearest[0]}'?" if nearest and nearest[0] != parameter.name else ""
                raise UserError(
                    f"{where}: '{parameter}' {problem}. "
                    f"It may ask for: {', '.join(allowed) or 'nothing'}.{hint} {_tell(installed)}"
                )
        if options.get("tryfirst") or options.get("trylast"):
            raise UserError(
                f"{where}: tryfirst and trylast are not allowed; the run's configuration gives the order. "
                f"{_tell(installed)}"
            )
        if _is_wrapper(options) and not inspect.isgeneratorfunction(function):
            raise UserError(
                f"{where}: a hook in wrapper form must yield once, and return the answer. {_tell(installed)}"
            )


def _check_task(plugin: ChosenPlugin, task: Task, key: str) -> None:
    served = plugin.plugin_class.tasks
    if task in served:
        return
    way_out = "choose another architecture" if key == "model.architecture" else "remove it there"
    raise UserError(
        f"{key}: plugin {plugin.installed} does not serve `task: {task}`; it serves {' and '.join(served)}. "
        f"To go on, {way_out}, or set `task: {served[0]}`."
    )


def _warn_of(installed: InstalledPlugin, deprecated: deprecations.Deprecated | None) -> None:
    if deprecated:
        warnings.warn(
            f"Plugin {installed} uses an old name: {deprecated} {_tell(installed)}", PluginWarning, 4
        )


def _tell(installed: InstalledPlugin) -> str:
    return f"Update {installed.distribution}, or tell its author."


def _unmarked_hint(plugin: ChosenPlugin, hook: str) -> str:
    """An author's likely slip: the method is there, its mark is not."""
    return f" (its method '{hook}' lacks @hookimpl)" if hasattr(plugin.plugin_class, hook) else ""
