"""The advice that a run without a plan prints, and the runs that print none."""

from pathlib import Path

import pytest
from lannunet_landmarks.check import described, open_used
from lannunet_landmarks.planning.advice import advice

from lannunet_core import UserError, load_config

CONFIGS = Path(__file__).parents[4] / "configs"


def told_of(path, *overrides):
    loaded = load_config(path, overrides)
    dataset = open_used(loaded)
    return advice(loaded, described(loaded.run, dataset), dataset)


def told(project):
    project.write()
    return told_of(project.yaml)


@pytest.fixture
def bare(make_project):
    """The YAML of a new user: its defaults are for a GPU."""
    project = make_project(sizes=((300, 200),))
    project.config = {"dataset": project.config["dataset"], "output": project.config["output"]}
    return project


def test_defaults_that_are_too_large_are_named(bare):
    bare.set(solver={"budget_minutes": 2.0})
    line = told(bare)
    assert "only about " in line
    assert " batches fit into 2 minutes of " in line
    assert "lannunet plan would choose sampler.input_size [" in line
    assert "solver.data_loader_batch_size_train 4, model.unet.init_features 16" in line


@pytest.mark.parametrize(
    "change",
    [
        {"solver": {"max_epochs": 1}},
        {"solver": {"budget_minutes": 9000.0}},
        {"sampler": {"sample_mode": "patch_bias", "patch": {"sample_patch_size": [64, 64]}}},
        {"model": {"architecture": "phdnet"}},
        {"model": {"unet": {"init_features": 11, "max_features": 77}}},
    ],
)
def test_nothing_is_said_of_a_run_that_is_long_or_of_unknown_length(bare, change):
    if "solver" not in change:
        bare.set(solver={"budget_minutes": 2.0})
    bare.set(**change)
    assert told(bare) is None


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("wings*.yaml")))
def test_nothing_is_said_of_the_examples(bare, name):
    """The advice is also printed on one core."""
    bare.write()
    assert told_of(CONFIGS / name, f"dataset.src_targets={bare.json}") is None


def test_a_plugin_that_fails_to_say_its_costs_is_named(bare, monkeypatch):
    from lannunet_unet.plugin import UNetPlugin

    def networks(cls, request):
        raise TypeError("no size")

    monkeypatch.setattr(UNetPlugin, "networks", classmethod(networks))
    assert (
        "plugin 'unet' (lannunet-unet 0.1.0) fails when it estimates the cost of its networks "
        "(TypeError: no size)" in told(bare)
    )


def test_a_run_says_it_before_it_reads_an_image(bare, capsys, monkeypatch):
    def stop(*_):
        raise UserError("stopped here")

    monkeypatch.setattr("lannunet_landmarks.work.prepare_images", stop)
    assert bare.train("--set", "solver.budget_minutes=2") == 2
    assert "warning: only about " in capsys.readouterr().err
    assert bare.train("--set", "solver.max_epochs=2") == 2
    assert "only about" not in capsys.readouterr().err
