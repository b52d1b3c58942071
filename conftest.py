"""Fixtures and hooks that the tests of all distributions share."""

import os

import pytest

pytest_plugins = [
    "tests.fixtures.browser",
    "tests.fixtures.projects",
    "tests.fixtures.workshop",
    "tests.fixtures.faults",
]

CASES = (
    "test_a_picture_is_read_as_it_is_seen",
    "test_the_spacing_of_every_kind_of_dicom_is_what_its_tags_say",
    "test_a_negative_spacing_is_a_length_and_0_is_unknown",
    "test_every_channel_of_every_layout_is_read",
    "test_where_0_is_white_bright_means_bright",
    "test_without_shared_memory_batches_come_through_pipes",
    "test_a_worker_that_hangs",
    "test_an_output_that_cannot_be_written",
    "test_what_the_import_writes_is_valid",
    "test_its_jitter_is_a_share_of_half_a_patch",
    "test_an_external_test_set",
    "test_the_network_sees_raw_images_as_it_saw_those_it_was_trained_on",
    "test_what_points_another_way_is_refused",
    "test_a_sheared_file_is_read_with_the_spacing_of_its_matrix",
    "test_one_bit_is_0_or_1",
    "test_the_spacing_of_a_volume_lies_beside_it",
    "test_a_folder_of_all_kinds_is_predicted_as_a_whole",
    "test_an_image_is_never_a_target",
    "test_images_are_never_a_target",
    "test_a_share_that_takes_bytes_only",
    "test_a_share_that_refuses_locks_links_and_times",
    "test_a_case_without_foreground_trains",
    "test_what_trains_is_segmented",
)
"""The tests of `make test-cases`: inputs that people reported, and that used to fail."""


LONGEST = (
    "tests/config/test_acting.py",
    "tests/run/test_loop.py",
    "plugins/weighted/tests/test_weighted_training.py",
    "tests/contract/test_landmarks.py",
    "tests/test_plugin_lifecycle.py",
    "tests/test_what_is_missing.py",
    "plugins/segmentation/tests/test_task.py",
    "tests/test_kills.py",
    "tests/contract/test_conformance.py",
    "tests/run/test_run.py",
    "plugins/landmarks/tests/maps/test_learned_sigma.py",
    "plugins/landmarks/tests/predict/test_stages.py",
    "tests/run/test_processes.py",
    "plugins/landmarks/tests/commands/test_demo.py",
    "tests/fuzz/test_fuzz.py",
)
"""They are begun first, or one process would be at them when the other has nothing left to do."""


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests
    os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and messages would be folded as for a terminal
    os.fsync = lambda file: None  # no test ends the machine, and the disk would take minutes in all


def pytest_collection_modifyitems(items):
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))
    for item in items:
        if item.name.partition("[")[0] in CASES:
            item.add_marker(pytest.mark.case)
