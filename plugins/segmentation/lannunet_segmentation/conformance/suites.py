"""The test classes for hooks of segmentation."""

from __future__ import annotations

from collections.abc import Mapping

from lannunet_core.testing import Conformance, LossConformance, as_test, labels_are_a_function_of_the_batch
from lannunet_segmentation.conformance import class_maps, extra_maps, labels


class SegmentationLabelConformance(Conformance):
    """The contract of a plugin that implements `generate_segmentation_labels`."""

    task = "segmentation"

    test_voxel_labels = as_test(labels.voxel_labels)
    test_labels_are_a_function_of_the_batch = as_test(labels_are_a_function_of_the_batch)
    test_unlabelled_contributes_nothing = LossConformance.test_unlabelled_contributes_nothing
    test_weights_count = LossConformance.test_weights_count
    test_labels_decode_back = LossConformance.test_labels_decode_back


class SegmentationConformance(Conformance):
    """The contract of a plugin that implements `get_segmentation`."""

    task = "segmentation"

    test_labels_are_classes = as_test(class_maps.labels_are_classes)
    test_slabs_are_labelled_alone = as_test(class_maps.slabs_are_labelled_alone)


class ExtraMapsConformance(extra_maps.WithFiles):
    """The contract of a plugin that implements `extra_maps`."""

    task = "segmentation"

    test_maps_fit_every_case = as_test(extra_maps.maps_fit_every_case)
    test_maps_are_described = as_test(extra_maps.maps_are_described)
    test_maps_are_the_same_again = as_test(extra_maps.maps_are_the_same_again)


SUITES: Mapping[str, type[Conformance]] = {
    "generate_segmentation_labels": SegmentationLabelConformance,
    "get_segmentation": SegmentationConformance,
    "extra_maps": ExtraMapsConformance,
}
