"""The demo's images: their landmarks are at the stated positions, and simple methods do not find them."""

import json

import numpy as np
import pytest
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.demo.hands import (
    LANDMARKS,
    SPLITS,
    baselines,
    draw_hand,
    percent_of_side,
    write_demo_dataset,
)
from lannunet_landmarks.evaluation.summary import radial_errors
from lannunet_landmarks.schema import DatasetConfig
from PIL import Image
from scipy.ndimage import map_coordinates


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    return write_demo_dataset(tmp_path_factory.mktemp("demo") / "new" / "folder")


@pytest.fixture(scope="module")
def dataset(annotations):
    return load_dataset(DatasetConfig(root=annotations.parent, src_targets=annotations), 0)


def test_it_is_a_data_set_of_ours(dataset):
    assert {split: len(samples) for split, samples in dataset.samples.items()} == SPLITS
    assert dataset.landmark_names == LANDMARKS
    sizes = set()
    for split in SPLITS:
        for sample in dataset.samples[split]:
            with Image.open(sample.image) as picture:
                size = picture.size
            assert size == (sample.extra["width"], sample.extra["height"])
            assert (sample.coordinates >= 0).all()
            assert (sample.coordinates <= np.array(size) - 1).all()
            assert 0.4 < sample.spacing[0] == sample.spacing[1] < 2
            sizes.add(size)
    assert len(sizes) > 50


def test_same_seed_same_files(tmp_path, annotations):
    few = {"training": 2, "validation": 1, "testing": 1}
    paths = [write_demo_dataset(tmp_path / str(n), seed, few) for n, seed in enumerate((0, 0, 1))]
    contents = [
        [path.read_bytes(), *(p.read_bytes() for p in sorted(path.parent.rglob("*.png")))] for path in paths
    ]
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])
    # The first image does not depend on their number.
    first, again = (json.loads(path.read_text())["training"][0] for path in (annotations, paths[0]))
    assert first == again


def test_landmarks_are_on_bone_with_background_ahead():
    """At the tip of a finger the image is bright, and three bone widths beyond it dark."""
    brighter = []
    for seed in range(20):
        picture, points, _ = draw_hand(np.random.default_rng(seed))
        smooth = picture.astype(float)
        for tip, knuckle in ((1, 5), (4, 6)):
            ahead = points[tip] - points[knuckle]
            ahead /= np.linalg.norm(ahead)
            length = np.linalg.norm(points[2] - points[7])
            places = np.array([points[tip], points[tip] + 0.1 * length * ahead])
            on, off = map_coordinates(smooth, places[:, ::-1].T, order=1, mode="nearest")
            brighter.append(on > off + 10)
    assert np.mean(brighter) > 0.9


def test_plain_methods_do_not_solve_it(dataset):
    guesses = baselines(dataset)
    assert set(guesses) == {"mean position", "template matching"}
    for predictions in guesses.values():
        assert [p.id for p in predictions] == [s.id for s in dataset.samples["testing"]]
        # Five times the 1.5 % that a U-Net has to reach, with a margin.
        assert percent_of_side(predictions) > 10


def test_plain_methods_do_what_their_names_say(dataset):
    training = dataset.samples["training"]
    shares = [
        (sample.coordinates + 0.5) / (sample.extra["width"], sample.extra["height"]) for sample in training
    ]
    guess = baselines(dataset)["mean position"][0]
    size = (guess.extra["width"], guess.extra["height"])
    np.testing.assert_allclose(guess.coordinates, np.mean(shares, axis=0) * size - 0.5)

    # A template that is the only picture's own is found where it was taken.
    sample = dataset.samples["training"][3]
    alone = type(dataset)(**{**vars(dataset), "samples": {"training": [sample], "testing": [sample]}})
    (match,) = baselines(alone)["template matching"]
    errors, _ = radial_errors(match)
    assert (errors < 0.71).all()  # to the pixel


def test_percent_of_side(dataset):
    guess = baselines(dataset)["mean position"][0]
    side = min(guess.extra["width"], guess.extra["height"])
    assert percent_of_side([guess]) == pytest.approx(radial_errors(guess)[0].mean() / side * 100)
