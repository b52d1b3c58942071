"""The core's version, from its package metadata."""

from functools import cache
from importlib import metadata

version = cache(metadata.version)
__version__ = version("lannunet-core")
