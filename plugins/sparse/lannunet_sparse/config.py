"""The settings of `trainer.sparse`."""

from typing import Literal

from pydantic import Field

from lannunet_core import PluginConfig


class SparseConfig(PluginConfig):
    balance: Literal["voxels", "classes"] = Field(
        "voxels", description="Draw each annotated voxel as often, or each class that a case has."
    )
    offset: Literal["random", "centre", "inside"] = Field(
        "random",
        description="Where in the patch the drawn voxel lies: anywhere, in the middle, or where the patch "
        "reaches beyond the image as little as it can.",
    )
