"""A run's hooks as typed methods, derived from their specifications.

`run.hooks.network()` has the arguments and the return type of `hookspecs.network`. The kind of a plugin's
first result for each hook is checked.
"""

from __future__ import annotations

import inspect
import reprlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any, Generic, ParamSpec, TypeVar, cast

import pluggy

from lannunet_core import hookspecs
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.plugins.installed import InstalledPlugin, PluginWarning, cause_and_remedy
from lannunet_core.run.processes import is_first

CORE = "lannunet-core"

P = ParamSpec("P")
R = TypeVar("R")

Arguments = Mapping[str, Any]


class WrongAnswer(UserError):
    """A plugin's hook returned a result of the wrong kind."""


class Hook(ABC, Generic[P, R]):
    """A hook, as a method of `Hooks` with the arguments and the return type of its specification.

    Args:
        spec: Specification of the hook.
        expected: Description of the expected result; may depend on the arguments.
        fits: Whether a result is of the expected kind, given the result and the arguments; for a collecting
            hook, whether a value of a result (a mapping), or an item of it (a list), is.
    """

    def __init__(
        self,
        spec: Callable[P, R | None],
        expected: str | Callable[[Arguments], str],
        fits: Callable[..., bool],
    ) -> None:
        self.name, self.expected, self.fits = spec.__name__, expected, fits
        self.signature = inspect.signature(spec)

    def __get__(self, hooks: Hooks, owner: type[Hooks]) -> Callable[P, R]:
        def ask(*args: P.args, **arguments: P.kwargs) -> R:
            # pluggy matches arguments by name, and only warns about a missing one.
            given = self.signature.bind(*args, **arguments).arguments
            return cast(R, self.checked(hooks, given, hooks.call(self.name, given)))

        return ask

    @abstractmethod
    def checked(self, hooks: Hooks, given: Arguments, found: Any) -> Any:
        """The result, from what pluggy returned."""

    def wrong(self, hooks: Hooks, given: Arguments, answer: Any) -> WrongAnswer:
        expected = self.expected if isinstance(self.expected, str) else self.expected(given)
        return hooks.wrong(self.name, expected, answer)


class One(Hook[P, R]):
    """A hook with a single result. Its first result in a run is checked."""

    def checked(self, hooks: Hooks, given: Arguments, found: Any) -> Any:
        if self.name not in hooks.checked and not self.fits(found, given):
            raise self.wrong(hooks, given, found)
        hooks.checked.add(self.name)
        return found


class Merged(Hook[P, R]):
    """A collecting hook whose results are mappings by name; a name in two results is an error."""

    def checked(self, hooks: Hooks, given: Arguments, found: Any) -> Any:
        merged: dict[str, Any] = {}
        for answer in found:
            if not (isinstance(answer, Mapping) and all(map(self.fits, answer.values()))):
                raise self.wrong(hooks, given, answer)
            hooks.refuse_twice(self.name, [*merged, *answer])
            merged.update(answer)
        return merged


class Every(Hook[P, R]):
    """A collecting hook whose results are lists; two items with one `name` are an error."""

    def checked(self, hooks: Hooks, given: Arguments, found: Any) -> Any:
        every: list[Any] = []
        for answer in found:
            if not (isinstance(answer, Sequence) and all(map(self.fits, answer))):
                raise self.wrong(hooks, given, answer)
            every += answer
        hooks.refuse_twice(self.name, [one.name for one in every if hasattr(one, "name")])
        return every


def _is_network(answer: Any, _: Arguments) -> bool:
    from torch import nn

    return isinstance(answer, nn.Module)


def _is_optimizer_and_scheduler(answer: Any, _: Arguments) -> bool:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    def some(found: Any, kind: type) -> bool:
        several = isinstance(found, list | tuple) and bool(found)
        return isinstance(found, kind) or (several and all(isinstance(one, kind) for one in found))

    if not (isinstance(answer, tuple) and len(answer) == 2):
        return False
    optimizers, schedulers = answer
    return some(optimizers, Optimizer) and (schedulers is None or some(schedulers, LRScheduler))


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__")


