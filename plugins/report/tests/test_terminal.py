"""Tables on terminals of any width."""

import contextlib
import io
import os
from unittest import mock

from hypothesis import given, settings, strategies as st
from lannunet_report import print_table

NAME = st.text("abcdefghij ", min_size=1, max_size=50).map(lambda text: " ".join(text.split()) or "a")
NUMBER = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: f"{number:.3f}")
ROWS = st.integers(1, 9).flatmap(
    lambda columns: st.lists(
        st.tuples(NAME, st.lists(NUMBER, min_size=columns, max_size=columns)), min_size=1, max_size=6
    )
)


def printed(capsys, columns, *arguments):
    with mock.patch.dict(os.environ, {"COLUMNS": str(columns)}):
        print_table(*arguments)
    return capsys.readouterr().out.splitlines()


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(50, 160))
def test_no_name_and_no_number_is_lost(rows, width):
    columns = mock.patch.dict(os.environ, {"COLUMNS": str(width)})
    with columns, contextlib.redirect_stdout(io.StringIO()) as out:
        head = ["name", *(f"column {n}" for n in range(len(rows[0][1])))]
        print_table("A title", head, [[name, *numbers] for name, numbers in rows], 1)
    lines, names = out.getvalue().splitlines(), [name for name, _ in rows]
    assert all(len(line) <= width or line in names for line in lines)
    words = out.getvalue().split()
    for name, numbers in rows:
        assert all(number in words for number in numbers)
        assert any(line == name or line.startswith(name + " ") for line in lines)
    for heading in head[1:]:
        assert heading in out.getvalue()


def test_what_does_not_fit_follows_below(capsys):
    head = ["landmark", "mean", "95 % CI", "median", "sd", "≤ 2", "≤ 2.5", "≤ 3", "≤ 4", "cases"]
    row = ["a very long name of a landmark", "1.23", "1.20–140.50", "1.00", "0.33", *["100%"] * 4, "30"]
    wide = printed(capsys, 120, "Title", head, [row, row])
    assert "a very long name of a landmark" in wide[3] and wide[3].split()[-1] == "30"
    narrow = printed(capsys, 60, "Title", head, [row, row])
    heads = [
        line.split()[1] for line in narrow if line.startswith("landmark ") and line.strip() != "landmark"
    ]
    assert heads == ["mean", "≤"]
    assert any("1.20–140.50" in line for line in narrow) and any(line.endswith("30") for line in narrow)


def test_text_of_others_does_nothing(capsys):
    lines = printed(capsys, 80, "[red]t", ["name", "x"], [["[bold]a\x1b[2J", "1"]])
    assert "[red]t" in lines[0] and "[bold]a\\x1b[2J" in "".join(lines)
