"""Text of others (ids, names) in what people look at: terminals and spreadsheets."""

import re

# On a terminal, or in a file.
ACTS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
ACTS_IN_CELL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # lines may stay
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def terminal_text(value: object) -> str:
    """A value in one line; characters that move, colour or hide text are spelt out, as in `\\x1b`."""
    return ACTS.sub(_spelt, str(value))


def spreadsheet_text(value: object) -> str:
    """A text for a cell of a table; an apostrophe goes before what a spreadsheet would calculate."""
    text = ACTS_IN_CELL.sub(_spelt, str(value))
    return f"'{text}" if FORMULA.match(text) else text


def from_spreadsheet(cell: str) -> str:
    """The text that `spreadsheet_text` put into a cell."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _spelt(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
