"""How commands end, and what they print."""

from lannunet_core import terminal_text


def test_nothing_acts_on_a_terminal():
    acts = "\x1b[31m\x9b2J\x07\r\n\u202e\ud800"
    assert terminal_text(acts) == r"\x1b[31m\x9b2J\x07\r\n\u202e\ud800"
    assert terminal_text(7) == "7"
    for text in ("a", "a b", "Zoë", "手", ""):
        assert terminal_text(text) == text
