"""The two ways in which a run ends that are not our bugs."""


class UserError(Exception):
    """The user's input is wrong. The message says what, where and what to do; exit code 2."""


class RunFailed(Exception):
    """The run itself failed (a loss turned NaN, the disk is full). Exit code 1."""
