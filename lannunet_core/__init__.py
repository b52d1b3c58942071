"""The LannU-Net core: hooks, configuration, data, training and evaluation. It knows no model."""

from importlib.metadata import version

from lannunet_core.plugins.api import Plugin, PluginConfig, RunInfo, hookimpl

__version__ = version("lannunet-core")

__all__ = ["Plugin", "PluginConfig", "RunInfo", "__version__", "hookimpl"]
