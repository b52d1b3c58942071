"""The exceptions of the API."""

from lannunet_core import LannunetError as LannunetError, RunFailed as RunFailed, UserError as UserError
