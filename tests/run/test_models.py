"""A model of another task is refused, with its name and the task that is needed."""

import pytest

from lannunet_core import UserError, api
from tests.compatibility.test_compatibility import VERSIONS

MODELS = {task: VERSIONS[0] / task / "model.safetensors" for task in ("landmarks", "segmentation")}


@pytest.mark.parametrize(("task", "other"), [("landmarks", "segmentation"), ("segmentation", "landmarks")])
def test_members_of_an_ensemble_are_of_one_task(task, other):
    with pytest.raises(UserError, match=f"is a model of `task: {other}`. Name one of `task: {task}`"):
        api.load(MODELS[task], also=[MODELS[other]])
