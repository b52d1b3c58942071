import numpy as np
from hypothesis import given, settings as effort, strategies as st
from lannunet_segmentation.data.regrid import resample, resample_label, resample_nearest
from lannunet_segmentation.types import IGNORE


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    seed=st.integers(0, 99),
)
@effort(max_examples=60, deadline=None)
def test_labels_are_the_class_of_the_highest_share(shape, size, seed):
    """Against all classes at once, over the whole grid."""
    label = np.random.default_rng(seed).integers(0, 4, shape).astype(np.int16)
    scores = np.stack([resample((label == value).astype(np.float32), size) for value in range(4)])
    found = resample_label(label, size)
    assert found.shape == size[::-1]
    # Where two classes are as good as equal, either is right.
    chosen = np.take_along_axis(scores, found[None].astype(np.int64), 0)[0]
    np.testing.assert_allclose(chosen, scores.max(0), atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.02, 0.3, 0.9]),
)
@effort(max_examples=60, deadline=None)
def test_what_nobody_annotated_stays_so_and_takes_no_part(shape, size, seed, share):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(shape) < share, rng.integers(0, 3, shape), IGNORE).astype(np.int16)
    found = resample_label(label, size)
    assert set(np.unique(found)) <= {IGNORE, *np.unique(label)}
    # Voxel by voxel, with edges: a new voxel's middle in an old one, or an old one's middle in a new one.
    expected = np.zeros(size[::-1], bool)
    for new in np.ndindex(size[::-1]):
        old = [
            [
                o
                for o in range(a)
                if o * b <= (n + 0.5) * a < (o + 1) * b or n * a <= (o + 0.5) * b < (n + 1) * a
            ]
            for n, a, b in zip(new, shape, size[::-1], strict=True)
        ]
        expected[new] = (label[np.ix_(*old)] != IGNORE).any()
    np.testing.assert_array_equal(found != IGNORE, expected)


def test_a_single_annotated_voxel_survives_a_much_coarser_grid():
    label = np.full((30, 31, 32), IGNORE, np.int16)
    label[7, 11, 23] = 2
    found = resample_label(label, (5, 6, 7))
    assert (found == 2).sum() == (found != IGNORE).sum() == 1


def test_labels_of_the_same_grid_stay_as_they_are():
    label = np.random.default_rng(0).integers(-1, 5, (4, 5, 6)).astype(np.int16)
    np.testing.assert_array_equal(resample_label(label, (6, 5, 4)), label)


def test_enlarged_labels_keep_their_shape():
    """A ball, at a third of the spacing, is a ball: nearest-neighbour labels would be stairs."""

    def ball(side):
        grid = (np.stack(np.indices((side,) * 3), -1) + 0.5) / side - 0.5
        return (np.linalg.norm(grid, axis=-1) < 0.3).astype(np.int16)

    smooth, stairs = resample_label(ball(20), (60,) * 3), resample_nearest(ball(20), (60,) * 3)
    assert (smooth != ball(60)).sum() < 0.7 * (stairs != ball(60)).sum()


@given(old=st.integers(1, 20), new=st.integers(1, 20))
def test_nearest_takes_the_voxel_that_holds_the_middle(old, new):
    found = resample_nearest(np.arange(old)[:, None], (1, new))[:, 0]
    middles = (np.arange(new) + 0.5) * old / new - 0.5
    assert (np.abs(found - middles) <= 0.5 + 1e-9).all()
