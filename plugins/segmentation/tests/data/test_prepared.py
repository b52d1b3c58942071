"""A prepared case, in one process and sent to another."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lannunet_segmentation.data.preprocess import prepare_cases
from lannunet_segmentation.data.runs import Runs
from lannunet_segmentation.types import IGNORE, Settings

from tests.fixtures.nnunet import blocks


def test_a_prepared_case_pickles_small(tmp_path):
    dataset = blocks(tmp_path / "Dataset001_blocks")
    settings = Settings(None, ("zscore",), (None,))
    prepared = prepare_cases(dataset.training, dataset, settings, tmp_path / "cache", jobs=1)[0]
    sent = pickle.dumps(prepared)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent).label(), prepared.label())


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.data.runs import Runs
from lannunet_segmentation.types import Geometry

folder, side = Path(sys.argv[1]), 24
size = (512, 512, 400)
geometry = Geometry(size, (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1, 0, 0, 0, 1), 3)
where = (size, (1.0,) * 3, np.eye(4), geometry)
case = PreparedCase("c", folder, folder / "image.npy", 1, *where, (), 1, True, ())

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

rng, patches = np.random.default_rng(0), []
before = peak()
for _ in range(1000):
    first = np.clip(case.annotated().draw(rng)[::-1] - side // 2, 0, np.array(size[::-1]) - side)
    box = tuple(slice(int(a), int(a) + side) for a in first)
    patches.append((case.image()[(slice(None), *box)].copy(), case.label()[box].copy()))
assert all((label != -1).any() for _, label in patches)
print(peak() - before, sum(image.nbytes + label.nbytes for image, label in patches))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_thousand_patches_of_a_large_volume_take_no_more_than_themselves(tmp_path):
    """Annotated in three slices of 400; the files have holes, so that they cost no disk."""
    shape, slices = (400, 512, 512), [20, 200, 390]
    np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.float32, (1, *shape))
    label = np.lib.format.open_memmap(tmp_path / "label.npy", "w+", np.int16, shape)
    for first in range(0, 400, 50):
        label[first : first + 50] = IGNORE
    label[slices] = 0
    Runs.of(np.asarray(label) != IGNORE).save(tmp_path / "annotated.npy")
    label.flush()
    index = (tmp_path / "annotated.npy").stat().st_size
    assert index < 1000
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    grown, patches = map(int, process.stdout.split())
    assert grown < patches + index + 30 * 2**20  # some pages of the files, of 630 MB
