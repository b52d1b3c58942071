"""The learning rate over a run."""

import pytest
import torch
from torch.optim import SGD

from lannunet_core.run.schedule import PolySchedule

STEPS = 20


def optimizer(*rates, **group):
    return SGD(
        [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate, **group} for rate in rates], lr=1.0
    )


def rates(of, schedule, steps):
    """The rates before each step."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in of.param_groups])
        of.step()
        schedule.step()
    return seen


def expected(base, step):
    return base * (1 - step / STEPS) ** 0.9


def test_it_is_the_closed_form():
    of = optimizer(0.1, 0.02)
    seen = rates(of, PolySchedule(of, STEPS), STEPS)
    assert seen == [pytest.approx([expected(0.1, step), expected(0.02, step)]) for step in range(STEPS)]
    assert [group["lr"] for group in of.param_groups] == [0, 0]


def test_beyond_the_run_the_rate_stays_0():
    of = optimizer(0.1)
    assert rates(of, PolySchedule(of, STEPS), STEPS + 3)[-3:] == [[0]] * 3


def test_a_group_that_is_added_later_follows():
    of = optimizer(0.1)
    schedule = PolySchedule(of, STEPS)
    rates(of, schedule, 5)
    of.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.5})
    seen = rates(of, schedule, 5)
    assert [row[0] for row in seen] == pytest.approx([expected(0.1, step) for step in range(5, 10)])
    assert seen[0][1] == 0.5  # the initial rate, until the next step
    assert [row[1] for row in seen[1:]] == pytest.approx([expected(0.5, step) for step in range(6, 10)])


def test_a_group_may_wait():
    of = optimizer(0.1, hold=0.25)
    seen = [row[0] for row in rates(of, PolySchedule(of, STEPS), STEPS)]
    assert seen[:5] == [0] * 5
    assert seen[5:] == pytest.approx([expected(0.1, step) for step in range(5, STEPS)])


def test_saved_and_loaded_it_goes_on(tmp_path):
    def made():
        of = optimizer(0.1)
        schedule = PolySchedule(of, STEPS)
        of.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.5, "hold": 0.1})
        return of, schedule

    of, schedule = made()
    rates(of, schedule, 7)
    torch.save([of.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    again, its_schedule = made()
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(states[0])
    its_schedule.load_state_dict(states[1])
    assert rates(again, its_schedule, STEPS - 7) == rates(of, schedule, STEPS - 7)


def test_of_a_trained_model_the_rate_rises_to_a_quarter():
    of = optimizer(0.1)
    seen = [row[0] for row in rates(of, PolySchedule(of, 2 * STEPS, fine_tune=True), 2 * STEPS)]
    rise = [0.25, 0.5, 0.75, *[1] * (2 * STEPS - 3)]
    whole = [0.1 * (1 - step / (2 * STEPS)) ** 0.9 for step in range(2 * STEPS)]
    assert seen == pytest.approx([rate * share / 4 for rate, share in zip(whole, rise, strict=True)])


def test_fine_tuning_starts_at_a_quarter_of_the_usual_rate(project, trained, without_charts):
    project.set(solver={"decay_policy": "fine_tune"}, model={"checkpoint": str(trained.out)})
    assert project.train() == 0
    rates = [row["lr"] for row in project.metrics()]
    assert rates[0] == pytest.approx(0.002 / 4 * (1 - 3 / 6) ** 0.9) and rates[1] == 0
