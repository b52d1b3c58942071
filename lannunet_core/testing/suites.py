"""The test classes for authors to derive from, and running them without pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lannunet_core.plugins import discovery, manager, tasks
from lannunet_core.task import Task
from lannunet_core.testing import architecture, labels, losses, package, sampling, training
from lannunet_core.testing.outcomes import NotClaimed
from lannunet_core.testing.running import build
from lannunet_core.testing.subject import Subject, bench_of

Check = Callable[[Any], None]


def as_test(check: Check) -> Callable[[Any], None]:
    """A test method that runs a check on its own class; its docstring is the contract."""

    def test(self: Subject) -> None:
        check(self)

    test.__doc__ = check.__doc__
    return test


class Conformance(Subject):
    """The contract of every plugin."""

    test_is_found_by_name = as_test(package.is_found_by_name)
    test_says_which_core_it_is_for = as_test(package.says_which_core_it_is_for)
    test_imports_without_torch = as_test(package.imports_without_torch)
    test_config_is_valid_by_default = as_test(package.config_is_valid_by_default)
    test_config_describes_every_field = as_test(package.config_describes_every_field)
    test_config_refuses_unknown_keys = as_test(package.config_refuses_unknown_keys)
    test_hooks_are_those_of_the_core = as_test(package.hooks_are_those_of_the_core)


class ArchitectureConformance(Conformance):
    """The contract of a plugin that provides a network, with the labels, loss and decoding of its runs."""

    test_two_dimensions = as_test(architecture.two_dimensions)
    test_three_dimensions = as_test(architecture.three_dimensions)
    test_shapes_and_dtypes = as_test(architecture.shapes_and_dtypes)
    test_mixed_precision = as_test(architecture.mixed_precision)
    test_deep_supervision = as_test(architecture.deep_supervision)
    test_other_sizes = as_test(architecture.other_sizes)
    test_gradients_reach_every_parameter = as_test(training.gradients_reach_every_parameter)
    test_optimizer_holds_every_parameter = as_test(training.optimizer_holds_every_parameter)
    test_overfits_a_tiny_problem = as_test(training.overfits_a_tiny_problem)
    test_same_seed_same_result = as_test(training.same_seed_same_result)
    test_prediction_is_deterministic = as_test(training.prediction_is_deterministic)
    test_images_do_not_mix = as_test(training.images_do_not_mix)
    test_state_survives_save_and_load = as_test(training.state_survives_save_and_load)
    test_unlabelled_does_not_matter = as_test(training.unlabelled_does_not_matter)
    test_batches_without_labels = as_test(training.batches_without_labels)
    test_labels_decode_back = as_test(labels.labels_decode_back)


class LossConformance(Conformance):
    """The contract of a plugin that implements `loss`, or `losses` (`loss_function` names the one tested)."""

    test_terms_are_named_scalars = as_test(losses.terms_are_named_scalars)
    test_loss_is_differentiable = as_test(losses.loss_is_differentiable)
    test_unlabelled_contributes_nothing = as_test(losses.unlabelled_contributes_nothing)
    test_nothing_labelled_is_finite = as_test(losses.nothing_labelled_is_finite)
    test_weights_count = as_test(losses.weights_count)
    test_activation_is_a_map = as_test(losses.activation_is_a_map)
    test_labels_decode_back = as_test(labels.labels_decode_back)
    test_loss_is_a_function = as_test(losses.loss_is_a_function)
    test_learnable_loss_is_a_module = as_test(losses.learnable_loss_is_a_module)
    test_state_survives_save_and_load = as_test(training.state_survives_save_and_load)


class SamplingConformance(Conformance):
    """The contract of a plugin that implements `sampling`."""

    test_sampling_is_complete = as_test(sampling.sampling_is_complete)
    test_samples_show_their_image = as_test(sampling.samples_show_their_image)
    test_sampling_draws_from_rng_only = as_test(sampling.sampling_draws_from_rng_only)
    test_sampling_pickles = as_test(sampling.sampling_pickles)
    test_sampling_does_without_labels = as_test(sampling.sampling_does_without_labels)


SUITES: Mapping[str, type[Conformance]] = {
    "network": ArchitectureConformance,
    "loss": LossConformance,
    "losses": LossConformance,
    "sampling": SamplingConformance,
}
"""The suite of each hook that has one in every task; a task's bench adds others."""


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: Name without `test_`; with the chosen name if several are tested.
        contract: Contract of the check.
        outcome: Outcome of the check.
        message: What was found, or why it was not checked; empty if it passed.
    """

    check: str
    contract: str
    outcome: Literal["passed", "failed", "not claimed"]
    message: str = ""


def run(suite: Subject) -> Iterator[Result]:
    """Run all tests of a test class, one after the other."""
    for name in checks_of(type(suite)):
        yield run_one(suite, name)


def checks_of(suite: type[Any]) -> list[str]:
    """The names of its test methods, those of its bases first."""
    names = [name for part in reversed(suite.__mro__) for name in vars(part) if name.startswith("test_")]
    return list(dict.fromkeys(names))


def run_one(suite: Any, name: str, about: str = "") -> Result:
    """Run one test; any exception is its outcome. `about` is shown beside the check's name."""
    suite.tried = None
    test = getattr(suite, name)
    check = name.removeprefix("test_") + (f" ({about})" if about else "")
    contract = " ".join((test.__doc__ or "").split())
    try:
        test()
    except NotClaimed as reason:
        return Result(check, contract, "not claimed", str(reason))
    except AssertionError as found:
        return Result(check, contract, "failed", str(found))
    except Exception as error:
        where = f"in {suite.tried} " if suite.tried else ""
        return Result(check, contract, "failed", f"{where}it raises {type(error).__name__}: {error}")
    return Result(check, contract, "passed")


