"""The command that removes annotations."""

import subprocess
import sys

import numpy as np
import pytest
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.types import IGNORE

from tests.fixtures.nnunet import REPOSITORY, image_values, label_values, raw, write


def annotate(*arguments):
    command = [sys.executable, "-m", "benchmarks.annotate_slices", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("version", [1, 2])
def test_only_some_slices_stay_annotated(tmp_path, version):
    full, sparse = raw(tmp_path / "full", shape=(9, 4, 5), version=version), tmp_path / "sparse"
    write(full / "imagesTs/new_0000.nii.gz", image_values((9, 4, 5)))
    write(full / "labelsTs/new.nii.gz", label_values((9, 4, 5)))
    done = annotate(full, sparse, "--slices", 3, "--seed", 1)
    assert done.returncode == 0, done.stderr
    before, after = read_dataset(full), read_dataset(sparse)
    slices = []
    for old, new in zip(before.training, after.training, strict=True):
        old, new = read_case(old, before), read_case(new, after)
        np.testing.assert_array_equal(old.pixels, new.pixels)
        assert old.geometry == new.geometry
        kept = [z for z in range(9) if (new.label[z] != IGNORE).any()]
        assert len(kept) == 3
        np.testing.assert_array_equal(new.label[kept], old.label[kept])
        slices.append(kept)
    assert slices[0] != slices[1]
    for part in ("imagesTs/new_0000.nii.gz", "labelsTs/new.nii.gz", "dataset.json"):
        assert (sparse / part).read_bytes() == (full / part).read_bytes()

    assert annotate(full, tmp_path / "again", "--slices", 3, "--seed", 1).returncode == 0
    for case in after.training:
        again = tmp_path / "again" / case.label.relative_to(sparse)
        np.testing.assert_array_equal(read_label(again, after)[0], read_label(case.label, after)[0])
    refused_again = annotate(full, sparse)
    assert refused_again.returncode == 2
    assert "exists already" in refused_again.stderr
