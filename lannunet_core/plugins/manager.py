"""The plugins of one run: what they implement, whether they go together, and calling their hooks.

Every run has a manager of its own, so that two runs in one process do not see each other. It cannot be
pickled and never travels to loader workers.
"""

from __future__ import annotations

import inspect
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from lannunet_core import __version__, hookspecs
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import RunInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lannunet_core.augment.schemes import Scheme
    from lannunet_core.config.compose import ChosenPlugin, LoadedConfig
    from lannunet_core.config.schema import SolverConfig
    from lannunet_core.hookspecs import Coordinates, Decoder, EvaluationMode, Event, Loss, Sampling
    from lannunet_core.plugins.defaults import Defaults
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


def implemented_hooks(plugin: type) -> dict[str, bool]:
    """The hooks that a class implements, and whether in wrapper form (one that only changes an answer)."""
    return {name: _is_wrapper(options) for name, _, options in _implementations(plugin)}


def replaced_keys(plugin: type) -> dict[str, str]:
    """The YAML keys that mean nothing once this plugin is chosen, each with the hook that replaces it."""
    hooks = implemented_hooks(plugin)
    return {key: hook for hook, key in REPLACED_KEYS.items() if hooks.get(hook) is False}


def check(loaded: LoadedConfig) -> None:
    """Looks at the chosen classes, before anything is made of them.

    Raises:
        UserError: A hook is misspelt or asks for what it is not given, or plugins contradict each other.
    """
    chosen = [loaded.architecture, *loaded.extensions]
    for plugin in chosen:
        _check_class(plugin)
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
    manager = pluggy.PluginManager("lannunet")
    manager.add_hookspecs(hookspecs)
    manager.register(defaults, CORE)
    for plugin in [loaded.architecture, *loaded.extensions]:
        manager.register(plugin.plugin_class(plugin.config, run), str(plugin.installed))
    hooks = Hooks(manager)
    defaults.hooks = hooks
    return hooks


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

    def losses(self) -> dict[str, Callable[[], Loss]]:
        return self._merged("losses", {}, "a mapping from names to callables", callable)

    def decoders(self) -> dict[str, Callable[[], Decoder]]:
        return self._merged("decoders", {}, "a mapping from names to callables", callable)

    def augmentations(self) -> dict[str, Callable[[], Scheme]]:
        return self._merged("augmentations", {}, "a mapping from names to callables", callable)

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        return self._merged(
            "metrics",
            {"predictions": predictions},
            "a mapping from names to numbers",
            lambda value: hasattr(value, "__float__"),
        )

    def observe(self, event: Event) -> None:
        self._manager.hook.observe(event=event)

    def debug_sample(self, batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool | None:
        answer: bool | None = self._manager.hook.debug_sample(batch=batch, labels=labels, folder=folder)
        return answer

    def debug_prediction(
        self, batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Prediction], folder: Path
    ) -> bool | None:
        answer: bool | None = self._manager.hook.debug_prediction(
            batch=batch, heatmaps=heatmaps, predictions=predictions, folder=folder
        )
        return answer

    def _one(
        self, hook: str, arguments: Mapping[str, Any], expected: str, fits: Callable[[Any], bool]
    ) -> Any:
        answer = getattr(self._manager.hook, hook)(**arguments)
        if hook not in self._checked and not fits(answer):
            raise self._wrong(hook, expected, answer)
        self._checked.add(hook)
        return answer

    def _merged(
        self, hook: str, arguments: Mapping[str, Any], expected: str, fits: Callable[[Any], bool]
    ) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for answer in getattr(self._manager.hook, hook)(**arguments):
            if not (isinstance(answer, Mapping) and all(fits(value) for value in answer.values())):
                raise self._wrong(hook, expected, answer)
            if both := sorted(merged.keys() & answer.keys()):
                raise UserError(
                    f"The hook '{hook}' is answered with the name '{both[0]}' more than once, by some of "
                    f"{self._who(hook)}. Choose one of them."
                )
            merged.update(answer)
        return merged

    def _wrong(self, hook: str, expected: str, answer: Any) -> UserError:
        shown = " ".join(reprlib.repr(answer).split())
        got = "None" if answer is None else f"{type(answer).__name__}: {shown}"
        return UserError(
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
        function = getattr(plugin, attribute, None)
        options = getattr(function, "lannunet_impl", None)
        if inspect.isroutine(function) and isinstance(options, dict):
            found.append((options.get("specname") or attribute, function, options))
    return found


def _is_wrapper(options: Mapping[str, Any]) -> bool:
    return bool(options.get("wrapper") or options.get("hookwrapper"))


def _check_class(plugin: ChosenPlugin) -> None:
    for hook, function, options in _implementations(plugin.plugin_class):
        where = f"Plugin {plugin.installed}, {function.__qualname__}"
        if hook not in SPECS:
            if options.get("optionalhook"):
                continue
            nearest = get_close_matches(hook, SPECS, n=1)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            raise UserError(f"{where}: there is no hook '{hook}'; {hint}Hooks: {', '.join(SPECS)}.")
        allowed = SPECS[hook].arguments
        # pluggy hands over by name what is asked for without a default, and silently nothing else.
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name == "self":
                continue
            plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
            if parameter.name not in allowed or not plain:
                problem = (
                    "must have no default" if parameter.name in allowed else "is not an argument of this hook"
                )
                nearest = get_close_matches(parameter.name, allowed, n=1)
                hint = f" Did you mean '{nearest[0]}'?" if nearest and nearest[0] != parameter.name else ""
                raise UserError(
                    f"{where}: '{parameter}' {problem}. "
                    f"It may ask for: {', '.join(allowed) or 'nothing'}.{hint}"
                )
        if options.get("tryfirst") or options.get("trylast"):
            raise UserError(
                f"{where}: tryfirst and trylast are not allowed; the run's configuration gives the order."
            )
        if _is_wrapper(options) and not inspect.isgeneratorfunction(function):
            raise UserError(f"{where}: a hook in wrapper form must yield once, and return the answer.")


def _unmarked_hint(plugin: ChosenPlugin, hook: str) -> str:
    """An author's likely slip: the method is there, its mark is not."""
    return f" (its method '{hook}' lacks @hookimpl)" if hasattr(plugin.plugin_class, hook) else ""
