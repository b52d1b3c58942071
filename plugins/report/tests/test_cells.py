"""A spreadsheet does not evaluate third-party ids and names."""

import pytest
from lannunet_report import from_spreadsheet, spreadsheet_text

HARMLESS = ("a", "a b", "5", "Zoë", "手", "it's", "a=b", "")


@pytest.mark.parametrize("begin", "=+-@\t\r\n")
def test_no_cell_is_a_formula(begin):
    for text in (f"{begin}1+1", f"'{begin}1", f"''{begin}1"):
        cell = spreadsheet_text(text)
        assert cell == f"'{text}"
        assert from_spreadsheet(cell) == text


def test_what_is_harmless_stays():
    for text in HARMLESS:
        assert spreadsheet_text(text) == from_spreadsheet(text) == text
    assert spreadsheet_text("two\nlines") == "two\nlines"


def test_what_acts_is_spelt_out():
    acts = "\x1b[31m\x9b2J\x07\r\n\u202e\ud800"
    assert spreadsheet_text("a" + acts) == "a\\x1b[31m\\x9b2J\\x07\r\n\u202e\\ud800"
