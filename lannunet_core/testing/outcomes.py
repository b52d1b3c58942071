"""Outcomes of a check: a broken contract, or one that is not claimed."""

from __future__ import annotations

from unittest import SkipTest


class Broken(AssertionError):
    """The plugin breaks a contract; the message says what was found."""


class NotClaimed(SkipTest):
    """The contract is about a feature that the plugin does not claim. pytest and unittest report a skip."""


def claimed(flag: bool | None, works: bool, what: str, reason: str = "") -> None:
    """Raise `Broken` if a claimed feature does not work, `NotClaimed` if it is not claimed."""
    if works:
        return
    if flag:
        raise Broken(f"it claims {what}, but {reason}")
    raise NotClaimed(f"{what} is not claimed" + (f": {reason}" if reason else ""))
