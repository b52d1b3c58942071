"""An exported graph prepares an image in the same way as the data pipeline."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import (
    ZSCORES,
    PreparingInGraph,
    Window,
    normalising_in_graph,
    prepare_image,
)

from lannunet_core import UserError

WINDOW = Window(-50, 120, 20, 30)
OURS = {
    "zscore": None,
    "percentile": ZSCORES["percentile"],
    "ct": WINDOW,
    "none": lambda channel: channel,
}
side = st.integers(1, 40)


def drawn(rng, shape):
    """Noise with a padded part, on which content depends, and a flat channel."""
    pixels = rng.normal(20, 60, shape).astype(np.float32)
    pixels[0, ..., : shape[-1] // 3] = -100
    pixels[-1] = 7
    return pixels


def seen(pixels, size, resize, name, spacing, shape, unknown=None):
    count = len(pixels)
    normalising = normalising_in_graph("key", [name] * count, [WINDOW] * count)
    prepare = PreparingInGraph(size, resize, normalising, shape, unknown)
    known = None if shape is None else torch.tensor(spacing or (0.0,) * len(shape), dtype=torch.float64)
    image, affine, found = prepare(torch.from_numpy(pixels), known)
    assert found.tolist() == list(pixels.shape[:0:-1])
    return image[0].numpy(), affine.numpy()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(side, st.integers(4, 24), st.floats(0.2, 3)), min_size=2, max_size=3),
    st.sampled_from(["letterbox", "stretch"]),
    st.sampled_from(sorted(OURS)),
    st.sampled_from(["stated", "assumed", "unknown"]),
)
def test_it_resizes_and_normalises_as_the_model_does(axes, resize, name, known):
    original, size, spacing = (tuple(one) for one in zip(*axes, strict=True))
    pixels = drawn(np.random.default_rng(0), (2, *original[::-1]))
    shape = (1.0, 2.0, 1.5)[: len(size)]
    pixel = tuple(a / b for a, b in zip(spacing, shape, strict=True)) if known != "unknown" else None
    try:
        wanted, matrix = prepare_image(pixels, size, resize, [OURS[name]] * 2, pixel)
    except UserError:  # it vanishes
        return
    stated, assumed = (spacing if known == one else None for one in ("stated", "assumed"))
    image, affine = seen(pixels, size, resize, name, stated, shape, assumed)
    np.testing.assert_allclose(affine, matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(image, wanted, atol=2e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("name", OURS)
def test_an_image_that_keeps_its_size_is_normalised(name):
    pixels = drawn(np.random.default_rng(1), (2, 20, 30))
    image, affine = seen(pixels, None, "letterbox", name, None, None)
    wanted, _ = prepare_image(pixels, None, "letterbox", [OURS[name]] * 2)
    np.testing.assert_allclose(image, wanted, atol=1e-4)
    np.testing.assert_array_equal(affine, np.eye(3))


def test_what_a_graph_cannot_do_is_refused():
    with pytest.raises(UserError, match=r"nonzero cannot be exported\. Choose one of zscore"):
        normalising_in_graph("sampler.normalisation", ["zscore", "nonzero"], [None, None])
