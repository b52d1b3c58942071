"""The core's version, from its package metadata."""

from importlib.metadata import version

__version__ = version("lannunet-core")
