"""The same image in both parts of a split."""

import shutil

from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.twins import say_twins, twins

from tests.fixtures.nnunet import raw


def test_the_same_image_under_two_names_is_said(tmp_path, capsys):
    folder = raw(tmp_path, count=3, ending=".nii")
    (folder / "imagesTs").mkdir()
    dataset = read_dataset(folder)
    training, held_out = dataset.training[:2], dataset.training[2:]
    say_twins(training, held_out, "validation")  # of one size, but others
    assert not capsys.readouterr().err
    shutil.copy(training[1].images[0], folder / "imagesTs/new_0000.nii")
    (new,) = read_dataset(folder).testing
    assert twins(training, (*held_out, new)) == [(training[1], new)]
    say_twins(training, (new,), "testing")
    said = capsys.readouterr().err
    assert f"{new.images[0]} of testing is the image {training[1].images[0]} of training" in said
