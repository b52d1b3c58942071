"""Files that make up a case, and loose ones."""

import numpy as np
import SimpleITK as sitk
from lannunet_segmentation.data.cases import loose_cases
from PIL import Image

from tests.fixtures.nnunet import (
    SIZE,
    SPACING,
    image_values,
    label_values,
    raw,
    read_everything,
    redeclare,
    refused,
    write,
)


def test_colours_are_channels_and_a_palette_only_shows_labels(tmp_path):
    folder = raw(tmp_path, count=1, ending=".png", shape=(4, 5))
    redeclare(folder, channel_names={"0": "R", "1": "G", "2": "B"})
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    Image.fromarray(colours).save(folder / "imagesTr/case_0_0000.png")
    palette = Image.fromarray(label_values((4, 5)), mode=None).convert("P")
    palette.putdata(label_values((4, 5)).ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(folder / "labelsTr/case_0.png")
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.pixels, np.moveaxis(colours, -1, 0))
    np.testing.assert_array_equal(read.label, label_values((4, 5)))


def test_a_decathlon_file_holds_its_channels_as_a_fourth_axis(tmp_path):
    folder = raw(tmp_path, count=1, channels=2, version=1)
    values = [image_values(SIZE[::-1], 0, channel) for channel in (0, 1)]
    for file in (folder / "imagesTr").iterdir():
        file.unlink()
    joined = sitk.JoinSeries([sitk.GetImageFromArray(each) for each in values])
    joined.SetSpacing((*SPACING, 1))
    sitk.WriteImage(joined, str(folder / "imagesTr/case_0.nii.gz"))
    write(folder / "labelsTr/case_0.nii.gz", label_values(SIZE[::-1]))
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.pixels, values)
    assert (read.geometry.axes, len(read.geometry.direction)) == (3, 9)


def test_files_that_differ_in_their_channel_are_one_case(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write(tmp_path / f"in/{name}.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "in/notes.txt").write_text("…")
    by_folder = loose_cases([tmp_path / "in"], 2, ".nii.gz", 3)
    assert [(case.id, [p.name[:6] for p in case.images]) for case in by_folder] == [
        ("a", ["a_0000", "a_0001"]),
        ("b", ["b_0000", "b_0001"]),
    ]
    by_file = loose_cases([tmp_path / f"in/b_000{n}.nii.gz" for n in (1, 0)], 2, ".nii.gz", 3)
    assert by_file == by_folder[1:]
    (tmp_path / "in/b_0001.nii.gz").unlink()
    refused("b_0000", "1 channel", call=lambda: loose_cases([tmp_path / "in"], 2, ".nii.gz", 3))


def test_a_file_needs_no_channel_number_nor_the_training_sets_ending(tmp_path):
    write(tmp_path / "some.scan.mha", image_values(SIZE[::-1]))
    write(tmp_path / "other.nii.gz", image_values(SIZE[::-1]))
    paths = [tmp_path / "some.scan.mha", tmp_path / "other.nii.gz"]
    assert [case.id for case in loose_cases(paths, 1, ".nii.gz", 3)] == ["other", "some.scan"]
    (tmp_path / "other.nii.gz").unlink()
    assert [case.id for case in loose_cases([tmp_path], 1, ".nii.gz", 3)] == ["some.scan"]


def test_loose_files_that_cannot_be(tmp_path):
    write(tmp_path / "a/x.nii.gz", image_values(SIZE[::-1]))
    write(tmp_path / "b/x.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "empty").mkdir()
    for paths, said in [
        (["a", "b"], ('"x"', "apart")),
        (["away.nii.gz"], ("away.nii.gz", "does not exist")),
        (["empty"], ("empty", "no image")),
    ]:
        arguments = [tmp_path / path for path in paths], 1, ".nii.gz", 3
        refused(*said, call=lambda a=arguments: loose_cases(*a))
    refused("a/x.nii.gz", "2D", call=lambda: loose_cases([tmp_path / "a"], 1, ".nii.gz", 2))
