import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, strategies as st
from lannunet_landmarks.schema import RunConfig

from lannunet_core.run import sizing


def configured(budget=30.0, batches=150, epochs="auto", every=10):
    return RunConfig.model_validate(
        {
            "dataset": {"src_targets": "a.json"},
            "output": {"output_dir": "out"},
            "solver": {"budget_minutes": budget, "mini_batch_size": batches, "max_epochs": epochs},
            "trainer": {"validate_every": every},
        }
    )


def seconds(sized, step, validation):
    """The time of a run of this size; the last epoch is always validated."""
    return (
        sized.max_epochs * sized.mini_batch_size * step
        + math.ceil(sized.max_epochs / sized.validate_every) * validation
    )


def test_a_given_number_of_epochs_stays():
    sized = sizing.size_run(configured(epochs=7, batches=3, every=2, budget=0.01), 100, 100)
    assert sized == sizing.Sizing(max_epochs=7, mini_batch_size=3, validate_every=2)


def test_a_long_run_is_filled_as_configured():
    sized = sizing.size_run(configured(), step=0.1, validation=3)
    assert (sized.mini_batch_size, sized.validate_every) == (150, 10)
    assert sized.max_epochs == int(30 * 60 * 0.97 / (150 * 0.1 + 0.3))


def test_a_short_run_has_shorter_epochs_and_at_least_five_validations():
    sized = sizing.size_run(configured(budget=1), step=1, validation=1)
    assert sized.mini_batch_size < 150
    assert sized.max_epochs / sized.validate_every >= 4
    assert sized.validate_every < 10


@given(
    budget=st.floats(0.05, 600),
    batches=st.integers(1, 1000),
    every=st.integers(1, 50),
    step=st.floats(1e-3, 30),
    validation=st.floats(0, 300),
)
def test_the_budget_is_used_and_kept(budget, batches, every, step, validation):
    total = budget * 60
    assume(5 * (step + validation) < 0.5 * total)
    sized = sizing.size_run(configured(budget, batches, every=every), step, validation)
    assert sized.max_epochs >= 1
    assert 1 <= sized.mini_batch_size <= batches
    assert 1 <= sized.validate_every <= every
    took = seconds(sized, step, validation)
    # The validation of the last epoch may exceed the budget; an epoch that does not fit is omitted.
    assert took <= total * 0.97 + validation
    assert took >= total * 0.97 - (sized.mini_batch_size * step + validation) * 1.01


def test_workers_keep_up_with_the_device(monkeypatch):
    monkeypatch.setattr(sizing, "available_cores", lambda: 8)
    assert sizing.workers_for(loading=0.001, using=0.1) == 0
    assert sizing.workers_for(loading=0.05, using=0.1) == 1
    assert sizing.workers_for(loading=0.25, using=0.1) == 3
    assert sizing.workers_for(loading=10, using=0.1) == 7
    assert sizing.workers_for(loading=1, using=0) == 7


def test_workers_on_one_core(monkeypatch):
    monkeypatch.setattr(sizing, "available_cores", lambda: 1)
    assert sizing.workers_for(loading=10, using=0.1) == 1
    monkeypatch.setattr(sizing, "now", lambda: SimpleNamespace(local=2))  # two processes share it
    assert sizing.workers_for(loading=10, using=0.1) == 1
    assert sizing.workers_for(loading=10, using=0.1, on_cpu=True) == 0


def test_workers_take_cores_from_training_on_the_cpu(monkeypatch):
    """On two cores they were faster only if loading took several times as long as training."""
    monkeypatch.setattr(sizing, "available_cores", lambda: 2)
    for loading in (0.004, 0.13, 0.3):
        assert sizing.workers_for(loading, using=0.08, on_cpu=True) == 0
    assert sizing.workers_for(loading=0.6, using=0.08, on_cpu=True) == 1
    monkeypatch.setattr(sizing, "available_cores", lambda: 16)
    assert sizing.workers_for(loading=0.3, using=0.08, on_cpu=True) == 4


@pytest.mark.parametrize(("count", "expected"), [(100, (2.0, 3.0)), (1, (50.0, 70.0)), (0, (0.0, 0.0))])
def test_the_first_batches_do_not_count(monkeypatch, count, expected):
    now = 0.0
    monkeypatch.setattr(sizing.time, "perf_counter", lambda: now)

    def slow_at_first(number, warm, cold):
        nonlocal now
        now += cold if number < sizing.WARM_UP else warm

    def batches():
        for number in range(count):
            slow_at_first(number, 2.0, 50.0)
            yield number

    assert sizing.seconds_per_batch(batches(), lambda n: slow_at_first(n, 3.0, 70.0)) == expected


