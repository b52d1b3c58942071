"""The settings of `model.phdnet`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from lannunet_core import PluginConfig


class PHDNetConfig(PluginConfig):
    variant: Literal["plain", "residual"] = Field(
        "plain",
        description="The backbone: plain convolutions as published, or residual blocks of two convolutions, "
        "with about twice the receptive field.",
    )
    maxpool_factor: StrictInt = Field(
        3, ge=1, le=6, description="Number of halvings in the backbone; a patch is 2^this pixels wide."
    )
    branch_scheme: Literal["multi", "heatmap", "displacement"] = Field(
        "multi", description="Branches of the network; multi: both."
    )
    class_label_scheme: Literal["gaussian", "binary", "binary_weighted"] = Field(
        "gaussian",
        description="Label of the heatmap branch: a Gaussian around the landmark, or 1 in the landmark's "
        "patch only; weighted: this patch has the weight of all others together.",
    )
    weight_disp_loss_by_heatmap: StrictBool = Field(
        True, description="Weight displacements by a Gaussian around the landmark; else all patches equally."
    )
    log_transform_displacements: StrictBool = Field(
        True, description="Predict sign(d) · log(1 + |d|) instead of a displacement d."
    )
    clamp_dist: StrictFloat | None = Field(
        None,
        gt=0,
        le=1e5,
        description="Displacements are clipped to this length in pixels; default: not clipped.",
    )

    @property
    def patch_size(self) -> int:
        """Pixels per side."""
        return int(2**self.maxpool_factor)

    @property
    def has_heatmap(self) -> bool:
        return self.branch_scheme != "displacement"

    @property
    def has_displacement(self) -> bool:
        return self.branch_scheme != "heatmap"

    def idle_keys(self, task: str) -> dict[str, str]:
        # The plugin defines labels, loss and decoding: heatmaps with a peak of 1, at one resolution.
        of_the_task = ("model.hm_lambda_scale", "solver.deep_supervision", "solver.num_res_supervisions")
        found = dict.fromkeys(of_the_task, "model.architecture")
        if not self.has_displacement:
            keys = ("weight_disp_loss_by_heatmap", "log_transform_displacements", "clamp_dist")
            found |= dict.fromkeys(keys, "branch_scheme")
        if not self.has_heatmap:
            found["class_label_scheme"] = "branch_scheme"
        weighs = self.has_displacement and self.weight_disp_loss_by_heatmap
        if not weighs and not (self.has_heatmap and self.class_label_scheme == "gaussian"):
            cause = "class_label_scheme" if self.has_heatmap else "weight_disp_loss_by_heatmap"
            found["model.gauss_sigma"] = cause
        return found

    @model_validator(mode="after")
    def _goes_together(self) -> PHDNetConfig:
        if not self.has_heatmap and self.class_label_scheme != "gaussian":
            raise ValueError(
                f"class_label_scheme {self.class_label_scheme} is for a heatmap, and branch_scheme "
                "displacement has none; remove it, or set branch_scheme to multi or heatmap"
            )
        if self.clamp_dist is not None and not self.has_displacement:
            raise ValueError(
                "clamp_dist limits displacements, and branch_scheme heatmap has none; remove it, or set "
                "branch_scheme to multi or displacement"
            )
        if self.clamp_dist is not None and self.clamp_dist < self.patch_size:
            raise ValueError(
                f"clamp_dist {self.clamp_dist:g} is less than a patch of {self.patch_size} pixels "
                "(2^maxpool_factor): neighbouring patches could not reach a landmark; set it to at least the "
                "patch"
            )
        return self
