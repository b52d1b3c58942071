"""Third-party text (ids, names) in tables, which spreadsheets open."""

import re

ACTS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # lines may stay
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def spreadsheet_text(value: object) -> str:
    """A text for a cell of a table; an apostrophe precedes what a spreadsheet would evaluate."""
    text = ACTS.sub(lambda found: found.group().encode("unicode_escape").decode(), str(value))
    return f"'{text}" if FORMULA.match(text) else text


def from_spreadsheet(cell: str) -> str:
    """The original text of a cell of `spreadsheet_text`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
