"""Gradient scaler, memory layout and compilation change the speed of training, and nothing else."""

import functools
from contextlib import nullcontext

import pytest
import torch
from lannunet_images import prepare_to_train
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from lannunet_core.config.schema import SolverConfig
from lannunet_core.run import run, session
from lannunet_core.run.checkpoint import load_checkpoint

SCALE = 2.0**100


def latest(folder):
    return load_checkpoint(folder / "checkpoints" / "latest.pt")


def same_weights(one, other):
    a, b = (latest(folder).learner for folder in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


class Scaled(MixedPrecision):
    """16-mixed without 16-bit arithmetic, which is slow on a CPU: only its gradient scaler remains."""

    def forward_context(self):
        return nullcontext()

    def convert_input(self, data):
        return data


def test_the_state_of_the_gradient_scaler_is_resumed(project, workshop, monkeypatch):
    """The scale grows after every third step. SGD, as AdamW is fused on the CPU, see `Defaults`."""

    def make_fabric(config):
        scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=3)
        return Fabric(
            accelerator="cpu", devices=1, plugins=[Scaled("16-mixed", "cpu", scaler), LightningEnvironment()]
        )

    monkeypatch.setattr(run, "make_fabric", make_fabric)
    project.set(
        trainer={"plugins": ["saboteur"]}, solver={"max_epochs": 2, "mini_batch_size": 6, "optimizer": "sgd"}
    )
    whole = project.folder / "whole"
    assert project.train("--set", f"output.output_dir={whole}") == 0
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 10 SIGINT")
        assert project.train() == 130
    stopped = latest(project.out).scaler
    assert stopped["scale"] == SCALE * 2**3 and stopped["_growth_tracker"] == 1
    assert project.train("--resume") == 0
    assert latest(project.out).scaler == latest(whole).scaler != stopped
    assert same_weights(project.out, whole)


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_bfloat16_where_the_gpu_multiplies_in_it(project, monkeypatch, capability, precision):
    """torch reports that older GPUs support it, but they only emulate it."""

    class Config:
        solver = SolverConfig(loss_function="kl")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert session.training_precision(Config(), "cuda") == precision


@pytest.mark.parametrize("dimensions", [2, 3])
def test_channels_last_is_a_layout_alone(dimensions):
    """Weights of other dimensions keep their memory layout."""
    torch.manual_seed(0)
    conv = getattr(nn, f"Conv{dimensions}d")
    network = nn.Sequential(conv(2, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    image = torch.randn(2, 2, *[8] * dimensions)
    expected = network(image)
    prepare_to_train(network, dimensions, compile=False, channels_last=True)
    layout = torch.channels_last_3d if dimensions == 3 else torch.channels_last
    assert network[0].weight.is_contiguous(memory_format=layout)
    assert network[2].weight.is_contiguous()
    assert torch.allclose(network(image), expected, atol=1e-5)


@pytest.fixture
def compiled(monkeypatch):
    """Traces the network, but does not translate it, which takes a compiler and half a minute."""
    calls = []

    def backend(graph, inputs):
        calls.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return calls


@pytest.mark.slow
def test_a_compiled_network_trains_alike(project, compiled, capsys):
    """A compiled network is saved and resumed like one that is not compiled."""
    plain = project.folder / "plain"
    assert project.train("--set", f"output.output_dir={plain}") == 0
    project.set(trainer={"compile": True, "channels_last": True}, sampler={"num_workers": "auto"})
    capsys.readouterr()
    assert project.train() == 0
    assert capsys.readouterr().out.count("trainer.compile: compiled the network in") == 1
    assert compiled
    one, other = (latest(folder).progress["history"][-1]["loss"] for folder in (plain, project.out))
    assert one == pytest.approx(other, rel=1e-3)
    assert latest(plain).learner.keys() == latest(project.out).learner.keys()
    assert project.train("--resume", "--set", "trainer.compile=false") == 2


@pytest.mark.parametrize("task", ["project", "segmentation"])
def test_a_compiler_that_fails_is_named(request, monkeypatch, capsys, task):
    project = request.getfixturevalue(task)

    def backend(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    project.set(trainer={"compile": True})
    assert project.train() == 2
    error = capsys.readouterr().err
    assert "trainer.compile" in error and "no C++ compiler" in error and "Set it to false" in error


@pytest.mark.parametrize("key", ["compile", "channels_last"])
def test_without_training_the_keys_are_refused(project, capsys, key):
    project.set(trainer={key: True, "inference_only": True})
    assert project.train() == 2
    assert f"trainer.{key}" in capsys.readouterr().err


def test_images_in_half_precision_are_part_of_a_run(project, capsys):
    assert project.train("--set", "trainer.cache_dtype=float16") == 0
    assert project.train("--resume") == 2
    assert "trainer.cache_dtype was 'float16', is 'float32'" in capsys.readouterr().err
    assert project.train("--set", "trainer.cache_dtype=float16", "--set", "trainer.cache_data=false") == 2
    assert "trainer.cache_dtype" in capsys.readouterr().err
