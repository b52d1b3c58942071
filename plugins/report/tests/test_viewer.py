"""The cases in the viewer of a page."""

import base64
import io
import json

import numpy as np
import pytest
from lannunet_report.viewer import (
    CaseView,
    Plane,
    case_views,
    chosen_slices,
    heat_colours,
    letters_of,
    plane_name,
    points_up,
    stacked_url,
)
from PIL import Image


def view(size):
    return CaseView([Plane(None, [0], 0, "x" * size, (4, 3), (1.0, 1.0))], [{"name": "</script>"}])


def test_records_end_no_script_and_leave_out_what_is_not_there():
    (text,) = case_views(["a"], lambda case, large: view(1), 1, None)
    assert "<" not in text
    record = json.loads(text)
    assert record["marks"][0]["name"] == "</script>"
    assert set(record["planes"][0]) == {"slices", "start", "href", "size", "scale", "flipped"}


def test_the_first_cases_have_large_pictures_and_the_last_none():
    asked = []

    def make(case, large):
        asked.append(large)
        return view(1000 if large else 100)

    found = case_views(range(60), make, 4, 5000)
    sizes = [0 if text is None else len(text) for text in found]
    assert asked[:2] == [True, True] and not asked[4] and len(asked) < 60
    assert sum(sizes) <= 5000 and sizes[-1] == 0 and sizes[4] > 0
    assert all(case_views(range(60), make, 4, None))


def test_slices_are_stacked():
    pictures = [np.full((10, 20, 3), value, np.uint8) for value in (20, 120, 220)]
    picture = Image.open(io.BytesIO(base64.b64decode(stacked_url(pictures, 10).partition(",")[2])))
    assert picture.size == (10, 15)
    pixels = np.asarray(picture.convert("L"), int)
    assert [abs(pixels[row, 5] - value) < 6 for row, value in ((2, 20), (7, 120), (12, 220))] == [True] * 3


def test_slices_go_through_what_is_wanted():
    assert chosen_slices(30, [7.4, np.nan, 99], False) == [7, 29]
    assert chosen_slices(30, [np.nan], False) == [15]
    large = chosen_slices(30, [7.4], True)
    assert 7 in large and large[0] == 0 and large[-1] == 29 and len(large) > 10
    assert chosen_slices(3, [1], True) == [0, 1, 2]


@pytest.mark.parametrize(
    "direction, letters, name, up",
    [
        (np.eye(3), ["R", "L", "A", "P"], "axial", True),
        (np.diag([-1.0, -1, 1]), ["L", "R", "P", "A"], "axial", True),
        (np.diag([1.0, 1, -1]), ["R", "L", "A", "P"], "axial", False),
        (np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]), ["A", "P", "S", "I"], "sagittal", True),
    ],
)
def test_letters_follow_the_direction(direction, letters, name, up):
    """The last one is a volume of sagittal slices: x to the back, y to the feet, z to the left."""
    assert letters_of(direction, 0, 1, False) == letters
    assert letters_of(direction, 0, 1, True) == [*letters[:2], letters[3], letters[2]]
    assert plane_name(direction, 2) == name
    assert points_up(direction) == up


def test_nobody_knows_where_nothing_is_stated():
    assert letters_of(None, 0, 1, False) is None
    assert plane_name(None, 2) == ""
    assert points_up(None)


def test_heat_is_clear_where_there_is_none():
    colours = heat_colours(np.array([[0, 255]], np.uint8))
    assert colours[0, 0, 3] == 0 and colours[0, 1, 3] > 200
