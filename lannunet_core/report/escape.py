"""Text of others (ids, names) on a terminal."""

import re

# On a terminal, or in a file.
ACTS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def terminal_text(value: object) -> str:
    """A value in one line; characters that move, colour or hide text are spelt out, as in `\\x1b`."""
    return ACTS.sub(_spelt, str(value))


def _spelt(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
