"""Files that make up a case."""

import numpy as np
import SimpleITK as sitk
from PIL import Image

from tests.fixtures.nnunet import (
    SIZE,
    SPACING,
    image_values,
    label_values,
    raw,
    read_everything,
    redeclare,
    write_plain,
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
    write_plain(folder / "labelsTr/case_0.nii.gz", label_values(SIZE[::-1]), SPACING)
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.pixels, values)
    assert (read.geometry.axes, len(read.geometry.direction)) == (3, 9)