Planned = tuple[Any, str, str]
"""A suite, the name of one of its tests, and the name that was chosen for it, if any."""


def plan(plugin: str, settings: Mapping[str, Any]) -> list[Planned]:
    """All checks of an installed plugin, each once, from the suites of the hooks that it implements.

    They are the core's suites and those of the installed tasks that it supports. Nothing is claimed: features
    that the plugin refuses with a message count as not claimed.

    Args:
        plugin: Name of the plugin.
        settings: Section of the YAML.
    """
    hooks = manager.implemented_hooks(discovery.find(plugin).load())
    unclaimed = {name: None for name in vars(Subject) if name.startswith("supports_")}

    def suite(base: type[Conformance], choices: Mapping[str, str] | None = None) -> Conformance:
        attributes = {"plugin": plugin, "config": settings, **unclaimed, "choices": choices or {}}
        made: Conformance = type(base.__name__, (base,), attributes)()
        return made

    every = suite(Conformance)
    suites = [(every, "")]
    served = _served(every)
    for brings in (SUITES, *(bench_of(task.name).suites() for task in served)):
        for hook, base in brings.items():
            if hook in hooks:
                keys = brought(every, hook, served)
                suites += [(suite(base, {key: name}), name) for key, name in keys or []]
                suites += [(suite(base), "")] if keys is None else []

    planned: dict[tuple[str | None, str, str], Planned] = {}
    for tested, about in suites:
        for name in checks_of(type(tested)):
            if hasattr(Conformance, name):
                planned.setdefault((None, "", name), (tested, name, ""))
            elif (None, about, name) not in planned:  # otherwise it is checked in every task
                planned.setdefault((tested.task, about, name), (tested, name, about))
    return list(planned.values())


def brought(suite: Subject, hook: str, served: list[Task]) -> list[tuple[str, str]] | None:
    """The names that a plugin provides with a hook, each with the key of the YAML that chooses by it.

    None: it is not a hook that provides names.
    """
    keys = {(task.name, key): own for task in served for key, (by, own) in task.names.items() if by == hook}
    if not keys:
        return None
    works = list(suite.kinds())
    names = [
        (key, name)
        for (task, key), own in keys.items()
        for kind in [kind for kind in works if kind.task == task][:1]
        for name in getattr(build(suite, kind).hooks, hook)()
        if name not in own
    ]
    return list(dict.fromkeys(names))


def _served(suite: Subject) -> list[Task]:
    """The tasks that it is tested in; empty: none."""
    try:
        return [tasks.find(name) for name in suite.served_tasks()]
    except NotClaimed:
        return []
