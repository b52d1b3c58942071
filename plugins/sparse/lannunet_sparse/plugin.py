"""The plugins: the hook `sampling`. The task gives voxels without annotation no gradient."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lannunet_core import Plugin, hookimpl, is_among
from lannunet_sparse.config import SparseConfig

if TYPE_CHECKING:
    from lannunet_core import Sampling
    from lannunet_sparse.sampling import AnnotatedVoxel

DIAGS = "nnUNetTrainerV2Sparse"
"""The name of `sparse` in DIAG's nnU-Net."""


class Sparse(Plugin):
    """Every patch contains an annotated voxel."""

    Config = SparseConfig
    config: SparseConfig
    tasks = ("segmentation",)

    @classmethod
    def plan(cls, image_size: Sequence[float], patch_size: Sequence[int]) -> Mapping[str, tuple[Any, str]]:
        if all(image >= 2 * patch for image, patch in zip(image_size, patch_size, strict=True)):
            return {}
        return {"offset": ("inside", "else most of a patch would be outside of the small images")}

    @classmethod
    def notes(cls, name: str, config: SparseConfig) -> Sequence[str]:
        if not is_among(name, (DIAGS,)) or config.offset == "inside":
            return ()
        return [
            f"{DIAGS}: patches may extend beyond the image; those of DIAG's nnU-Net are inside. To match it, "
            "set trainer.sparse.offset: inside"
        ]

    @hookimpl
    def sampling(self) -> AnnotatedVoxel:
        from lannunet_sparse.sampling import AnnotatedVoxel

        return AnnotatedVoxel(self.run.input_size, self.config.balance, self.config.offset)


class SparseNormalSampling(Plugin):
    """Patches as in the task, regardless of annotated voxels; patches without any contribute nothing."""

    tasks = ("segmentation",)

    @hookimpl(wrapper=True)
    def sampling(self) -> Generator[None, Sampling, Sampling]:
        return (yield)
