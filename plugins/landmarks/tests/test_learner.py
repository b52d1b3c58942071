"""The module that is optimised in a run of landmarks."""

import math

import pytest
import torch
from lannunet_landmarks.learner import LandmarkLearner
from lannunet_landmarks.maps.labels import generate_labels
from lannunet_landmarks.maps.learned_sigma import LearnedSigma
from lannunet_landmarks.maps.losses import HeatmapMSE, SoftmaxCrossEntropy
from torch import nn

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State


class Pyramid(nn.Module):
    """Maps at half and a quarter of the resolution."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)

    def forward(self, image):
        maps = self.layer(image)
        return [nn.functional.avg_pool2d(maps, k) for k in (2, 4)]


class Hooks:
    def __init__(self, loss=None, network=Pyramid):
        self.asked, self.by_plugin = [], ("network",)
        self._loss, self._network = loss, network

    def network(self):
        return self._network()

    def loss(self):
        return self._loss or SoftmaxCrossEntropy(2.0, 2)

    def network_inputs(self, batch):
        return {}

    def answering(self, hook):
        return "made" if hook in self.by_plugin else None

    def generate_labels(self, **given):
        self.asked.append(given)
        return generate_labels(**given)


def a_batch():
    return {
        "image": torch.randn(3, 1, 16, 24),
        "landmarks": torch.full((3, 2, 2), 5.0),
        "states": torch.full((3, 2), int(State.VISIBLE)),
        "corner": torch.zeros(3, 2),
    }


def widths(covariance=False, start=3.0):
    return LearnedSigma(("a", "b"), 2, start, covariance)


def test_labels_are_asked_for_on_the_networks_levels():
    hooks, batch = Hooks(), a_batch()
    learner = LandmarkLearner(hooks, sigma=6.0, peak=50.0)
    assert set(learner(batch)) == {"kl"}
    given = hooks.asked[0]
    assert given["image_size"] == (24, 16)
    assert given["level_sizes"] == [(12, 8), (6, 4)]
    assert (given["num_res_levels"], given["lambda_scale"]) == (2, 50)
    assert given["sigmas"].tolist() == [[3, 3], [1.5, 1.5]]
    assert given["sample"] is batch
    assert learner.figures() == {}


@pytest.mark.parametrize("by_plugin", [(), ("loss",), ("generate_labels",)])
def test_a_network_returns_a_map_per_landmark_unless_a_plugin_compares_others(by_plugin):
    hooks, batch = Hooks(nn.Identity()), a_batch()
    hooks.by_plugin += by_plugin
    learner, maps = LandmarkLearner(hooks), torch.zeros(3, 7, 16, 24)
    if by_plugin:
        assert learner.labels(batch, maps)
        return
    with pytest.raises(UserError, match="network of made returns 7 maps, should be 2, one per landmark"):
        learner.labels(batch, maps)


def test_learned_widths_reach_labels_and_loss():
    hooks = Hooks()
    learner = LandmarkLearner(hooks, 3.0, 1.0, widths(), 0.01)
    terms = learner(a_batch())
    assert set(terms) == {"kl", "sigma"}
    torch.stack(list(terms.values())).sum().backward()
    (parameter,) = learner.label_width.parameters()
    assert parameter.grad.abs().sum() > 0
    assert set(learner.figures()["sigma"]) == {"a", "b"}


@pytest.mark.parametrize("covariance", [False, True])
def test_the_width_of_each_landmark(covariance):
    learner = LandmarkLearner(Hooks(), 3.0, 1.0, widths(covariance), 0.01)
    with torch.no_grad():
        learner.label_width.log[1] += math.log(2) * (torch.eye(2) if covariance else 1)
    assert learner.label_sigmas().tolist() == pytest.approx([3, 6], rel=1e-5)
    assert learner.label_sigma() == pytest.approx(4.5)


def test_a_loss_without_widths_is_refused():
    class Plain(nn.Module):
        def activation(self, outputs):
            return outputs

    with pytest.raises(UserError, match=r"solver\.regress_sigma: the loss of this run does not learn"):
        LandmarkLearner(Hooks(Plain()), 3.0, 1.0, widths(), 0.01)


def test_activation_knows_how_coarse_maps_are():
    loss = SoftmaxCrossEntropy(2.0, 2)
    learner = LandmarkLearner(Hooks(loss))
    learner.maps(a_batch())
    assert loss.stride == 2
    learner.activate([torch.zeros(1, 2, 16, 24)], (24, 16))
    assert loss.stride == 1


@pytest.mark.parametrize(
    ("theirs", "own", "taken"),
    [
        (widths(start=5.0), widths(), True),
        (widths(True, 5.0), widths(True), True),
        (widths(True, 5.0), widths(), False),
        (None, widths(), False),
        (widths(start=5.0), None, False),
        (None, None, False),
    ],
)
def test_widths_are_taken_where_they_are_learned_alike(theirs, own, taken):
    first = LandmarkLearner(Hooks(HeatmapMSE(1.0)), 3.0, 1.0, theirs)
    second = LandmarkLearner(Hooks(HeatmapMSE(1.0)), 3.0, 1.0, own)
    before = {name: value.clone() for name, value in second.state_dict().items()}
    second.load_state_dict(first.state_dict())
    after = second.state_dict()
    assert torch.equal(after["network.layer.weight"], first.state_dict()["network.layer.weight"])
    for name in [name for name in after if name.startswith("label_width.")]:
        assert torch.equal(after[name], (first.state_dict() if taken else before)[name])


def test_other_weights_have_to_fit():
    first, second = LandmarkLearner(Hooks()), LandmarkLearner(Hooks(network=lambda: nn.Conv2d(1, 2, 1)))
    with pytest.raises(RuntimeError, match="network"):
        second.load_state_dict(first.state_dict())
