"""The test classes that an author derives from, and running them without pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lannunet_core.config import schema
from lannunet_core.plugins import discovery, manager
from lannunet_core.testing import architecture, decoding, labels, losses, package, sampling, segmentation
from lannunet_core.testing.running import build
from lannunet_core.testing.subject import Kind, NotClaimed, Subject

Check = Callable[[Subject], None]


def as_test(check: Check) -> Callable[[Any], None]:
    """A test method that runs a check on its own class; its docstring is the contract."""

    def test(self: Subject) -> None:
        check(self)

    test.__doc__ = check.__doc__
    return test


class Conformance(Subject):
    """What holds for every plugin."""

    test_is_found_by_name = as_test(package.is_found_by_name)
    test_says_which_core_it_is_for = as_test(package.says_which_core_it_is_for)
    test_imports_without_torch = as_test(package.imports_without_torch)
    test_config_is_valid_by_default = as_test(package.config_is_valid_by_default)
    test_config_describes_every_field = as_test(package.config_describes_every_field)
    test_config_refuses_unknown_keys = as_test(package.config_refuses_unknown_keys)
    test_hooks_are_those_of_the_core = as_test(package.hooks_are_those_of_the_core)


class ArchitectureConformance(Conformance):
    """What holds for a plugin that brings a network, with the labels, loss and decoder that it runs with."""

    test_two_dimensions = as_test(architecture.two_dimensions)
    test_three_dimensions = as_test(architecture.three_dimensions)
    test_shapes_and_dtypes = as_test(architecture.shapes_and_dtypes)
    test_mixed_precision = as_test(architecture.mixed_precision)
    test_deep_supervision = as_test(architecture.deep_supervision)
    test_other_sizes = as_test(architecture.other_sizes)
    test_gradients_reach_every_parameter = as_test(architecture.gradients_reach_every_parameter)
    test_optimizer_holds_every_parameter = as_test(architecture.optimizer_holds_every_parameter)
    test_overfits_a_tiny_problem = as_test(architecture.overfits_a_tiny_problem)
    test_same_seed_same_result = as_test(architecture.same_seed_same_result)
    test_prediction_is_deterministic = as_test(architecture.prediction_is_deterministic)
    test_images_do_not_mix = as_test(architecture.images_do_not_mix)
    test_state_survives_save_and_load = as_test(architecture.state_survives_save_and_load)
    test_missing_landmarks_do_not_matter = as_test(architecture.missing_landmarks_do_not_matter)
    test_batches_without_labels = as_test(architecture.batches_without_labels)
    test_labels_decode_back = as_test(labels.labels_decode_back)
    test_segments_a_tiny_problem = as_test(architecture.segments_a_tiny_problem)


class LabelConformance(Conformance):
    """What holds for a plugin that answers `generate_labels`."""

    test_labels_hold_states = as_test(labels.labels_hold_states)
    test_missing_landmarks_leave_no_label = as_test(labels.missing_landmarks_leave_no_label)
    test_labels_follow_subpixel_moves = as_test(labels.labels_follow_subpixel_moves)
    test_labels_decode_back = as_test(labels.labels_decode_back)
    test_known_negatives_are_learned = as_test(losses.known_negatives_are_learned)
    test_labels_are_a_function_of_the_batch = as_test(labels.labels_are_a_function_of_the_batch)
    test_gradients_reach_sigmas = as_test(labels.gradients_reach_sigmas)
    test_voxel_labels = as_test(labels.voxel_labels)
    test_ignored_voxels_contribute_nothing = as_test(losses.ignored_voxels_contribute_nothing)
    test_voxel_weights_count = as_test(losses.voxel_weights_count)
    test_perfect_outputs_give_the_labels = as_test(losses.perfect_outputs_give_the_labels)


class LossConformance(Conformance):
    """What holds for a plugin that answers `loss`, or `losses`: then `loss_function` names the one tested."""

    test_terms_are_named_scalars = as_test(losses.terms_are_named_scalars)
    test_loss_is_differentiable = as_test(losses.loss_is_differentiable)
    test_unlabelled_contributes_nothing = as_test(losses.unlabelled_contributes_nothing)
    test_nothing_labelled_is_finite = as_test(losses.nothing_labelled_is_finite)
    test_weights_count = as_test(losses.weights_count)
    test_activation_is_a_map = as_test(losses.activation_is_a_map)
    test_labels_decode_back = as_test(labels.labels_decode_back)
    test_known_negatives_are_learned = as_test(losses.known_negatives_are_learned)
    test_loss_is_a_function = as_test(losses.loss_is_a_function)
    test_learnable_loss_is_a_module = as_test(losses.learnable_loss_is_a_module)
    test_state_survives_save_and_load = as_test(architecture.state_survives_save_and_load)
    test_ignored_voxels_contribute_nothing = as_test(losses.ignored_voxels_contribute_nothing)
    test_voxel_weights_count = as_test(losses.voxel_weights_count)
    test_nothing_annotated_is_finite = as_test(losses.nothing_annotated_is_finite)
    test_perfect_outputs_give_the_labels = as_test(losses.perfect_outputs_give_the_labels)


class SamplingConformance(Conformance):
    """What holds for a plugin that answers `sampling`."""

    test_sampling_is_complete = as_test(sampling.sampling_is_complete)
    test_samples_show_their_image = as_test(sampling.samples_show_their_image)
    test_sampling_draws_from_rng_only = as_test(sampling.sampling_draws_from_rng_only)
    test_sampling_pickles = as_test(sampling.sampling_pickles)
    test_sampling_does_without_landmarks = as_test(sampling.sampling_does_without_landmarks)
    test_sampling_does_without_classes = as_test(sampling.sampling_does_without_classes)


class DecodeConformance(Conformance):
    """What holds for a plugin that answers `get_coords_from_heatmap`, or `decoders`: `decoder` names one."""

    test_decoded_shapes = as_test(decoding.decoded_shapes)
    test_decodes_to_the_point = as_test(decoding.decodes_to_the_point)
    test_flat_maps_have_no_point = as_test(decoding.flat_maps_have_no_point)
    test_confidence_is_a_share = as_test(decoding.confidence_is_a_share)
    test_samples_are_decoded_alone = as_test(decoding.samples_are_decoded_alone)


class SegmentationConformance(Conformance):
    """What holds for a plugin that answers `get_segmentation`."""

    test_labels_are_classes = as_test(segmentation.labels_are_classes)
    test_slabs_are_labelled_alone = as_test(segmentation.slabs_are_labelled_alone)


class ExtraMapsConformance(Conformance):
    """What holds for a plugin that answers `extra_maps`."""

    test_maps_fit_every_case = as_test(segmentation.maps_fit_every_case)
    test_maps_are_described = as_test(segmentation.maps_are_described)
    test_maps_are_the_same_again = as_test(segmentation.maps_are_the_same_again)


SUITES: dict[str, type[Conformance]] = {
    "network": ArchitectureConformance,
    "generate_labels": LabelConformance,
    "loss": LossConformance,
    "sampling": SamplingConformance,
    "get_coords_from_heatmap": DecodeConformance,
    "get_segmentation": SegmentationConformance,
    "extra_maps": ExtraMapsConformance,
}
"""The suite for each hook that has one."""


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        check: Its name, `test_` left out; with the name of the loss or decoder where several are tested.
        contract: What is asked for.
        outcome: What came of it.
        message: What was found, or why it was not checked; empty where it passed.
    """

    check: str
    contract: str
    outcome: Literal["passed", "failed", "not claimed"]
    message: str = ""


