"""Whether scores are resampled in slabs: the switch of DIAG's nnU-Net."""

from __future__ import annotations

import os

from lannunet_core import UserError

SWITCH = "DIAG_NNUNET_ALT_RESAMPLING"


def in_slabs() -> bool:
    """Whether scores are resampled in slabs, by the environment variable of DIAG's nnU-Net; unset: yes.

    Raises:
        UserError: Its value is neither yes nor no.
    """
    value = os.environ.get(SWITCH, "").strip()
    if value.lower() in ("", "1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise UserError(
        f"the environment variable {SWITCH} is {value!r}. Set it to 1, true, yes or on for resampling in "
        "slabs (the default, little memory), or to 0, false, no or off for resampling everything at once."
    )
