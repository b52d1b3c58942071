"""`plugins = ["lannunet_core.mypy"]`: checks hooks against their specifications."""

from lannunet_core.testing.mypy import plugin as plugin
