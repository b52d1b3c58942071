from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.maps.labels import segmentation_labels
from lannunet_segmentation.maps.loss import CrossEntropyDice, RegionCrossEntropyDice
from lannunet_segmentation.types import IGNORE
from scipy.special import log_softmax

CLASSES = 4
CASES = [((12, 10), [(12, 10)]), ((12, 10), [(12, 10), (6, 5), (3, 3)]), ((8, 6, 4), [(8, 6, 4), (4, 3, 4)])]
WEIGHTS = torch.tensor([0.3, 1.0, 4.0, 0.7])


def case(size, level_sizes, seed=0, annotated=0.7, weighted=True, spread=2.0):
    """Random logits that need a gradient, and the labels of random maps."""
    rng = np.random.default_rng(seed)
    shape = (2, *size[::-1])
    label = rng.integers(0, CLASSES, shape)
    label[rng.random(shape) > annotated] = IGNORE
    weight = torch.as_tensor(rng.random(shape) * (rng.random(shape) < 0.8)) if weighted else None
    logits = [
        torch.as_tensor(spread * rng.normal(size=(2, CLASSES, *level[::-1])), dtype=torch.float32)
        for level in level_sizes
    ]
    labels = segmentation_labels(torch.as_tensor(label), level_sizes, weight)
    return [one.requires_grad_() for one in logits], labels


def run(loss, logits, labels):
    """Both terms, and the gradient of their sum on each level."""
    terms = loss(logits, labels)
    assert list(terms) == ["cross_entropy", "dice"]
    assert all(term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())
    gradients = torch.autograd.grad(sum(terms.values()), logits)
    return [term.detach() for term in terms.values()], gradients


def numpy_terms(logits, labels, classes=None):
    """The terms in float64, from the formulas, using only the voxels that count."""
    classes = np.ones(CLASSES) if classes is None else np.asarray(classes, np.float64)
    cross_entropy = dice = shares = 0.0
    for level, (output, target, weight) in enumerate(
        zip(logits, labels["segmentation"], labels["weight"], strict=True)
    ):
        counted = (target.numpy() != IGNORE) & (weight.numpy() > 0)
        log_p = log_softmax(np.moveaxis(output.detach().double().numpy(), 1, -1)[counted], axis=-1)
        y, w = target.numpy()[counted], weight.double().numpy()[counted]
        share = 0.5**level
        shares += share
        if not counted.any():
            continue
        cross_entropy += share * np.average(-log_p[np.arange(len(y)), y], weights=w * classes[y])
        smooth = CrossEntropyDice.SMOOTH * w.mean()
        scores, counting = [], []
        for k in np.unique(y[y > 0]):
            common = (w * np.exp(log_p[:, k]))[y == k].sum()
            total = (w * np.exp(log_p[:, k])).sum() + w[y == k].sum()
            scores.append((2 * common + smooth) / (total + smooth))
            counting.append(classes[k])
        if scores:
            dice += share * np.average(1 - np.array(scores), weights=counting)
    return [cross_entropy / shares, dice / shares]


def differentiable_reference(logits, labels, classes):
    """The formulas again, in float64 with one-hot labels, for the gradients."""
    total = shares = 0.0
    for level, (output, target, weight) in enumerate(
        zip(logits, labels["segmentation"], labels["weight"], strict=True)
    ):
        counted = (target != IGNORE) & (weight > 0)
        log_p = output.movedim(1, -1)[counted].log_softmax(-1)
        hot = torch.nn.functional.one_hot(target[counted], CLASSES).double()
        w = weight[counted].double()[:, None]
        w = w / w.mean()
        c = classes.double()
        cross_entropy = -(w * c * hot * log_p).sum() / (w * c * hot).sum()
        p = log_p.exp()
        smooth = CrossEntropyDice.SMOOTH
        score = (2 * (w * p * hot).sum(0) + smooth) / ((w * p).sum(0) + (w * hot).sum(0) + smooth)
        dice = (c * (1 - score))[1:].sum() / c[1:].sum()
        total, shares = total + 0.5**level * (cross_entropy + dice), shares + 0.5**level
    return total / shares


