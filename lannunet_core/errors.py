"""The exceptions for errors that are not bugs of the core."""


class LannunetError(Exception):
    """Base class of intentional errors; any other exception is a bug of the core, or of a plugin."""


class UserError(LannunetError):
    """The user's input is wrong. The message states what, where and what to do; exit code 2."""


class RunFailed(LannunetError):
    """The run itself failed (a loss turned NaN, the disk is full). Exit code 1."""
