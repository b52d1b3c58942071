"""The plugins: one hook each. That voxels which nobody annotated teach nothing is the task's doing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lannunet_core import Plugin, hookimpl
from lannunet_sparse.config import SparseConfig

if TYPE_CHECKING:
    from lannunet_segmentation import ForegroundBias

    from lannunet_sparse.sampling import AnnotatedVoxel


class Sparse(Plugin):
    """Every patch holds a voxel that somebody annotated."""

    Config = SparseConfig
    config: SparseConfig
    tasks = ("segmentation",)

    @classmethod
    def plan(cls, image_size: Sequence[float], patch_size: Sequence[int]) -> Mapping[str, tuple[Any, str]]:
        if all(image >= 2 * patch for image, patch in zip(image_size, patch_size, strict=True)):
            return {}
        return {"offset": ("inside", "else most of a patch would lie outside of so small an image")}

    @hookimpl
    def sampling(self) -> AnnotatedVoxel:
        from lannunet_sparse.sampling import AnnotatedVoxel

        return AnnotatedVoxel(self.run.input_size, self.config.balance, self.config.offset)


class SparseNormalSampling(Plugin):
    """Patches from anywhere; those without annotation contribute nothing."""

    tasks = ("segmentation",)

    @hookimpl
    def sampling(self) -> ForegroundBias:
        from lannunet_segmentation import ForegroundBias

        return ForegroundBias(self.run.input_size, share=0.0)