def test_a_class_without_annotated_voxels_has_no_part_in_dice():
    logits = torch.randn(1, CLASSES, 6, 6, generator=torch.Generator().manual_seed(0))
    target = torch.ones(1, 6, 6, dtype=torch.long)
    target[0, 0] = 2
    weight = torch.ones(1, 6, 6)
    both = CrossEntropyDice()(logits, {"segmentation": [target], "weight": [weight]})["dice"]
    weight[0, 0] = 0  # the only row of class 2
    one = CrossEntropyDice()(logits, {"segmentation": [target], "weight": [weight]})["dice"]
    p = logits.softmax(1)[0, 1, 1:].double()
    assert one.item() == pytest.approx(1 - (2 * p.sum() / (p.sum() + p.numel())).item(), abs=1e-5)
    assert both.item() != pytest.approx(one.item(), abs=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [None, WEIGHTS])
@pytest.mark.parametrize(("size", "level_sizes"), CASES)
def test_terms_against_float64(size, level_sizes, classes, weighted):
    logits, labels = case(size, level_sizes, weighted=weighted)
    found, _ = run(CrossEntropyDice(classes), logits, labels)
    np.testing.assert_allclose(
        [float(term) for term in found], numpy_terms(logits, labels, classes), rtol=1e-5
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [torch.ones(CLASSES), WEIGHTS])
@pytest.mark.parametrize(("size", "level_sizes"), CASES)
def test_gradients_against_float64(size, level_sizes, classes, weighted):
    logits, labels = case(size, level_sizes, weighted=weighted)
    _, found = run(CrossEntropyDice(classes), logits, labels)
    exact = [one.detach().double().requires_grad_() for one in logits]
    expected = torch.autograd.grad(differentiable_reference(exact, labels, classes), exact)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("classes", [None, WEIGHTS])
@pytest.mark.parametrize(("size", "level_sizes"), CASES)
@pytest.mark.parametrize("constant", [0.1, 1.0, 7.0])
def test_a_common_factor_of_the_weights_changes_nothing(size, level_sizes, constant, classes):
    rng = np.random.default_rng(0)
    label = torch.as_tensor(rng.integers(IGNORE, CLASSES, (2, *size[::-1])))
    logits = case(size, level_sizes)[0]
    loss = CrossEntropyDice(classes)
    terms, gradients = run(loss, logits, segmentation_labels(label, level_sizes))
    constants = torch.full(label.shape, constant)
    again, same = run(loss, logits, segmentation_labels(label, level_sizes, constants))
    torch.testing.assert_close(again, terms, rtol=1e-6, atol=0)
    torch.testing.assert_close(same, gradients, rtol=1e-4, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.5]), st.booleans())
def test_what_stands_where_nothing_counts_has_no_part(shapes, seed, annotated, weighted):
    """Bit-equal loss and gradient, whatever label stands at weight 0, and no gradient there."""
    logits, labels = case(*shapes, seed, annotated, weighted)
    loss = CrossEntropyDice(WEIGHTS)
    terms, gradients = run(loss, logits, labels)
    rng = np.random.default_rng(seed)
    other = [
        torch.where(weight > 0, target, torch.as_tensor(rng.integers(IGNORE, CLASSES, target.shape)))
        for target, weight in zip(labels["segmentation"], labels["weight"], strict=True)
    ]
    again, same = run(loss, logits, {**labels, "segmentation": other})
    assert all(torch.equal(a, b) for a, b in zip([*terms, *gradients], [*again, *same], strict=True))
    for gradient, weight in zip(gradients, labels["weight"], strict=True):
        assert gradient.isfinite().all()
        assert not gradient.movedim(1, -1)[weight == 0].any()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_weights_of_ignored_voxels_have_no_part(weighted):
    logits, labels = case(*CASES[1], weighted=weighted)
    wild = [
        torch.where(target == IGNORE, 9.0, weight)
        for target, weight in zip(labels["segmentation"], labels["weight"], strict=True)
    ]
    terms, gradients = run(CrossEntropyDice(), logits, labels)
    again, same = run(CrossEntropyDice(), logits, {**labels, "weight": wild})
    assert all(torch.equal(a, b) for a, b in zip([*terms, *gradients], [*again, *same], strict=True))


def test_labels_without_weights_count_alike():
    logits, labels = case(*CASES[1], weighted=False)
    terms, gradients = run(CrossEntropyDice(), logits, labels)
    again, same = run(CrossEntropyDice(), logits, {"segmentation": labels["segmentation"]})
    assert all(torch.equal(a, b) for a, b in zip([*terms, *gradients], [*again, *same], strict=True))


