import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from lannunet_segmentation.data.runs import Runs

SHAPES = arrays.array_shapes(min_dims=2, max_dims=3, max_side=7)
MASKS = SHAPES.flatmap(lambda shape: arrays.arrays(bool, shape))


def every(runs):
    return [tuple(runs.voxel(i)) for i in range(len(runs))]


@given(MASKS)
def test_the_voxels_are_those_of_the_mask_in_its_order(mask):
    assert every(Runs.of(mask)) == [tuple(place[::-1]) for place in np.argwhere(mask)]


@given(SHAPES.flatmap(lambda shape: arrays.arrays(np.int16, shape, elements=st.integers(-1, 4))))
def test_the_runs_of_each_value_are_those_of_its_mask(values):
    each = Runs.of_each(values)
    assert sorted(each) == np.unique(values).tolist()
    for value, runs in each.items():
        assert every(runs) == every(Runs.of(values == value))


def test_saved_runs_are_the_same_and_read_from_the_file(tmp_path):
    mask = np.random.default_rng(0).random((20, 30, 40)) < 0.3
    runs = Runs.of(mask)
    runs.save(tmp_path / "runs.npy")
    opened = Runs.open(tmp_path / "runs.npy", mask.shape[::-1])
    assert isinstance(opened.starts.base.base, np.memmap) or isinstance(opened.starts.base, np.memmap)
    assert every(opened) == every(runs)
    assert len(opened) == mask.sum()
    assert list(tmp_path.iterdir()) == [tmp_path / "runs.npy"]


def test_no_voxels_can_be_saved_too(tmp_path):
    Runs.of(np.zeros((3, 4), bool)).save(tmp_path / "runs.npy")
    assert len(Runs.open(tmp_path / "runs.npy", (4, 3))) == 0


def test_slices_are_single_runs():
    """Annotations of whole slices need little memory, regardless of the number of voxels."""
    mask = np.zeros((40, 100, 100), bool)
    mask[[3, 4, 20]] = True
    assert len(Runs.of(mask).starts) == 2
    assert len(Runs.of(mask)) == 30_000


def test_each_voxel_is_drawn_as_often():
    mask = np.zeros((3, 5, 6), bool)
    mask[0, 0, :5] = mask[1, 2, 2] = mask[2, 4, 4:] = True
    runs, rng = Runs.of(mask), np.random.default_rng(0)
    drawn, counts = np.unique([runs.draw(rng) for _ in range(4000)], axis=0, return_counts=True)
    assert sorted(map(tuple, drawn)) == sorted(every(runs))
    chi_square = ((counts - 500) ** 2 / 500).sum()  # of 7 degrees of freedom: 99.9 % lie below 24.3
    assert chi_square < 24.3
