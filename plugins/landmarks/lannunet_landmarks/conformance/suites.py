"""The test classes for hooks of landmarks."""

from __future__ import annotations

from collections.abc import Mapping

from lannunet_core.testing import (
    ArchitectureConformance,
    Conformance,
    LossConformance,
    as_test,
    labels_are_a_function_of_the_batch,
)
from lannunet_landmarks.conformance import decoding, labels, negatives


class LabelConformance(Conformance):
    """The contract of a plugin that implements `generate_labels`."""

    task = "landmarks"

    test_labels_hold_states = as_test(labels.labels_hold_states)
    test_missing_landmarks_leave_no_label = as_test(labels.missing_landmarks_leave_no_label)
    test_labels_follow_subpixel_moves = as_test(labels.labels_follow_subpixel_moves)
    test_labels_decode_back = ArchitectureConformance.test_labels_decode_back
    test_known_negatives_are_learned = as_test(negatives.known_negatives_are_learned)
    test_labels_are_a_function_of_the_batch = as_test(labels_are_a_function_of_the_batch)
    test_gradients_reach_sigmas = as_test(labels.gradients_reach_sigmas)


class LandmarkLossConformance(LossConformance):
    """The contract of a plugin that implements `loss` or `losses`, in this task."""

    task = "landmarks"

    test_known_negatives_are_learned = as_test(negatives.known_negatives_are_learned)


class DecodeConformance(Conformance):
    """The contract of a plugin that implements `get_coords_from_heatmap` or `decoders` (`decoder` names
    one)."""

    task = "landmarks"
    decoder: str | None = None

    def chosen(self) -> dict[str, str]:
        return super().chosen() | ({"inference.decoder": self.decoder} if self.decoder else {})

    test_decoded_shapes = as_test(decoding.decoded_shapes)
    test_decodes_to_the_point = as_test(decoding.decodes_to_the_point)
    test_flat_maps_have_no_point = as_test(decoding.flat_maps_have_no_point)
    test_confidence_is_a_share = as_test(decoding.confidence_is_a_share)
    test_samples_are_decoded_alone = as_test(decoding.samples_are_decoded_alone)


SUITES: Mapping[str, type[Conformance]] = {
    "generate_labels": LabelConformance,
    "loss": LandmarkLossConformance,
    "losses": LandmarkLossConformance,
    "get_coords_from_heatmap": DecodeConformance,
    "decoders": DecodeConformance,
}
