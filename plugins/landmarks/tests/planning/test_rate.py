"""The learning rate of a plan."""

from pathlib import Path

import pytest
from lannunet_landmarks.planning.rate import choose_rate, rate_of_second

from lannunet_core import PlanRequest, Plugin
from lannunet_core.plugins.installed import InstalledPlugin


class Silent(Plugin):
    """Suggests nothing."""


class Own(Plugin):
    """Suggests its own rate."""

    @classmethod
    def suggestions(cls, task):
        return {"solver.base_lr": 1e-4}


class Optimizer(Plugin):
    """Suggests an optimizer."""

    @classmethod
    def suggestions(cls, task):
        return {"solver.optimizer": "sgd"}


def made(plugin):
    return InstalledPlugin(plugin.__name__, "made", "1", f"made:{plugin.__name__}"), plugin


@pytest.mark.parametrize(
    ("architecture", "extensions", "batches", "rates"),
    [
        (Silent, [], 1000, [0.004]),
        (Silent, [], 1001, []),
        (Own, [], 500, []),
        (Silent, [Silent, Own], 500, []),
        (Optimizer, [], 500, []),
    ],
)
def test_short_runs_get_a_higher_rate_than_the_default(architecture, extensions, batches, rates):
    request = PlanRequest(
        Path("a.json"), Path(), made(architecture), extensions=dict(made(one) for one in extensions)
    )
    assert [(one.key, one.value) for one in choose_rate(request, batches)] == [
        ("solver.base_lr", rate) for rate in rates
    ]


def test_a_gpu_may_make_more_batches_than_estimated():
    assert choose_rate(PlanRequest(Path("a.json"), Path(), made(Silent), gpu=True), 500) == []


def test_a_longer_second_stage_gets_the_default_again():
    first = choose_rate(PlanRequest(Path("a.json"), Path(), made(Silent)), 500)
    assert rate_of_second(first, 1000) == []
    assert [(one.key, one.value) for one in rate_of_second(first, 3000)] == [("solver.base_lr", "auto")]
    assert rate_of_second([], 3000) == []
