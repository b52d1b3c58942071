from pathlib import Path

import pytest
from lannunet_landmarks.schema import DatasetConfig, RunConfig
from pydantic import BaseModel, ValidationError

from lannunet_core.config.schema import canonical, section_of


def fields(model: type[BaseModel], prefix=""):
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        if section := section_of(field):
            yield from fields(section, f"{prefix}{name}.")


@pytest.mark.parametrize(("key", "field"), list(fields(RunConfig)))
def test_every_key_says_what_it_does(key, field):
    assert field.description, key
    assert field.description.endswith("."), key


@pytest.mark.parametrize(
    ("written", "ours", "known"),
    [
        ("solver.base_lr", "solver.base_lr", True),
        ("SOLVER.Base_LR", "solver.base_lr", True),
        ("SAMPLER.PATCH.SAMPLER_BIAS", "sampler.patch.sampler_bias", True),
        ("SOLVER", "solver", True),
        ("SOLVER.BASELR", "solver.BASELR", False),
        ("NOPE.BASE_LR", "NOPE.BASE_LR", False),
        ("SOLVER.SEED.Deeper", "solver.seed.Deeper", True),
    ],
)
def test_canonical_spelling(written, ours, known):
    path, field = canonical(tuple(written.split(".")), RunConfig)
    assert ".".join(path) == ours
    assert (field is not None) == known


def test_the_root_is_the_folder_of_the_annotations(tmp_path):
    assert DatasetConfig(src_targets="data/all.json").images_folder == Path("data")
    assert DatasetConfig(src_targets="data/folds").images_folder == Path("data/folds")
    assert DatasetConfig(src_targets="data/all.json", root=None).images_folder == Path("data")
    assert DatasetConfig(src_targets="data/all.json", root="images").images_folder == Path("images")
    (tmp_path / "annotations").write_text("{}")
    assert DatasetConfig(src_targets=tmp_path / "annotations").images_folder == tmp_path


def test_annotations_are_required():
    with pytest.raises(ValidationError):
        DatasetConfig(root="images")
