"""The task's default hook implementations. They use nothing that a plugin cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lannunet_core import Defaults, choose, hookimpl, is_among
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.schema import DECODERS, RunConfig

if TYPE_CHECKING:
    from lannunet_images import Windows
    from torch import Tensor, nn

    from lannunet_core import Coordinates, Decoder, EvaluationMode, Loss, Sampling
    from lannunet_landmarks.types import Prediction


class LandmarkDefaults(Defaults):
    """See `Defaults`."""

    replaced = Defaults.replaced | {
        "get_coords_from_heatmap": ("inference.decoder", "inference.shape_prior"),
        "sampling": "sampler.sample_mode",
    }
    config: RunConfig
    hooks: LandmarkHooks
    made_by: Loss | None = None
    """The learner that made the decoded maps, once there is one; None: confidence is the peak's height."""

    def parameter_groups(self, module: nn.Module, base_lr: float) -> list[dict[str, Any]]:
        from lannunet_landmarks.maps.learned_sigma import parameter_groups

        return parameter_groups(module, base_lr)

    @hookimpl
    def losses(self) -> Mapping[str, Callable[[], Loss]]:
        from lannunet_landmarks.maps.losses import LOSSES

        model = self.config.model
        return {
            name: partial(build, model.hm_lambda_scale, model.gauss_sigma, self.run.dimensions)
            for name, build in LOSSES.items()
        }

    @hookimpl
    def sampling(self) -> Sampling:
        from lannunet_images import FullImage

        from lannunet_landmarks.data.centres import read_centres
        from lannunet_landmarks.data.sampling import PatchBias, PatchCentred

        sampler = self.config.sampler
        patch = sampler.patch
        if sampler.sample_mode == "patch_bias":
            return PatchBias(sampler.patch_size, patch.sampler_bias)
        if sampler.sample_mode == "patch_centred":
            centres = None if patch.centres is None else read_centres(patch.centres, self.run.outputs)
            seed = self.run.seed if patch.deterministic_jitter else None
            return PatchCentred(sampler.patch_size, patch.jitter_pixels, centres, seed)
        return FullImage(sampler.sample_size)

    @hookimpl
    def generate_labels(
        self,
        landmarks: Tensor,
        states: Tensor,
        corner: Tensor,
        image_size: tuple[int, ...],
        sigmas: Tensor,
        num_res_levels: int,
        level_sizes: Sequence[tuple[int, ...]],
        lambda_scale: float,
        sample: Mapping[str, Any],
    ) -> dict[str, Any]:
        from lannunet_landmarks.maps.labels import generate_labels

        return generate_labels(
            landmarks, states, corner, image_size, sigmas, num_res_levels, level_sizes, lambda_scale, sample
        )

    @hookimpl
    def get_coords_from_heatmap(
        self,
        heatmaps: Any,
        affine: Tensor,
        original_sizes: Tensor,
        evaluation_mode: EvaluationMode,
        image_size: tuple[int, ...],
    ) -> Coordinates:
        from lannunet_landmarks.maps.coarse import decode_coarse
        from lannunet_landmarks.maps.confidence import ProbabilityLoss, with_masses

        found = decode_coarse(self._decoder, heatmaps, affine, original_sizes, evaluation_mode, image_size)
        own = is_among(self.config.inference.decoder, DECODERS)  # a plugin's decoder has its own confidence
        if own and isinstance(self.made_by, ProbabilityLoss):
            return with_masses(found, heatmaps, image_size, self.made_by)
        return found

    @cached_property
    def _decoder(self) -> Decoder:
        return choose("inference.decoder", self.config.inference.decoder, self.hooks.decoders())()

    @hookimpl
    def decoders(self) -> Mapping[str, Callable[[], Decoder]]:
        from lannunet_landmarks.maps.decode import DECODERS

        return DECODERS

    @hookimpl
    def stitch_heatmap(
        self, patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Windows
    ) -> Any:
        from lannunet_landmarks.predict.stitch import stitch

        return stitch(patches, windows)

    @hookimpl
    def debug_sample(self, batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool:
        from lannunet_landmarks.evaluation.pictures import draw_training_batch

        draw_training_batch(batch, labels, folder)
        return True

    @hookimpl
    def debug_prediction(
        self, batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Prediction], folder: Path
    ) -> bool:
        from lannunet_landmarks.evaluation.pictures import draw_predicted_maps

        draw_predicted_maps(batch, heatmaps, predictions, folder)
        return True
