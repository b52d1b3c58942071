"""The ways in which a run, or a call from Python, ends that are not our bugs."""


class LannunetError(Exception):
    """Base of what LannU-Net raises on purpose; anything else is a bug of ours, or of a plugin."""


class UserError(LannunetError):
    """The user's input is wrong. The message says what, where and what to do; exit code 2."""


class RunFailed(LannunetError):
    """The run itself failed (a loss turned NaN, the disk is full). Exit code 1."""
