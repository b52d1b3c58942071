"""`benchmarks/pictures.py` finds the cases of a report."""

import numpy as np
from PIL import Image

from benchmarks import pictures


def test_three_cases_of_a_report_with_their_points(trained, tmp_path):
    pictures.predictions(trained.out / "report.html", tmp_path / "cases.png")
    pixels = np.asarray(Image.open(tmp_path / "cases.png").convert("RGB")).astype(int)
    assert pixels.shape == (pictures.SIDE, 3 * pictures.SIDE, 3)
    for case in np.split(pixels, 3, axis=1):
        red, green, blue = np.moveaxis(case, -1, 0)
        assert (green > red + 60).any() and (blue > red + 60).any()
