"""A small architecture for testing extensions whose author names no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lannunet_core.plugins.api import Plugin, hookimpl

if TYPE_CHECKING:
    from torch import nn


class Probe(Plugin):
    """Two convolutions; coarser resolutions are averages of the finest."""

    @hookimpl
    def network(self) -> nn.Module:
        from lannunet_core.testing.probe_network import ProbeNetwork

        run = self.run
        return ProbeNetwork(run.dimensions, run.in_channels, len(run.outputs), run.supervised_resolutions)
