"""The weight of each class."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from lannunet_segmentation import CrossEntropyDice, segmentation_labels
from lannunet_weighted.class_weights import Balanced, computed_weights

from lannunet_core import BalancedLoss, UserError

COUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).filter(any).map(lambda c: np.array(c, float))


@given(COUNTS)
def test_inverse_frequency_gives_every_class_the_same_share(voxels):
    weights = computed_weights(voxels, "inverse_frequency")
    there = voxels > 0
    shares = (weights * voxels)[there]
    np.testing.assert_allclose(shares, shares[0], rtol=1e-9)
    assert weights[there].mean() == pytest.approx(1)
    assert not weights[~there].any()


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=5), st.sampled_from([0.0, 0.9, 0.999]))
def test_effective_number_against_its_sum(voxels, beta):
    """E_n = 1 + β + … + β^(n−1)."""
    effective = np.array([(beta ** np.arange(n)).sum() for n in voxels])
    expected = len(voxels) / effective / (1 / effective).sum()
    np.testing.assert_allclose(computed_weights(np.array(voxels, float), "effective_number", beta), expected)


def test_effective_number_lies_between_no_weights_and_inverse_frequency():
    voxels = np.array([1e6, 300.0])
    ratios = [np.divide(*computed_weights(voxels, "effective_number", beta)[::-1]) for beta in (0, 0.9999)]
    assert ratios[0] == 1
    assert 10 < ratios[1] < np.divide(*computed_weights(voxels, "inverse_frequency")[::-1])


def test_the_loss_counts_with_the_weights_once_they_are_known():
    rng = np.random.default_rng(0)
    logits = torch.as_tensor(rng.normal(size=(2, 3, 8, 8)), dtype=torch.float32)
    labels = segmentation_labels(torch.as_tensor(rng.integers(-1, 3, (2, 8, 8))), [(8, 8)])
    plain = CrossEntropyDice(ce_factor=0.5, dice_factor=2.0)
    loss = Balanced(plain, "inverse_frequency", 0.9, ["background", "a", "b"], ignored=None)
    assert isinstance(loss, BalancedLoss)
    assert not isinstance(plain, BalancedLoss)
    assert loss(logits, labels) == plain(logits, labels)
    loss.balance([60, 30, 10])
    weights = torch.tensor([1 / 6, 1 / 3, 1.0])
    expected = CrossEntropyDice(weights, ce_factor=0.5, dice_factor=2.0)(logits, labels)
    for name, term in loss(logits, labels).items():
        torch.testing.assert_close(term, expected[name])
    assert loss.state_dict() == {}


def test_an_ignored_class_has_no_weight():
    loss = Balanced(CrossEntropyDice(), "inverse_frequency", 0.9, ["background", "a", "b"], ignored=1)
    loss.balance([60, 30, 10])
    assert loss.class_weights[1] == 0
    assert loss.class_weights[2] == pytest.approx(6 * float(loss.class_weights[0]))
    with pytest.raises(UserError, match="at least one class"):
        loss.balance([60, 30, 0])
