"""What is raised on purpose."""

from lannunet_core import LannunetError as LannunetError, RunFailed as RunFailed, UserError as UserError
