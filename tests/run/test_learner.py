"""The one module that is optimised."""

import pytest
import torch
from torch import nn

from lannunet_core import Learner
from lannunet_core.run.learner import Unrounded


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)
        self.given = {}

    def forward(self, image, **given):
        self.given = given
        return [self.layer(image), {"coarse": self.layer(image[..., ::2, ::2])}]


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, outputs, labels):
        self.seen.append((outputs, labels))
        return {"mean": self.weight * (outputs[0] - labels["target"]).square().mean()}

    def activation(self, outputs):
        return outputs[0].sigmoid()


class Hooks:
    inputs = {}  # noqa: RUF012

    def network(self):
        return Network()

    def loss(self):
        return Loss()

    def network_inputs(self, batch):
        return self.inputs


class OwnLearner(Learner):
    def labels(self, batch, outputs):
        return {"target": batch["target"], "size": outputs[0].shape}


@pytest.fixture
def learner():
    torch.manual_seed(0)
    return OwnLearner(Hooks())


@pytest.fixture
def batch():
    return {"image": torch.randn(3, 1, 4, 6), "target": torch.tensor(1 / 3)}


def test_a_batch_becomes_terms(learner, batch):
    terms = learner(batch)
    expected = (learner.network(batch["image"])[0] - 1 / 3).square().mean()
    torch.testing.assert_close(terms, {"mean": expected})
    terms["mean"].backward()
    assert learner.network.layer.weight.grad.abs().sum() > 0
    assert learner.loss.weight.grad == pytest.approx(expected.item())
    assert set(learner.state_dict()) == {"network.layer.weight", "network.layer.bias", "loss.weight"}
    assert learner.figures() == {}


def test_labels_and_loss_are_in_float32(learner, batch):
    with torch.autocast("cpu", torch.bfloat16):
        learner(Unrounded(batch))
        assert learner.network(batch["image"])[0].dtype == torch.bfloat16
    (outputs, labels), = learner.loss.seen  # fmt: skip
    assert outputs[0].dtype == outputs[1]["coarse"].dtype == torch.float32
    assert labels["target"] is batch["target"]
    assert labels["size"] == (3, 2, 4, 6)


def test_further_fields_reach_the_loss(learner, batch):
    learner({**batch, "extra": {"age": 3}})
    learner(batch)
    assert [labels["extra"] for _, labels in learner.loss.seen] == [{"age": 3}, {}]


def test_plugins_bring_further_inputs(learner, batch):
    learner.hooks.inputs = {"age": torch.ones(3)}
    learner.maps(batch)
    assert learner.network.given == {"age": learner.hooks.inputs["age"]}


def test_maps_are_activated_in_float32(learner, batch):
    maps = learner.maps(batch)
    torch.testing.assert_close(maps, learner.network(batch["image"])[0].sigmoid())
    half = learner.activate([torch.zeros(1, dtype=torch.bfloat16)], (6, 4))
    assert half.dtype == torch.float32
    assert half.tolist() == [0.5]
