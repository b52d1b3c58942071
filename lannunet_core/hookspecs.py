"""The contract between the core, its tasks and their plugins.

A plugin implements a hook as a method of the same name with `@hookimpl`, taking only the arguments it needs.
Shapes: B batch, C channels, N landmarks, K classes, D dimensions (2 or 3), S spatial sizes ([z,] y, x), L
supervised resolutions. Points and `*_size` arguments are (x, y[, z]); tensors are (…, [z,] y, x).

For a hook with a single result, plugins are called from the last listed extension down to the task's
defaults; the first result is used. Collecting hooks gather the results of all. The headings below name the
task that calls a hook; a task may provide additional specifications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from lannunet_core.augment.schemes import Drawn, Scheme
    from lannunet_core.config.schema import SolverConfig
    from lannunet_core.types import Floats

hookspec = pluggy.HookspecMarker("lannunet")

Specified = TypeVar("Specified", bound=Callable[..., Any])


def asked_in(*tasks: str) -> Callable[[Specified], Specified]:
    """Names the tasks that call a hook; without it, every task does."""

    def mark(specification: Specified) -> Specified:
        specification.lannunet_tasks = tasks  # type: ignore[attr-defined]
        return specification

    return mark


# Arguments and results of hooks, in every task -----------------------------------------------------------


class Loss(Protocol):
    """The return value of the hook `loss`. It is an `nn.Module` if it has parameters or buffers.

    A loss that averages over its batch uses `sum_over_processes`, for runs on several devices.
    """

    def __call__(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """Named terms, each a scalar; the total is their sum. Called outside of autocast, in float32.

        Args:
            outputs: The network's outputs.
            labels: The labels of the batch; `labels["extra"]` are the additional fields of its samples.
        """

    def activation(self, outputs: Any) -> Any:
        """Convert raw outputs to maps: 0 is background, 1 is the peak of a perfect label."""


class TrainingStep(Protocol):
    """The argument of the hook `training_step`: one batch, and the parts of a step.

    Attributes:
        batch: Batch on the device, augmented.
        epoch: Epoch of the run, from 0.
        number: Number of the batch in its epoch, from 0.
        module: Network, loss and other learned parts (`module.network`, `module.loss`), set up by Fabric.
        optimizers: Optimizers that `optimizer_and_scheduler` returned.
    """

    batch: Mapping[str, Any]
    epoch: int
    number: int
    module: Any
    optimizers: Sequence[Any]

    def losses(self, batch: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """The terms of the run's loss for a batch, by default this step's."""

    def backward(self, total: Tensor) -> None:
        """Backward pass; over the batches of `solver.accumulate`, gradients are averaged."""

    def update(self, *optimizers: Any) -> None:
        """Clip gradients (`solver.clip_gradient_norm`), step, reset gradients, and step the schedulers.

        It acts once per `solver.accumulate` batches, on the given optimizers, by default on all.
        """

    def usual(self) -> dict[str, Tensor]:
        """The core's own step: losses, backward, update. It passes a closure to optimizers that need one."""


class Sampling(Protocol):
    """The return value of the hook `sampling`. It is sent to loader workers, so it must pickle."""

    @property
    def output_size(self) -> tuple[int, ...]:
        """Size (x, y[, z]) of a training sample."""

    @property
    def centre(self) -> Callable[..., Floats]:
        """The centre of the next sample, in pixels (D,) of the image it is cut from.

        The value is a method that takes any of these arguments, by name.

        Args:
            rng: A NumPy generator that belongs to this draw.
            image_size: Size of the image, (x, y[, z]).
            transform: The transform that was drawn for this sample: `transform.to_source(points, centre,
                output_size)` returns the image pixel that an output pixel shows.
            sample: The data set's entry: a `lannunet_landmarks.Sample`, or a
                `lannunet_segmentation.PreparedCase`, which provides the voxels of each class.
            affine: (D + 1, D + 1) from pixels of the image to original pixels.
            epoch: Epoch of the run, from 0.
            landmarks: `task: landmarks`. (N, D) in pixels of the image; NaN where there is no point.
            states: `task: landmarks`. (N,) of `State`.
        """