@pytest.mark.parametrize("task", ["project", "segmentation"])
def test_a_run_that_is_too_short_says_so_before_it_starts(request, task, capsys):
    project = request.getfixturevalue(task)
    assert project.train() == 0
    printed = capsys.readouterr()
    assert "warning: solver.max_epochs: 6 batches are too few" in printed.err
    assert "(2 epochs of 3)" in printed.err
    # A run that starts from a trained model is not warned.
    again = ("--set", f"model.checkpoint={project.out}", "--set", f"output.output_dir={project.out}2")
    assert project.train(*again) == 0
    assert "too few" not in capsys.readouterr().err


def test_the_key_that_decides_is_named():
    sized = sizing.Sizing(max_epochs=1, mini_batch_size=1, validate_every=1)
    assert sizing.too_short(configured(0.5), sized).startswith(
        "solver.budget_minutes: one batch is too few to learn much, and no more fit into 0.5 minutes."
    )
    assert sizing.too_short(configured(epochs=33, batches=3), sizing.Sizing(33, 3, 1)) is not None
    assert sizing.too_short(configured(epochs=50, batches=2), sizing.Sizing(50, 2, 1)) is None


def history(sized, *seconds, validation=0.0):
    """Records of epochs with these durations, to which validations add theirs."""
    return [
        {"epoch": n, "seconds": s + (validation if n % sized.validate_every == 0 else 0)}
        for n, s in enumerate(seconds, 1)
    ]


TWENTY = sizing.Sizing(20, 10, 1, budget=20.0)


def test_a_lasting_slow_down_shortens_the_run_and_a_short_one_does_not():
    assert sizing.within_budget(TWENTY, history(TWENTY, *[1] * 8)) is TWENTY
    assert sizing.within_budget(TWENTY, history(TWENTY, *[1] * 7, 2.9)) is TWENTY
    assert sizing.within_budget(TWENTY, history(TWENTY, 8)) is TWENTY  # the first one starts the workers
    slow = history(TWENTY, *[1] * 6, 2, 2, 2)
    shorter = sizing.within_budget(TWENTY, slow)
    assert (shorter.shortened, shorter.end) == (((9, 13),), 13)  # 12 s, and 4 times 2
    assert sizing.within_budget(shorter, [*slow, {"epoch": 10, "seconds": 2}]) is shorter
    again = sizing.within_budget(shorter, history(TWENTY, *[1] * 6, 2, 2, 2, 4, 4))
    assert again.shortened == ((9, 13), (11, 12))  # no time is left, and the learning rate must still decay
    none = replace(TWENTY, budget=None)
    assert sizing.within_budget(none, slow) is none


def test_a_run_that_ends_beyond_its_budget_ends():
    """The last epoch was slow, so nothing is left to shorten."""
    late = history(TWENTY, *[1] * 19, 30)
    assert sizing.within_budget(TWENTY, late) is TWENTY
    shortened = replace(TWENTY, shortened=((10, 20),), max_epochs=30)
    assert sizing.within_budget(shortened, late) is shortened


def test_validations_count_in_what_is_left():
    even = replace(TWENTY, validate_every=2)
    rows = history(even, *[0.5] * 6, validation=1)
    assert sizing.seconds_left(even, rows) == pytest.approx(14 * 0.5 + 7 * 1)
    odd = replace(even, max_epochs=19)
    assert sizing.seconds_left(odd, rows) == pytest.approx(13 * 0.5 + 7 * 1)  # the last one is validated


@given(st.integers(3, 60), st.integers(1, 30), st.data())
def test_a_shortened_run_goes_through_all_of_its_plan(epochs, updates, data):
    rows, after, end = [], 0, epochs
    for _ in range(data.draw(st.integers(0, 3))):
        if end - after > 2:
            after = data.draw(st.integers(after + 1, end - 2))
            end = data.draw(st.integers(after + 1, end - 1))
            rows.append((after, end))
    sized = sizing.Sizing(epochs, updates, 1, shortened=rows)
    places = [sized.planned(update, updates) for update in range(sized.end * updates + 1)]
    as_planned = rows[0][0] * updates if rows else epochs * updates
    assert places[: as_planned + 1] == list(range(as_planned + 1))
    assert all(later > earlier for earlier, later in itertools.pairwise(places))
    assert places[-1] == epochs * updates


@pytest.mark.parametrize("rows", ["[[3, 7]]", "[[0, 3]]", "[[3, 3]]", "[[2, 5], [4, 5]]", "[[2, 4], [2, 3]]"])
def test_a_record_of_another_run_is_refused(project, capsys, rows):
    settings = ("--set", "solver.max_epochs=6", "--set", f"solver.shortened={rows}")
    assert project.train(*settings) == 2
    assert "which is not a record of a run of" in capsys.readouterr().err
    assert not project.out.exists()