@pytest.mark.parametrize("classes", [None, WEIGHTS])
def test_nothing_annotated_teaches_nothing(classes):
    logits, labels = case(*CASES[2], annotated=0.0)
    terms, gradients = run(CrossEntropyDice(classes), logits, labels)
    assert [float(term) for term in terms] == [0, 0]
    assert not any(gradient.any() for gradient in gradients)


def test_one_sample_without_annotations_leaves_the_loss_to_the_other():
    logits, labels = case(*CASES[0])
    labels["segmentation"][0][1] = IGNORE
    terms, gradients = run(CrossEntropyDice(), logits, labels)
    alone = [logits[0][:1].detach().requires_grad_()]
    first = {name: [maps[0][:1]] for name, maps in labels.items()}
    expected, gradient = run(CrossEntropyDice(), alone, first)
    torch.testing.assert_close(terms, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[0][:1], gradient[0], rtol=1e-5, atol=1e-9)


def test_a_perfect_prediction_has_no_loss():
    _, labels = case(*CASES[1])
    logits = [
        (50 * torch.nn.functional.one_hot(target.clamp(min=0), CLASSES).float())
        .movedim(-1, 1)
        .requires_grad_()
        for target in labels["segmentation"]
    ]
    terms, _ = run(CrossEntropyDice(), logits, labels)
    np.testing.assert_allclose([float(term) for term in terms], 0, atol=1e-6)


def test_factors_and_a_single_tensor():
    logits, labels = case(*CASES[0])
    plain = CrossEntropyDice()(logits[0], labels)
    scaled = CrossEntropyDice(ce_factor=0.5, dice_factor=3.0)(logits[0], labels)
    assert scaled["cross_entropy"].item() == pytest.approx(0.5 * plain["cross_entropy"].item())
    assert scaled["dice"].item() == pytest.approx(3 * plain["dice"].item())


def test_half_precision_outputs_are_summed_in_single():
    logits, labels = case((64, 64, 48), [(64, 64, 48)])
    half = [one.detach().bfloat16() for one in logits]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = CrossEntropyDice()(half, labels)
    expected = numpy_terms([one.float() for one in half], labels)
    np.testing.assert_allclose([float(term) for term in found.values()], expected, rtol=1e-5)


def test_class_weights_move_with_the_loss_and_are_not_in_its_state():
    loss = CrossEntropyDice(WEIGHTS)
    assert next(loss.buffers()) is loss.class_weights
    assert not loss.state_dict()


@pytest.mark.parametrize(("size", "level_sizes"), CASES)
def test_the_activation_is_the_probabilities_of_the_finest_level(size, level_sizes):
    logits = case(size, level_sizes)[0]
    maps = CrossEntropyDice().activation([one.bfloat16() for one in logits])
    assert maps.shape == logits[0].shape
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
    assert CrossEntropyDice().activation(logits[0]).argmax(1).equal(logits[0].argmax(1))


# --- regions, and classes that a case lacks the annotation of --------------------------

REGIONS = ((1, 2, 3), (2, 3), (3,))


def partly(outputs):
    """(B, outputs): the first case has the first class alone, the second all."""
    annotated = torch.ones(2, outputs, dtype=torch.bool)
    annotated[0, 2:] = False
    return annotated


def region_terms(logits, labels, annotated):
    """The terms of regions in float64, voxel by voxel, from the formulas."""
    cross_entropy = dice = shares = 0.0
    for level, (output, target, weight) in enumerate(
        zip(logits, labels["segmentation"], labels["weight"], strict=True)
    ):
        z, y = output.detach().double().numpy(), target.numpy()
        w = np.where(y != IGNORE, weight.double().numpy(), 0)
        w = w / w[w > 0].mean()
        share, entropies, counts, scores = 0.5**level, 0.0, 0.0, []
        for r, values in enumerate(REGIONS):
            known = w * annotated[:, r].numpy().reshape(-1, *[1] * (y.ndim - 1))
            hit, p = np.isin(y, values), 1 / (1 + np.exp(-z[:, r]))
            entropies -= (known * np.log(np.where(hit, p, 1 - p))).sum()
            counts += known.sum()
            if (known * hit).any():
                common, total = (known * p * hit).sum(), (known * p).sum() + (known * hit).sum()
                scores.append((2 * common + CrossEntropyDice.SMOOTH) / (total + CrossEntropyDice.SMOOTH))
        cross_entropy += share * entropies / counts
        dice += share * np.mean(1 - np.array(scores))
        shares += share
    return [cross_entropy / shares, dice / shares]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize(("size", "level_sizes"), CASES)