class Augmenter(Protocol):
    """The return value of the hook `augmenter`. It is sent to loader workers, so it must pickle."""

    def __call__(
        self, image: NDArray[Any], drawn: Drawn, centre: Floats, output_size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Apply the draw of a scheme to one sample.

        Args:
            image: (C, *S) floats, normalised.
            drawn: The draw.
            centre: (D,) source pixel (x, y[, z]) at the centre of the sample; (S − 1) / 2 for a whole image.
            output_size: Size of the sample, (x, y[, z]).

        Returns:
            (C, *output) float32, 0 outside of the source; `drawn.spatial.to_output` maps points to it.
        """


class Normalisation(Protocol):
    """A normalisation that `normalisations` builds. It is sent to loader workers, so it must pickle."""

    def __call__(self, channel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise one channel (*S) of an image; the image is later padded with 0."""


@dataclass(frozen=True)
class ReportPart:
    """A part of the report that a plugin provides.

    Attributes:
        title: Heading of the part.
        text: Description in one sentence.
        figure: A matplotlib Figure; None: there is none.
        picture: (y, x, 3) of uint8; None: there is none.
    """

    title: str
    text: str = ""
    figure: Any = None
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Event:
    """The argument of the hook `observe`.

    Attributes:
        name: `start`, `batch` (once the losses of a training step are read; by then `module` has taken the
            next step too, except at the end of an epoch), `epoch`, `end` or `failure`.
        output_dir: The run's folder.
        values: Numbers and names: at the start the content of `run.json` and `epoch`, the number of finished
            epochs (before a resume); `epoch`, `batch` and the loss's `terms` of a batch; the losses and the
            learning rate of an epoch; the summary at the end; the error's text at a failure.
        module: Network, loss and other learned parts (`module.network`, `module.loss`).
    """

    name: Literal["start", "batch", "epoch", "end", "failure"]
    output_dir: Path
    values: Mapping[str, Any]
    module: nn.Module


# Hooks of every task ---------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def network() -> nn.Module | None:
    """The network to train. The only hook that a new architecture needs; called once per run.

    Returns:
        A module that maps an image (B, C, *S) to one tensor (B, N, *S), or to a list of them with the finest
        resolution first, or to any nest of tensors that the same plugin's labels, loss and decoding
        accept. Levels and their sizes are read from its outputs: maps may be coarser than the image, and
        tensors without spatial axes are not levels.
    """


@hookspec
def network_inputs(batch: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Additional inputs of the network, requested before each forward pass (collecting).

    Args:
        batch: Batch as collated and augmented. `image` is (B, C, *S), also if it is mirrored or cut into
            patches; `affine` (B, D + 1, D + 1) maps its pixels to the original image; `extra` has the
            additional fields of the samples, and is empty for standalone images.

    Returns:
        Keyword arguments of `network`, in addition to the image.
    """


@hookspec
def initial_weights(network: nn.Module) -> None:
    """Load pretrained weights into the network, in place (collecting).

    Called once, when a training begins; not when it is resumed, and not for inference with a trained model,
    which has its own weights.

    Args:
        network: The return value of `network`.
    """


@hookspec(firstresult=True)
def optimizer_and_scheduler(
    module: nn.Module, solver: SolverConfig, base_lr: float, total_steps: int
) -> tuple[Any, Any] | None:
    """The optimizer over all learnable parameters, and a scheduler or None; called once per run.

    Either may be a list of several. A scheduler is stepped after each step of its optimizer; one that waits
    for a plateau, after each validation, with the value of `trainer.monitor`. In a run that was
    shortened (`solver.shortened`) it is stepped several times at once, so that it finishes at the end.

    Args:
        module: Module with the network, the label parameters and the loss; optimise `module.parameters()`.
        solver: The `solver` section.
        base_lr: `solver.base_lr`, with `auto` resolved for the configured optimizer.
        total_steps: Number of optimizer steps of the run.
    """


@hookspec(firstresult=True)
def training_step(step: TrainingStep) -> Mapping[str, Tensor] | None:
    """One training step; `step.usual()` is the core's own.

    Args:
        step: The batch, and the parts of a step.

    Returns:
        Named terms, each a scalar, which are recorded.
    """


@hookspec(firstresult=True)
def loss() -> Loss | None:
    """The loss, called once per run; see `Loss`."""


@hookspec
def losses() -> Mapping[str, Callable[[], Loss]]:  # type: ignore[empty-body]
    """Additional names for `solver.loss_function`, each with a function that builds it (collecting)."""


@hookspec(firstresult=True)
def sampling() -> Sampling | None:
    """The positions of training samples in their images, called once per run; see `Sampling`."""


@hookspec(firstresult=True)
def training_order(samples: Sequence[Any]) -> Callable[..., Sequence[int]] | None:
    """The training samples of each epoch, and their order; called once per run.

    If no plugin implements the hook, samples are drawn uniformly, in an order drawn for each round.

    Args:
        samples: The entries of the training split, as passed to `Sampling.centre`.

    Returns:
        A function that takes any of `epoch` (from 0), `count` (the number of samples in the
        epoch) and `rng` (a NumPy generator of that epoch), by name, and returns `count` indices of `samples`.
        It must be a function of these alone, so that a resumed run is identical.
    """


@hookspec
def normalisations() -> Mapping[str, Callable[[], Normalisation]]:  # type: ignore[empty-body]
    """Additional names for the key `normalisation`, each with a function that builds it (collecting)."""


@hookspec
def augmentations() -> Mapping[str, Callable[[], Scheme]]:  # type: ignore[empty-body]
    """Additional names for `sampler.data_aug`, each with a function that builds its `Scheme` (collecting)."""


@hookspec(firstresult=True)
def augmenter() -> Augmenter | None:
    """The object that applies the augmentation in the loader's workers; see `Augmenter`.

    Called if `sampler.data_aug_package` names this plugin. Otherwise the core augments whole batches on
    the run's device, in torch.
    """


@hookspec
def metrics(predictions: Sequence[Any]) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Named metrics of this plugin, for the summary of an evaluated split (collecting).

    Args:
        predictions: Predictions of the task: one `lannunet_landmarks.Prediction` per image, or one
            `lannunet_segmentation.SegmentedCase` per case.
    """


@hookspec
def validation_metrics(predictions: Sequence[Any]) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Named metrics of this plugin at each validation (collecting).

    They are recorded with the epoch. `trainer.monitor` may name one, for choosing the best model and for
    early stopping: lower is better; with a minus before its name, higher is better.

    Args:
        predictions: Predictions of the validation split: one `lannunet_landmarks.Prediction` per image, or
            one `lannunet_segmentation.SegmentedImage` per case.
    """


@hookspec(firstresult=True)
def postprocess(prediction: Any) -> Any | None:
    """Change one prediction of the model. If no plugin implements the hook, it is unchanged.

    Args:
        prediction: Prediction of the task: a `lannunet_landmarks.Prediction`, or a
            `lannunet_segmentation.SegmentedImage` with the label map (*S) of a case.

    Returns:
        The same kind of record.
    """


@hookspec(firstresult=True)
def postprocess_all(predictions: Sequence[Any]) -> Sequence[Any] | None:
    """Change all predictions of a split, after `postprocess`. Without an implementation, they are unchanged.

    Args:
        predictions: Predictions of the task: one `lannunet_landmarks.Prediction` per image, or one
            `lannunet_segmentation.SegmentedCase` per case, whose label file may be rewritten.

    Returns:
        The same number of predictions, in the same order.
    """


@hookspec
def report(predictions: Sequence[Any]) -> Sequence[ReportPart]:  # type: ignore[empty-body]
    """Additional parts of the report: figures and pictures (collecting).

    Args:
        predictions: As passed to `metrics`.
    """


@hookspec
def observe(event: Event) -> None:
    """Receive the events of a run: start, each batch, each epoch's end, end and failure. For trackers.

    An exception at the start ends the run, before anything is trained. A later one does not, as the training
    is worth more than its record: a warning names the plugin, and the other plugins are still notified.
    """


@hookspec(firstresult=True)
def debug_sample(batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool | None:
    """With `sampler.debug`: write pictures of a training batch and its labels to `folder`.

    Called for each batch until it returns True: return False to get the next one too.

    Args:
        batch: The batch as the network gets it. `batch["before"]` has its source: the `image` before
            augmentation (`task: segmentation`: the part that the patch shows), its `landmarks` and `states`
            (`task: landmarks`) or its `label` (`task: segmentation`), the exact `transform` (a `Drawn` each,
            with elastic part and intensity operations) and the `centre` (B, D) of the sample, in its pixels.
        labels: The labels of the batch.
        folder: Created if it does not exist.
    """


# task: landmarks -------------------------------------------------------------------------------------------


EvaluationMode = Literal["scale_heatmap_first", "scale_pred_coords", "use_input_size"]


class State(IntEnum):
    """The annotation of one landmark in one sample. Missing is not zero."""

    VISIBLE = 0
    """Annotated, and inside the network's input."""
    OUTSIDE = 1
    """Annotated, but moved out by crop, patch or augmentation: a known negative."""
    ABSENT = 2
    """Annotated as `"absent"`: a known negative."""
    UNLABELLED = 3
    """Unlabelled (`null`): contributes nothing to loss or metrics."""


@runtime_checkable
class SigmaLoss(Loss, Protocol):
    """A `Loss` that can also learn the labels' widths (`solver.regress_sigma`)."""

    def learn_sigma(self, widths: Callable[[], Tensor], start: float, weight: float) -> None:
        """Called once, if widths are to be learned: labels then hold `sigmas` as passed to `generate_labels`.

        The minimum of most losses alone is a width of 0 or infinity; see docs/learned_sigma.md.

        Args:
            widths: Returns the current widths in input pixels: (N,), or (N, D, D) under `covariance`.
            start: Initial width of all.
            weight: `solver.regress_sigma_loss_weight`.
        """


@runtime_checkable
class StridedLoss(Loss, Protocol):
    """A `Loss` whose activation depends on the resolution of the maps.

    Attributes:
        stride: Input pixels per pixel of the finest maps; set before each activation.
    """

    stride: float


@dataclass(frozen=True)
class Coordinates:
    """The return value of the hook `get_coords_from_heatmap`.

    Attributes:
        points: (B, N, D) in input pixels; NaN where the map is flat.
        confidence: (B, N) in 0 … 1, higher is more certain; 0 where the map is flat.
        covariance: (B, N, D, D) in input pixels², or None.
        presence: (B, N) the probability that the landmark is in the image, or None.
    """

    points: Tensor
    confidence: Tensor
    covariance: Tensor | None = None
    presence: Tensor | None = None


Decoder = Callable[..., Coordinates]
"""Takes the arguments of `get_coords_from_heatmap` by keyword, except `image_size`."""


@asked_in("landmarks")
@hookspec(firstresult=True)
def generate_labels(
    landmarks: Tensor,
    states: Tensor,
    corner: Tensor,
    image_size: tuple[int, ...],
    sigmas: Tensor,
    num_res_levels: int,
    level_sizes: Sequence[tuple[int, ...]],
    lambda_scale: float,
    sample: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The labels of one batch, computed on the run's device; gradients reach `sigmas`.

    Args:
        landmarks: (B, N, D) in pixels of the network's input; NaN where there is no point.
        states: (B, N) of `State`.
        corner: (B, D) first pixel of the sample in the image it was cut from, for information.
        image_size: Size (x, y[, z]) of the network's input.
        sigmas: (L, N) width of each landmark's Gaussian, in pixels of each level. With `solver.regress_sigma:
            covariance` it is (L, N, D, D): symmetric positive definite matrices, the square roots of the
            covariances, in x, y[, z]. `gaussian_heatmaps` accepts both; multiplying either scales the width.
            Gradients reach both if they are learned.
        num_res_levels: L.
        level_sizes: Size (x, y[, z]) of each of the network's outputs, finest first.
        lambda_scale: The peak of a heatmap.
        sample: The whole collated batch, with everything that a data set or an extension added.

    Returns:
        A dict of tensors (or lists of them, one per level) with at least `state` (B, N), and `weight` (B, N)
        if landmarks have weights.
    """


@asked_in("landmarks")
@hookspec(firstresult=True)
def get_coords_from_heatmap(
    heatmaps: Any,
    affine: Tensor,
    original_sizes: Tensor,
    evaluation_mode: EvaluationMode,
    image_size: tuple[int, ...],
) -> Coordinates | None:
    """Coordinates from one batch of activated maps.

    Args:
        heatmaps: The network's outputs after the loss's `activation`.
        affine: (B, D + 1, D + 1) float64 from input pixels to original pixels.
        original_sizes: (B, D) int64 sizes (x, y[, z]) of the original images.
        evaluation_mode: `scale_heatmap_first` decodes at the original resolution, the others at the input's.
        image_size: Size (x, y[, z]) of the network's input; maps may be coarser.
    """


@asked_in("landmarks")
@hookspec
def decoders() -> Mapping[str, Callable[[], Decoder]]:  # type: ignore[empty-body]
    """Additional names for `inference.decoder`, each with a function that builds it (collecting)."""


@asked_in("landmarks")
@hookspec(firstresult=True)
def stitch_heatmap(patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Any) -> Any | None:
    """The outputs for a whole image from those of its patches, with `patchify_and_stitch`.

    The loss's `activation`, which normalises over the whole map, is applied to the result.

    Args:
        patches: An iterable that can be read once: the network's raw outputs in float32 for a batch of
            patches, and these patches' first pixels (x, y[, z]) in the image. Sum them one by one: an image
            has more of them than fit into memory. Each is computed when it is requested.
        windows: Positions of all patches, and the weights of their pixels.

    Returns:
        The argument of the loss's `activation` for one image: a nest of tensors (1, K, *S).
    """


@asked_in("landmarks")
@hookspec(firstresult=True)
def debug_prediction(
    batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Any], folder: Path
) -> bool | None:
    """With `inference.debug`: write pictures of predicted maps to `folder`; True when done."""


# task: segmentation ----------------------------------------------------------------------------------------


@runtime_checkable
class BalancedLoss(Loss, Protocol):
    """A `Loss` that depends on the frequency of each class."""

    def balance(self, voxels: Sequence[int]) -> None:
        """Called once before training.

        Args:
            voxels: (K,) number of annotated voxels of each class in the training cases.
        """


@dataclass(frozen=True)
class ExtraMap:
    """An additional spatial array of each case, from a plugin's `extra_maps` hook. It must pickle.

    Attributes:
        name: Unique name within the run.
        role: `weight` and `mask` are multiplied into `labels["weight"]`, `label` is only passed along.
        interpolation: How it is resampled and augmented.
        fill: Its value outside of the image.
        paths: The file of each training case, by its id: one number per voxel, (*S) or (1, *S), in the grid
            of the case's image file (of a preprocessed folder: of the preprocessed image). Other cases
            may have a weight or mask too, for their weighted Dice.
    """

    name: str
    role: Literal["weight", "mask", "label"]
    interpolation: Literal["linear", "nearest"]
    fill: float
    paths: Mapping[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the map in a batch."""
        return f"map.{self.name}"


@asked_in("segmentation")
@hookspec(firstresult=True)
def generate_segmentation_labels(
    sample: Mapping[str, Any], level_sizes: Sequence[tuple[int, ...]]
) -> dict[str, Any] | None:
    """The labels of one batch, computed on the run's device.

    Args:
        sample: The whole collated batch. It has `label` (B, *S), −1 where there is no annotation, and, where
            extensions provide weights or masks, their product `weight` (B, *S). Where cases lack the
            annotation of some classes, `annotated` (B, K) is False there; the labels of the loss have it too.
        level_sizes: Size (x, y[, z]) of each of the network's outputs, finest first.

    Returns:
        A dict with `segmentation`, a list of (B, *S_l) of integers, one per level, and `weight`, the same,
        where there are weights or masks.
    """


@asked_in("segmentation")
@hookspec(firstresult=True)
def get_segmentation(maps: Tensor) -> Tensor | None:
    """The labels of an evaluated case.

    Called for one slab of a case after the other, in the grid of its image file, so that memory need not hold
    all classes of a whole volume at once.

    Args:
        maps: (K, *S) activated maps of a slab, averaged over the patches that show it. Where a data set has
            regions, K are these, and `run.regions` gives the label values of each.

    Returns:
        (*S) label values, integers.
    """


@asked_in("segmentation")
@hookspec
def extra_maps(dataset: Any, folder: Path) -> Sequence[ExtraMap]:  # type: ignore[empty-body]
    """Additional arrays of one number per voxel, requested once per run (collecting).

    They are resampled, cut and augmented with their image. Those of role `weight` or `mask` are multiplied
    into `labels["weight"]`, so the plugin need not replace the loss.

    Called only for training, because prediction needs no maps. With `trainer.inference_only`, and in
    `lannunet predict`, it is not called, and there are no weighted metrics.

    Args:
        dataset: The `lannunet_segmentation.SegmentationDataset`, with its cases and their files.
        folder: Folder for maps that the plugin computes, next to the runs, which share it; may not exist.

    Returns:
        Each map, with the file of each training case.
    """