def _is_terms(answer: Any, _: Arguments) -> bool:
    return isinstance(answer, Mapping) and all(map(_is_number, answer.values()))


class Hooks:
    """The hooks of every task; a task adds its own.

    Attributes:
        checked: Hooks whose first result was of the right kind.
    """

    network = One(hookspecs.network, "a torch.nn.Module", _is_network)
    network_inputs = Merged(hookspecs.network_inputs, "a mapping from names to inputs", lambda value: True)
    optimizer_and_scheduler = One(
        hookspecs.optimizer_and_scheduler,
        "a pair of a torch optimizer (or several) and a scheduler (or several, or None)",
        _is_optimizer_and_scheduler,
    )
    training_step = One(
        hookspecs.training_step, "a mapping from names to scalars, the terms of the loss", _is_terms
    )
    loss = One(
        hookspecs.loss,
        "a callable with a method 'activation'",
        lambda answer, _: callable(answer) and callable(getattr(answer, "activation", None)),
    )
    losses = Merged(hookspecs.losses, "a mapping from names to callables", callable)
    sampling = One(
        hookspecs.sampling,
        "an object with 'output_size' and a method 'centre'",
        lambda answer, _: hasattr(answer, "output_size") and callable(getattr(answer, "centre", None)),
    )
    training_order = One(
        hookspecs.training_order, "a callable or None", lambda answer, _: answer is None or callable(answer)
    )
    normalisations = Merged(hookspecs.normalisations, "a mapping from names to callables", callable)
    augmentations = Merged(hookspecs.augmentations, "a mapping from names to callables", callable)
    augmenter = One(hookspecs.augmenter, "a callable", lambda answer, _: callable(answer))
    metrics = Merged(hookspecs.metrics, "a mapping from names to numbers", _is_number)
    validation_metrics = Merged(hookspecs.validation_metrics, "a mapping from names to numbers", _is_number)
    postprocess = One(
        hookspecs.postprocess,
        lambda given: f"a {type(given['prediction']).__name__}",
        lambda answer, given: isinstance(answer, type(given["prediction"])),
    )
    postprocess_all = One(
        hookspecs.postprocess_all,
        lambda given: f"{len(given['predictions'])} predictions",
        lambda answer, given: isinstance(answer, Sequence) and len(answer) == len(given["predictions"]),
    )
    report = Every(
        hookspecs.report, "a list of ReportPart", lambda one: isinstance(one, hookspecs.ReportPart)
    )
    debug_sample = One(
        hookspecs.debug_sample, "True, False or None", lambda answer, _: isinstance(answer, bool | None)
    )

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self.checked: set[str] = set()

    def initial_weights(self, network: Any) -> bool:
        """Call each plugin; return whether there was one."""
        self.call("initial_weights", {"network": network})
        return self.answered("initial_weights")

    def answered(self, hook: str) -> bool:
        """Whether a plugin, or a default, implements a hook."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def observe(self, event: hookspecs.Event) -> None:
        """Notify each plugin. One that fails ends the run only before its first step (see `hookspecs`)."""
        if not is_first():
            return
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
                failed = plugin_failed(plugin._installed, where, error)
                if event.name == "start":
                    raise failed from error
                warnings.warn(f"{failed} The run continues.", PluginWarning, 3)

    def call(self, hook: str, arguments: Arguments) -> Any:
        """The result of pluggy for a hook; an error in a plugin is attributed to the plugin."""
        caller = getattr(self._manager.hook, hook)
        try:
            return caller(**arguments)
        except (UserError, RunFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            if hook == "optimizer_and_scheduler" and isinstance(error, (TypeError, ValueError)):
                raise self.refused_optimizer(error, "be made", _raised_by(caller, error)) from error
            if (plugin := _raised_by(caller, error)) is None:
                raise
            raise plugin_failed(plugin, f"in its hook '{hook}'", error) from error

    def answering(self, hook: str) -> InstalledPlugin | None:
        """The plugin whose result for a hook is used; None: the core or the task itself."""
        *_, answer = [impl for impl in getattr(self._manager.hook, hook).get_hookimpls() if not impl.wrapper]
        return _plugin_of(answer)

    def refused_optimizer(self, error: Exception, what: str, plugin: InstalledPlugin | None) -> UserError:
        """The error for an optimizer or scheduler of a plugin (None: the core) that torch refuses."""
        impls = self._manager.hook.optimizer_and_scheduler.get_hookimpls()
        (made,) = [impl for impl in impls if _plugin_of(impl) is plugin]
        taken = {"solver.optimizer": {"solver"}, "solver.base_lr": {"solver", "base_lr"}}
        keys = [key for key, arguments in taken.items() if arguments & {*made.argnames}]
        if plugin is not None and getattr(made.plugin, "_has_settings", False):
            keys.append(f"{'model' if plugin is self.answering('network') else 'trainer'}.{plugin.name}")
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedies = [f"change {' or '.join(keys)}"] if keys else []
        remedies += [f"update {plugin.distribution} or report it to its author"] if plugin else []
        whose = f"plugin {plugin}" if plugin else "solver.optimizer"
        return UserError(
            f"{whose}: its optimizer or scheduler cannot {what} ({cause}); {', or '.join(remedies)}."
        )

    def wrong(self, hook: str, expected: str, answer: Any) -> WrongAnswer:
        shown = " ".join(reprlib.repr(answer).split())
        got = "None" if answer is None else f"{type(answer).__name__}: {shown}"
        return WrongAnswer(
            f"The hook '{hook}' must return {expected}, but the result was {got}. "
            f"It is implemented by {self._who(hook)}: update it, or report it to its author."
        )

    def refuse_twice(self, hook: str, names: Sequence[str]) -> None:
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"The hook '{hook}' returned the name '{twice[0]}' more than once, from "
                f"{self._who(hook)}. Choose one of them."
            )

    def _who(self, hook: str) -> str:
        names = [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]
        return " and ".join(f"plugin {name}" for name in reversed(names) if name != CORE) or CORE


def ask_class(plugin: InstalledPlugin, method: Callable[..., R], *arguments: Any) -> R:
    """Call a class method of a plugin; an error is attributed to the plugin."""
    with telling_of(plugin, f"in its class method '{method.__name__}'"):
        return method(*arguments)


@contextmanager
def telling_of(plugin: InstalledPlugin, where: str) -> Iterator[None]:
    """An error that is raised within is attributed to the plugin, unless it is a `LannunetError`."""
    try:
        yield
    except (UserError, RunFailed, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise plugin_failed(plugin, where, error) from error


def plugin_failed(plugin: InstalledPlugin, where: str, error: BaseException) -> RunFailed:
    cause, remedy = cause_and_remedy(error, plugin.distribution, plugin.value.partition(":")[0])
    return RunFailed(
        f"Plugin {plugin} failed {where}: {cause}. To continue, {remedy} (lannunet --debug shows where)."
    )


def _plugin_of(impl: pluggy.HookImpl) -> InstalledPlugin | None:
    found: InstalledPlugin | None = getattr(impl.plugin, "_installed", None)
    return found


def _raised_by(caller: pluggy.HookCaller, error: BaseException) -> InstalledPlugin | None:
    """The plugin whose implementation raised an error; None: the core's own."""
    answering: dict[CodeType, InstalledPlugin | None] = {}
    for impl in caller.get_hookimpls():
        function = inspect.unwrap(getattr(impl.function, "__func__", impl.function))
        answering[function.__code__] = _plugin_of(impl)
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        found = answering.get(traceback.tb_frame.f_code, found)
        traceback = traceback.tb_next
    return found
