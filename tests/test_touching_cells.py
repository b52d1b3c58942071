"""The generated cells, and the metric of their separation."""

import numpy as np
import pytest
from lannunet_segmentation import read_case, read_dataset
from PIL import Image
from scipy import ndimage

from benchmarks.touching_cells import Matched, draw_scene, main, match_objects, score, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Dataset501_TouchingCells"
    write_dataset(folder, training=2, testing=2)
    return folder


def test_it_is_an_nnunet_folder(folder):
    dataset = read_dataset(folder)

    assert (dataset.layout, dataset.dimensions) == ("raw2", 2)
    assert [len(dataset.training), len(dataset.testing)] == [2, 2]
    for case in (*dataset.training, *dataset.testing):
        assert set(np.unique(read_case(case, dataset).label)) == {0, 1}


def test_the_same_seed_draws_the_same_and_images_differ(folder, tmp_path):
    write_dataset(tmp_path, training=1, testing=1)

    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*.png")]
    assert len(files) == 5
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes()
    images = [file.read_bytes() for file in sorted(folder.glob("images*/*.png"))]
    assert len(set(images)) == 4


def test_dozens_of_cells_touch_over_gaps_of_one_or_two_pixels():
    for n in range(3):
        instances = draw_scene(np.random.default_rng(n)).instances.astype(np.int64)

        count = instances.max()
        assert count >= 24
        assert ndimage.label(instances > 0)[1] == count  # the gaps separate them
        grown = ndimage.grey_dilation(instances, size=(3, 3))
        spread = ndimage.grey_dilation(grown, size=(3, 3))
        others = (grown > 0) & (instances > 0) & (spread != instances)
        assert len(np.unique(instances[others])) > 0.3 * count


def test_the_true_foreground_scores_one_and_a_joined_one_little(folder, tmp_path):
    for file in (folder / "instancesTs").glob("*.png"):
        instances = np.asarray(Image.open(file))
        Image.fromarray((instances > 0).astype(np.uint8)).save(tmp_path / file.name)
    true = score(folder, tmp_path)
    for file in tmp_path.glob("*.png"):
        joined = ndimage.binary_closing(np.pad(np.asarray(Image.open(file)), 4), iterations=2)[4:-4, 4:-4]
        Image.fromarray(joined.astype(np.uint8)).save(file)

    assert true.f1 == 1
    assert score(folder, tmp_path).f1 < 0.2


def test_objects_match_over_half_of_their_union():
    instances = np.zeros((12, 12), np.int64)
    instances[1:5, 1:5] = 1  # 16 pixels
    instances[1:5, 7:11] = 5  # numbers may have gaps
    instances[8:10, 1:3] = 7
    predicted = np.zeros((12, 12), np.uint8)
    predicted[1:5, 1:4] = 1  # 12 of 16
    predicted[1:5, 7:9] = 1  # 8 of 16, which is not above a half
    predicted[8:10, 8:10] = 1  # no object

    matched = match_objects(predicted, instances)

    assert matched == Matched(found=1, surplus=2, missed=2)
    assert matched.f1 == pytest.approx(2 / 6)


def test_nothing_is_no_object():
    nothing = np.zeros((4, 4), np.int64)

    assert match_objects(nothing, nothing) == Matched(0, 0, 0)
    assert match_objects(nothing, nothing + 1) == Matched(0, 0, 1)


def test_it_is_called_from_the_command_line(folder, tmp_path, capsys):
    main([str(tmp_path / "made"), "--training", "1", "--testing", "1"])
    assert (tmp_path / "made" / "labelsTs" / "cells_test_000.png").exists()

    main([str(folder), "--score", str(folder / "labelsTs")])
    assert "F1 at IoU 0.5: 1.0000" in capsys.readouterr().out
