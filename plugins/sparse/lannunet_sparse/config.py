"""The settings of `trainer.sparse`."""

from typing import Literal

from pydantic import Field

from lannunet_core import PluginConfig


class SparseConfig(PluginConfig):
    balance: Literal["voxels", "classes"] = Field(
        "voxels", description="Draw annotated voxels uniformly, or the classes of a case uniformly."
    )
    offset: Literal["random", "centre", "inside"] = Field(
        "random",
        description="Position of the drawn voxel in the patch: anywhere, in the middle, or where the patch "
        "extends beyond the image as little as possible.",
    )
