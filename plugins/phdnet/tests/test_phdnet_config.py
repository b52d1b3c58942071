from typing import Any

import pytest
from lannunet_phdnet.config import PHDNetConfig
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"branch_scheme": "displacement", "class_label_scheme": "binary"}, "class_label_scheme binary"),
        ({"branch_scheme": "heatmap", "clamp_dist": 30.0}, "clamp_dist limits displacements"),
        ({"clamp_dist": 7.0}, "less than a patch of 8 pixels"),
        ({"maxpool_factor": 4, "clamp_dist": 10.0}, "less than a patch of 16 pixels"),
        ({"clamp_dist": 0.0}, "greater than 0"),
        ({"maxpool_factor": 0}, "greater than or equal to 1"),
        ({"maxpool_factor": "3"}, "valid integer"),
        ({"log_transform_displacements": "no"}, "valid boolean"),
        ({"branch_scheme": "both"}, "'multi', 'heatmap' or 'displacement'"),
        ({"branches": "multi"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PHDNetConfig(**settings)


def test_every_value_written_out_can_be_read_again() -> None:
    for settings in ({}, {"branch_scheme": "heatmap"}, {"branch_scheme": "displacement", "clamp_dist": 8}):
        config = PHDNetConfig(**settings)
        assert PHDNetConfig(**config.model_dump()) == config


def test_every_setting_is_described() -> None:
    assert all(field.description for field in PHDNetConfig.model_fields.values())