def run(suite: Subject) -> Iterator[Result]:
    """Run all tests of a test class, one after the other."""
    for name in checks_of(type(suite)):
        yield run_one(suite, name)


def checks_of(suite: type[Subject]) -> list[str]:
    """The names of its test methods, those of its bases first."""
    names = [name for part in reversed(suite.__mro__) for name in vars(part) if name.startswith("test_")]
    return list(dict.fromkeys(names))


def run_one(suite: Subject, name: str, about: str = "") -> Result:
    """Run one test; whatever it raises is its outcome. `about` stands beside the check's name."""
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


Planned = tuple[Subject, str, str]
"""A suite, the name of one of its tests, and the name of the loss or decoder that it is about, if any."""


def plan(plugin: str, settings: Mapping[str, Any]) -> list[Planned]:
    """Every check of an installed plugin once, of the suites for the hooks that it answers.

    Nothing is claimed: what the plugin refuses with a message counts as not claimed.

    Args:
        plugin: Its name.
        settings: Its section of the YAML.
    """
    hooks = manager.implemented_hooks(discovery.find(plugin).load())
    unclaimed = {name: None for name in vars(Subject) if name.startswith("supports_")}

    def suite(base: type[Conformance], **chosen: str) -> Subject:
        attributes = {"plugin": plugin, "config": settings, **unclaimed, **chosen}
        made: Subject = type(base.__name__, (base,), attributes)()
        return made

    suites = [(suite(Conformance), "")]
    suites += [(suite(base), "") for hook, base in SUITES.items() if hook in hooks]
    if "losses" in hooks:
        names = brought(suites[0][0], "losses")
        suites += [(suite(LossConformance, loss_function=name), name) for name in names]
    if "decoders" in hooks:
        names = brought(suites[0][0], "decoders")
        suites += [(suite(DecodeConformance, decoder=name), name) for name in names]

    planned: dict[tuple[str, str], Planned] = {}
    for tested, about in suites:
        for name in checks_of(type(tested)):
            key = ("" if hasattr(Conformance, name) else about, name)
            planned.setdefault(key, (tested, name, about))
    return list(planned.values())


def brought(suite: Subject, hook: str) -> list[str]:
    """The names that a plugin's `losses` or `decoders` adds to those of the core."""
    core = {*schema.LOSSES, *schema.SEGMENTATION_LOSSES} if hook == "losses" else {*schema.DECODERS}
    dimensions = next(iter(suite.kinds())).dimensions
    names = []
    for task in suite.served_tasks():
        names += getattr(build(suite, Kind(task, dimensions)).hooks, hook)()
    return [name for name in dict.fromkeys(names) if name not in core]