def test_regions_against_float64(size, level_sizes, lacking, weighted):
    logits, labels = case(size, level_sizes, weighted=weighted)
    logits = [one.detach()[:, 1:].clone().requires_grad_() for one in logits]
    annotated = partly(3) if lacking else torch.ones(2, 3, dtype=torch.bool)
    given = {**labels, "annotated": annotated} if lacking else labels
    found, _ = run(RegionCrossEntropyDice(REGIONS), logits, given)
    np.testing.assert_allclose(
        [float(term) for term in found], region_terms(logits, labels, annotated), rtol=1e-5
    )


def test_a_region_that_a_case_lacks_has_no_gradient_there():
    logits, labels = case(*CASES[0])
    logits = [one.detach()[:, 1:].clone().requires_grad_() for one in logits]
    _, (gradient,) = run(RegionCrossEntropyDice(REGIONS), logits, {**labels, "annotated": partly(3)})
    assert not gradient[0, 2].any() and gradient[0, :2].any() and gradient[1, 2].any()


def test_the_activation_of_regions_is_a_sigmoid_each():
    maps = RegionCrossEntropyDice(REGIONS).activation(case(*CASES[0])[0][0][:, 1:].bfloat16())
    assert maps.dtype == torch.float32 and (maps.sum(1) > 1.01).any()


def marginal_reference(logits, labels, annotated):
    """Cross-entropy and Dice in float64 of a case's own merged classes, one case at a time."""
    cross_entropy = dice = shares = 0.0
    for level, (output, target, weight) in enumerate(
        zip(logits, labels["segmentation"], labels["weight"], strict=True)
    ):
        p = np.exp(log_softmax(output.detach().double().numpy(), axis=1))
        y = target.numpy()
        w = np.where(y != IGNORE, weight.double().numpy(), 0)
        w = w / w[w > 0].mean()
        share, total = 0.5**level, 0.0
        for b in range(len(y)):
            lacking = [k for k in range(1, CLASSES) if not annotated[b, k]]
            merged = p[b, 0] + p[b, lacking].sum(0)
            true = np.take_along_axis(p[b], y[b].clip(0)[None], 0)[0]
            total -= (w[b] * np.log(np.where(y[b] == 0, merged, true))).sum()
        cross_entropy += share * total / w.sum()
        scores = []
        for k in range(1, CLASSES):
            known = w * annotated[:, k].numpy().reshape(-1, *[1] * (y.ndim - 1))
            if (known * (y == k)).any():
                common, both = (known * p[:, k] * (y == k)).sum(), (known * (p[:, k] + (y == k))).sum()
                scores.append((2 * common + CrossEntropyDice.SMOOTH) / (both + CrossEntropyDice.SMOOTH))
        dice += share * np.mean(1 - np.array(scores))
        shares += share
    return [cross_entropy / shares, dice / shares]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("size", "level_sizes"), CASES)
def test_classes_that_a_case_lacks_are_merged_into_its_background(size, level_sizes, weighted):
    logits, labels = case(size, level_sizes, weighted=weighted)
    annotated = partly(CLASSES)
    for one in labels["segmentation"]:
        one[0][one[0] > 1] = 0  # classes without annotation are background in the file
    found, gradients = run(CrossEntropyDice(), logits, {**labels, "annotated": annotated})
    np.testing.assert_allclose(
        [float(term) for term in found], marginal_reference(logits, labels, annotated), rtol=1e-5
    )
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_where_all_is_annotated_the_loss_is_the_plain_one():
    logits, labels = case(*CASES[1])
    plain, gradients = run(CrossEntropyDice(), logits, labels)
    every = {**labels, "annotated": torch.ones(2, CLASSES, dtype=torch.bool)}
    again, same = run(CrossEntropyDice(), logits, every)
    torch.testing.assert_close(again, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(same, gradients, rtol=1e-5, atol=1e-8)
