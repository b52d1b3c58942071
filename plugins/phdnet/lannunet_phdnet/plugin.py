"""The plugin: it defines network, labels, loss and decoding; everything else is the task's and the core's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lannunet_core import Plugin, UserError, hookimpl
from lannunet_phdnet.config import PHDNetConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lannunet_core import Coordinates, EvaluationMode
    from lannunet_phdnet.loss import PatchLoss
    from lannunet_phdnet.network import PHDNet


class PHDNetPlugin(Plugin):
    """PHD-Net: patch-wise heatmaps and displacements, combined by candidate smoothing; 2D and 3D."""

    Config = PHDNetConfig
    config: PHDNetConfig
    tasks = ("landmarks",)

    @classmethod
    def suggestions(cls, task: str) -> dict[str, Any]:
        """The training of the paper: on patches, with heatmaps as wide as a patch of the network (8 px)."""
        return {"sampler.sample_mode": "patch_bias", "model.gauss_sigma": 8.0}

    @classmethod
    def decoder_in_numpy(cls, config: PHDNetConfig) -> tuple[str, dict[str, Any]]:
        """The source of `decode(answers, settings)` for an exported network, and its settings."""
        source = Path(__file__).with_name("decode_in_numpy.py").read_text(encoding="utf-8")
        return source, {
            "patch_size": config.patch_size,
            "every_patch_votes": not config.weight_disp_loss_by_heatmap,
        }

    @property
    def displacement_unit(self) -> float:
        """The unit of the network's last layer and of the loss: a patch, or 1 for logarithms."""
        return 1.0 if self.config.log_transform_displacements else float(self.config.patch_size)

    @hookimpl
    def network(self) -> PHDNet:
        from lannunet_phdnet.network import PHDNet

        if self.config.patch_size > min(self.run.input_size):
            raise UserError(
                f"model.phdnet.maxpool_factor: {self.config.maxpool_factor} makes patches of "
                f"{self.config.patch_size} pixels per side, more than the input of "
                f"{list(self.run.input_size)} has. Lower it."
            )
        return PHDNet(
            in_channels=self.run.in_channels,
            landmarks=len(self.run.outputs),
            dimensions=self.run.dimensions,
            halvings=self.config.maxpool_factor,
            residual=self.config.variant == "residual",
            heatmap=self.config.has_heatmap,
            displacement=self.config.has_displacement,
            displacement_unit=self.displacement_unit,
        )

    @hookimpl
    def loss(self) -> PatchLoss:
        from lannunet_phdnet.loss import PatchLoss

        return PatchLoss(
            self.config.log_transform_displacements,
            self.displacement_unit,
            has_widths=self.config.has_heatmap and self.config.class_label_scheme == "gaussian",
        )

    @hookimpl
    def generate_labels(
        self, landmarks: Tensor, states: Tensor, image_size: tuple[int, ...], sigmas: Tensor
    ) -> dict[str, Any]:
        from lannunet_phdnet.labels import generate_labels

        return generate_labels(
            landmarks,
            states,
            image_size,
            sigmas[0],
            self.config.patch_size,
            class_labels=self.config.class_label_scheme if self.config.has_heatmap else None,
            with_displacement=self.config.has_displacement,
            weight_by_distance=self.config.weight_disp_loss_by_heatmap,
            log_displacement=self.config.log_transform_displacements,
            longest=self.config.clamp_dist,
        )

    @hookimpl
    def get_coords_from_heatmap(
        self,
        heatmaps: Mapping[str, Tensor],
        affine: Tensor,
        original_sizes: Tensor,
        evaluation_mode: EvaluationMode,
    ) -> Coordinates:
        from lannunet_phdnet.decode import decode

        return decode(
            heatmaps,
            affine,
            original_sizes,
            evaluation_mode,
            self.config.patch_size,
            every_patch_votes=not self.config.weight_disp_loss_by_heatmap,
        )
