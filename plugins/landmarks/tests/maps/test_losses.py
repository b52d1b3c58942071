import math

import numpy as np
import pytest
import torch
from lannunet_images import level_scale
from lannunet_landmarks.maps.labels import gaussian_heatmaps, level_sigmas
from lannunet_landmarks.maps.losses import LOSSES
from scipy import ndimage
from scipy.special import expit, logit, logsumexp, xlogy

from lannunet_core.hookspecs import State

PEAK, SIGMA = 100.0, 2.0
NAMES = list(LOSSES)
CASES = [((24, 18), [(24, 18), (12, 9)]), ((12, 10, 8), [(12, 10, 8), (6, 5, 4), (3, 3, 2)])]
V, OUT, A, U = State.VISIBLE, State.OUTSIDE, State.ABSENT, State.UNLABELLED


def batch(size, levels, states, seed=0, spread=3.0):
    """Random outputs that need a gradient, and the labels of random landmarks in `states` (B, N)."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.tensor(states)
    points = torch.rand(*states.shape, len(size), generator=generator) * (torch.tensor(size) - 1)
    points[states >= State.ABSENT] = math.nan
    sigmas = level_sigmas(SIGMA, [level_scale(size, s)[0] for s in levels])
    heatmaps = gaussian_heatmaps(points, states, sigmas, size, levels, PEAK)
    outputs = [(spread * torch.randn(h.shape, generator=generator)).requires_grad_() for h in heatmaps]
    return outputs, {"state": states, "heatmaps": heatmaps}


def total(name, outputs, labels):
    size = labels["heatmaps"][0].ndim - 2
    terms = LOSSES[name](PEAK, SIGMA, size)(outputs, labels)
    assert all(term.ndim == 0 for term in terms.values())
    return torch.stack(list(terms.values())).sum()


def adaptive_wing(maps, heatmap, omega=14, theta=0.5, epsilon=1, alpha=2.1):
    """Equations 3, 4 and 6 of Wang et al. 2019 as they are printed there, of maps in 0 … 1."""
    maps, y = maps / PEAK, heatmap / PEAK
    error, power = np.abs(y - maps), alpha - y
    a = omega / (1 + (theta / epsilon) ** power) * power * (theta / epsilon) ** (power - 1) / epsilon
    c = theta * a - omega * np.log(1 + (theta / epsilon) ** power)
    value = np.where(error < theta, omega * np.log(1 + (error / epsilon) ** power), a * error - c)
    return (value * (1 + 10 * (ndimage.grey_dilation(y, (3,) * y.ndim) >= 0.2))).mean()


def hardest_tenth(output, y):
    p = expit(output + logit(0.01))
    entropy = -(xlogy(y, p) + xlogy(1 - y, 1 - p))
    excess = entropy + xlogy(y, y) + xlogy(1 - y, 1 - y)
    return entropy[np.argsort(excess)[-math.ceil(0.1 * len(y)) :]].mean()


def reference(name, outputs, labels, weight=None):
    """The loss in float64, one landmark at a time, straight from its definition."""
    states = labels["state"].numpy()
    value, shares = 0.0, 0.0
    for level, (output, heatmap) in enumerate(zip(outputs, labels["heatmaps"], strict=True)):
        terms, weights = [], []
        for b, n in np.ndindex(*states.shape):
            if states[b, n] == U:
                continue
            out = output[b, n].detach().double().numpy().ravel()
            hm = heatmap[b, n].double().numpy().ravel()
            match name:
                case "mse":
                    terms.append(((out - hm) ** 2).mean())
                case "kl":
                    log_p = np.append(out, 0.0) - logsumexp(np.append(out, 0.0))  # the last is "not here"
                    target = np.append(hm / hm.sum(), 0.0) if states[b, n] == V else np.append(0 * hm, 1.0)
                    terms.append(-(target * log_p).sum())
                case "awl":
                    terms.append(
                        adaptive_wing(out.reshape(output[b, n].shape), hm.reshape(heatmap[b, n].shape))
                    )
                case "bce_topk":
                    terms.append(hardest_tenth(out, hm / PEAK))
            weights.append(1.0 if weight is None else weight[b, n])
        value += 0.5**level * np.average(terms, weights=weights)
        shares += 0.5**level
    return value / shares


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "levels"), CASES)
def test_against_the_definition_in_float64(name, size, levels):
    outputs, labels = batch(size, levels, [[V, OUT, U, V], [A, V, V, U]])
    expected = reference(name, outputs, labels)
    assert total(name, outputs, labels).item() == pytest.approx(expected, rel=1e-5)
    weight = torch.tensor([[0.5, 2.0, 1.0, 0.0], [1.0, 3.0, 0.25, 1.0]])
    weighted = total(name, outputs, {**labels, "weight": weight}).item()
    assert weighted == pytest.approx(reference(name, outputs, labels, weight.numpy()), rel=1e-5)
    assert abs(weighted - expected) > 1e-4 * expected
    rescaled = total(name, outputs, {**labels, "weight": 7 * weight}).item()
    assert rescaled == pytest.approx(weighted, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_landmarks_contribute_nothing(name):
    outputs, labels = batch(*CASES[0], [[V, U, OUT]])
    with_unlabelled = total(name, outputs, labels)
    with_unlabelled.backward()
    for output in outputs:
        assert torch.all(output.grad[0, 1] == 0)
        assert torch.any(output.grad[0, 0] != 0)
        assert torch.any(output.grad[0, 2] != 0)  # known to be elsewhere: it has a gradient
    rest = [0, 2]
    without = {"state": labels["state"][:, rest], "heatmaps": [h[:, rest] for h in labels["heatmaps"]]}
    assert total(name, [o[:, rest] for o in outputs], without).item() == pytest.approx(with_unlabelled.item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["state", "weight"])
def test_a_batch_without_labels_is_exactly_zero(name, how):
    outputs, labels = batch(*CASES[0], [[U, U]] if how == "state" else [[V, OUT]])
    if how == "weight":
        labels["weight"] = torch.zeros(1, 2)
    value = total(name, outputs, labels)
    value.backward()
    assert value.item() == 0
    assert all(torch.all(output.grad == 0) for output in outputs)


def test_kl_gradient_is_softmax_minus_target():
    outputs, labels = batch((24, 18), [(24, 18)], [[V, A]])
    total("kl", outputs, labels).backward()
    logits = outputs[0].detach()[0].flatten(1)
    probabilities = torch.cat([logits, torch.zeros(2, 1)], 1).softmax(1)[:, :-1]
    target = labels["heatmaps"][0][0].flatten(1)
    target = target / target.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(
        outputs[0].grad[0].flatten(1), (probabilities - target) / 2, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_tensor_is_a_list_of_one(name):
    outputs, labels = batch((24, 18), [(24, 18)], [[V, OUT]])
    assert total(name, outputs[0], labels) == total(name, outputs, labels)
    loss = LOSSES[name](PEAK, SIGMA, 2)
    torch.testing.assert_close(loss.activation(outputs[0]), loss.activation(outputs))


@pytest.mark.parametrize("size", [(40, 36), (20, 18, 16)])
@pytest.mark.parametrize("name", NAMES)
def test_activation_of_a_perfect_output_peaks_at_one(name, size):
    centre = torch.tensor([[[s // 2 for s in size]]], dtype=torch.float32)
    heatmap = gaussian_heatmaps(
        centre, torch.zeros(1, 1, dtype=torch.long), torch.tensor([[SIGMA]]), size, [size], PEAK
    )[0]
    perfect = {
        "kl": heatmap.clamp(min=1e-30).log() + 60,
        "mse": heatmap,
        "awl": heatmap,
        "bce_topk": torch.from_numpy(logit((heatmap.double() / PEAK).numpy()) - logit(0.01)),
    }
    output = perfect[name]
    activated = LOSSES[name](PEAK, SIGMA, len(size)).activation([output, output[..., ::2]])
    torch.testing.assert_close(activated, heatmap / PEAK, atol=2e-4, rtol=0)


def test_kl_activation_of_not_here_is_nothing():
    logits = torch.full((1, 1, 64, 64), -30.0)
    assert LOSSES["kl"](PEAK, SIGMA, 2).activation(logits).max() < 1e-10
    _, labels = batch((64, 64), [(64, 64)], [[A]])
    assert total("kl", logits, labels) < 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [3e4, 1.0, 0.0])
def test_large_outputs_none_at_all_and_half_precision(name, dtype, scale):
    outputs, labels = batch((24, 18), [(24, 18)], [[V, OUT]])
    output = (torch.sign(outputs[0].detach()) * scale).to(dtype).requires_grad_()
    value = total(name, output, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.all(torch.isfinite(output.grad))
    activated = LOSSES[name](PEAK, SIGMA, 2).activation(output)
    assert activated.dtype == torch.float32
    assert torch.all(torch.isfinite(activated))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "levels"), CASES)
def test_gradients_are_those_of_finite_differences(name, size, levels):
    """Gradients in float64, also with respect to labels, through which a learned sigma affects the loss."""
    outputs, labels = batch(size, levels, [[V, OUT]], spread=0.3)
    maps = [heatmap.double().requires_grad_() for heatmap in labels["heatmaps"]]
    outputs = [output.detach().double().requires_grad_() for output in outputs]
    loss = LOSSES[name](PEAK, SIGMA, len(size))
    terms = [(loss.term, output, heatmap) for output, heatmap in zip(outputs, maps, strict=True)]
    rng = np.random.default_rng(0)
    for term, output, heatmap in terms:
        towards = [torch.from_numpy(rng.standard_normal(t.shape)) for t in (output, heatmap)]
        towards[1][heatmap < 1e-3 * PEAK] = (
            0  # the slope of the logarithm differs from a finite difference there
        )
        gradients = torch.autograd.grad(term(output, heatmap).sum(), (output, heatmap))
        slope = sum((gradient * way).sum() for gradient, way in zip(gradients, towards, strict=True)).item()
        with torch.no_grad():
            ends = [term(output + h * towards[0], heatmap + h * towards[1]).sum() for h in (1e-6, -1e-6)]
        assert slope == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), rel=1e-4)


@pytest.mark.parametrize(("name", "of_outputs"), [("awl", PEAK), ("bce_topk", 1.0)])
def test_the_peak_of_the_labels_is_only_a_unit(name, of_outputs):
    outputs, labels = batch(*CASES[0], [[V, OUT, A, U]])
    with_peak = LOSSES[name](PEAK, SIGMA, 2)(outputs, labels)[name]
    scaled = {**labels, "heatmaps": [heatmap / PEAK for heatmap in labels["heatmaps"]]}
    outputs = [output / of_outputs for output in outputs]
    torch.testing.assert_close(LOSSES[name](1.0, SIGMA, 2)(outputs, scaled)[name], with_peak)


def test_awl_is_smooth_where_its_branches_meet_and_0_where_all_is_right():
    _, labels = batch((24, 18), [(24, 18)], [[V]])
    target = labels["heatmaps"][0].double()
    loss = LOSSES["awl"](PEAK, SIGMA, 2)
    slopes = []
    for error in (0.5 - 1e-6, 0.5 + 1e-6):
        output = (target - PEAK * error).requires_grad_()
        slopes.append(torch.autograd.grad(loss.term(output, target).sum(), output)[0])
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-9)
    right = target.clone().requires_grad_()
    value = loss.term(right, target).sum()
    assert value == 0
    assert not torch.autograd.grad(value, right)[0].any()


def test_bce_topk_has_a_gradient_at_the_hardest_tenth_alone():
    output = torch.full((1, 1, 20, 20), -2.0)
    wrong = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:30]
    output.view(-1)[wrong] = 4.0
    output.requires_grad_()
    labels = {"state": torch.tensor([[A]]), "heatmaps": [torch.zeros(1, 1, 20, 20)]}
    total("bce_topk", output, labels).backward()
    taught = output.grad.view(-1) != 0
    assert taught.sum() == 40
    assert taught[wrong].all()


def test_bce_topk_leaves_what_is_learned_to_perfection():
    """Between 0 and 1 cross-entropy cannot be 0; that alone does not make a pixel hard."""
    _, labels = batch((24, 18), [(24, 18)], [[V]])
    target = (labels["heatmaps"][0].double() / PEAK).clamp(min=1e-9)
    output = target.logit() - logit(0.01)
    assert (
        (target > 0.1) & (target < 0.9)
    ).sum() > 44  # more than the tenth, and all of higher cross-entropy
    background = target.view(-1).argsort()[:18]
    output.view(-1)[background] = logit(0.2) - logit(0.01)
    output.requires_grad_()
    total("bce_topk", output, labels).backward()
    assert torch.all(output.grad.view(-1)[background] > 0.1 / 44)
