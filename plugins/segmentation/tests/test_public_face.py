"""The public API that plugins import."""

import subprocess
import sys

import lannunet_segmentation
import pytest


@pytest.mark.parametrize("name", lannunet_segmentation.__all__)
def test_every_name_is_there(name):
    assert getattr(lannunet_segmentation, name) is not None


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    script = (
        "import sys, lannunet_segmentation\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)))\n"
        "from lannunet_segmentation import Case, PreparedCase, ForegroundBias, read_dataset, read_label\n"
        "print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["[]", "False"]
