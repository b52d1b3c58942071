"""The generated data set of a rare class has the properties that the benchmark states."""

import numpy as np
from lannunet_segmentation import read_case, read_dataset
from PIL import Image

from benchmarks import rare_class


def test_the_rare_class_has_under_a_thousandth_of_the_pixels(tmp_path):
    share = rare_class.write_dataset(tmp_path / "Dataset502_RareDiscs")
    dataset = read_dataset(tmp_path / "Dataset502_RareDiscs")
    labels = [read_case(case, dataset).label for case in dataset.training]
    assert len(labels) == rare_class.TRAINING
    assert share == np.mean([(label == 2).mean() for label in labels])
    assert 0 < share < 0.0001
    assert dataset.class_names[2] == "disc"
    assert all((read_case(case, dataset).label == 2).any() for case in dataset.testing)


def test_the_same_seed_draws_the_same_images(tmp_path):
    for name in ("one", "two"):
        rare_class.write_dataset(tmp_path / name)
    for path in (tmp_path / "one").rglob("*.png"):
        other = Image.open(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(other))
