"""The plugin: the hook `network`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lannunet_core import Plugin, hookimpl
from lannunet_monai.config import MonaiConfig

if TYPE_CHECKING:
    from lannunet_monai.network import Maps


class MonaiPlugin(Plugin):
    """Any network of monai.networks.nets that returns one map per output, 2D and 3D."""

    Config = MonaiConfig
    config: MonaiConfig

    @hookimpl
    def network(self) -> Maps:
        from lannunet_monai.network import build

        return build(self.config.network, self.config.arguments, self.run)
