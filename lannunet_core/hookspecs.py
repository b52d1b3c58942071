"""The whole contract between the core, its tasks and their plugins.

A plugin implements a hook by a method of the same name under `@hookimpl`, taking only the arguments it needs.
Shapes: B batch, C channels, N landmarks, K classes, D dimensions (2 or 3), S spatial sizes ([z,] y, x), L
supervised resolutions. Points and `*_size` arguments are (x, y[, z]); tensors are (…, [z,] y, x).

Hooks with a single result ask the plugins from the last listed extension down to the defaults of the task;
the first result counts. Collecting hooks gather the results of all. Which task asks for a hook is said by the
heading that it stands under; a task may provide specifications of its own beside these.
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
    """Says which tasks ask for a hook; without it, every task does."""

    def mark(specification: Specified) -> Specified:
        specification.lannunet_tasks = tasks  # type: ignore[attr-defined]
        return specification

    return mark


# What hooks give and get, in every task --------------------------------------------------------------------


class Loss(Protocol):
    """The return value of the hook `loss`. An `nn.Module` where it has parameters or buffers.

    A loss that averages over its batch uses `sum_over_processes`, for runs on several devices.
    """

    def __call__(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """Named terms, each a scalar; the total is their sum. Called outside of autocast, in float32.

        Args:
            outputs: The network's outputs.
            labels: What was made of the batch; `labels["extra"]` are the additional fields of its samples.
        """

    def activation(self, outputs: Any) -> Any:
        """Raw outputs to maps: 0 is background and 1 as certain as a perfect label's peak."""


class TrainingStep(Protocol):
    """What the `training_step` hook is given: one batch, and what a step is made of.

    Attributes:
        batch: On the device, augmented.
        epoch: Of the run, from 0.
        number: Of the batch in its epoch, from 0.
        module: Network, loss and what else is learned (`module.network`, `module.loss`), as it was set up for
            the device.
        optimizers: Those that `optimizer_and_scheduler` returned.
    """

    batch: Mapping[str, Any]
    epoch: int
    number: int
    module: Any
    optimizers: Sequence[Any]

    def losses(self, batch: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """The terms of the run's loss for a batch, this step's unless another is given."""

    def backward(self, total: Tensor) -> None:
        """Backward pass; over the batches of `solver.accumulate`, gradients are averaged."""

    def update(self, *optimizers: Any) -> None:
        """Clip gradients (`solver.clip_gradient_norm`), step, reset gradients, and step the schedulers.

        Does so once in `solver.accumulate` batches. Of the optimizers given, else of all.
        """

    def usual(self) -> dict[str, Tensor]:
        """The core's own step: losses, backward, update. Gives a closure to optimizers that need one."""


class Sampling(Protocol):
    """The return value of the hook `sampling`. Travels to loader workers, so it pickles."""

    @property
    def output_size(self) -> tuple[int, ...]:
        """Size (x, y[, z]) of what is cut."""

    @property
    def centre(self) -> Callable[..., Floats]:
        """Where the centre of the next sample lies, in pixels (D,) of the image it is cut from.

        A method that takes, by name, those of these arguments that it needs.

        Args:
            rng: A NumPy generator that belongs to this draw.
            image_size: (x, y[, z]).
            transform: What was drawn for this sample: `transform.to_source(points, centre, output_size)` says
                which image pixel an output pixel will show.
            sample: The data set's entry: a `lannunet_landmarks.Sample`, or a
                `lannunet_segmentation.PreparedCase`, which knows the voxels of each class and those that are
                annotated.
            affine: (D + 1, D + 1) from pixels of the image to original pixels.
            epoch: Of the run, from 0.
            landmarks: `task: landmarks`. (N, D) in pixels of the image; NaN where there is no point.
            states: `task: landmarks`. (N,) of `State`.
        """


class Augmenter(Protocol):
    """The return value of the hook `augmenter`. Travels to loader workers, so it pickles."""

    def __call__(
        self, image: NDArray[Any], drawn: Drawn, centre: Floats, output_size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Apply what a scheme drew for one sample.

        Args:
            image: (C, *S) floats, normalised.
            drawn: The draw.
            centre: (D,) source pixel (x, y[, z]) that is cut around; (S − 1) / 2 for a whole image.
            output_size: (x, y[, z]).

        Returns:
            (C, *output) float32, 0 outside of the source. A point of the source is at
            `drawn.spatial.to_output` in it.
        """


class Normalisation(Protocol):
    """What a name of `normalisations` builds. Travels to loader workers, so it pickles."""

    def __call__(self, channel: NDArray[np.float32]) -> NDArray[np.float32]:
        """One channel (*S) of an image as the network sees it; what lies outside of the image is 0."""


@dataclass(frozen=True)
class ReportPart:
    """A part of the report that a plugin provides.

    Attributes:
        title: Its heading.
        text: What it shows, in a sentence.
        figure: A matplotlib Figure; None: there is none.
        picture: (y, x, 3) of uint8; None: there is none.
    """

    title: str
    text: str = ""
    figure: Any = None
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Event:
    """What `observe` is notified of.

    Attributes:
        name: `start`, `batch` (once the losses of a training step are read, by when `module` has taken the
            next one too, except at the end of an epoch), `epoch`, `end` or `failure`.
        output_dir: The run's folder.
        values: Numbers and names of the moment: at the start what `run.json` says and `epoch`, how many
            epochs are done (those before a resume); `epoch`, `batch` and the loss's `terms` of a batch; the
            losses and the learning rate of an epoch; the summary at the end; the error's text at a failure.
        module: Network, loss and what else is learned (`module.network`, `module.loss`).
    """

    name: Literal["start", "batch", "epoch", "end", "failure"]
    output_dir: Path
    values: Mapping[str, Any]
    module: nn.Module


# Hooks of every task ---------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def network() -> nn.Module | None:
    """The network to train. The one hook that a new architecture needs; asked for once a run.

    Returns:
        A module that maps an image (B, C, *S) to one tensor (B, N, *S), or to a list of them with the finest
        resolution first, or to any nest of tensors that the same plugin's labels, loss and decoding
        understand. Levels and their sizes are read from its outputs: maps may be coarser than the image, and
        tensors without spatial axes are no levels.
    """


@hookspec
def network_inputs(batch: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Additional inputs of the network, asked for before each forward pass (collecting).

    Args:
        batch: As collated and augmented. `image` is (B, C, *S), also when it is mirrored or cut into patches;
            `affine` (B, D + 1, D + 1) says where its pixels lie in the original image; `extra` has the
            additional fields of the samples, and is empty for standalone images.

    Returns:
        What `network` is called with by name, beside the image.
    """


@hookspec
def initial_weights(network: nn.Module) -> None:
    """Load pretrained weights into the network, in place (collecting).

    Called once, when a training begins; not when one goes on, and not when a trained model is used, which
    has its own weights.

    Args:
        network: The return value of `network`.
    """


@hookspec(firstresult=True)
def optimizer_and_scheduler(
    module: nn.Module, solver: SolverConfig, base_lr: float, total_steps: int
) -> tuple[Any, Any] | None:
    """The optimizer over all learnable parameters, and a scheduler or None; asked for once a run.

    Either may be a list of several. A scheduler is stepped after each step of its optimizer; one that waits
    for a plateau, after each validation, with the figure of `trainer.monitor`. In a run that was
    shortened (`solver.shortened`) it is stepped several times at once, so that it is through at the end.

    Args:
        module: Holds the network, the label parameters and the loss; optimise `module.parameters()`.
        solver: The `solver` section.
        base_lr: `solver.base_lr`, with `auto` resolved for the configured optimizer.
        total_steps: How many optimizer steps the run takes.
    """


@hookspec(firstresult=True)
def training_step(step: TrainingStep) -> Mapping[str, Tensor] | None:
    """One training step, of which the core's own is `step.usual()`.

    Args:
        step: The batch, and what a step is made of.

    Returns:
        Named terms, each a scalar, to be recorded.
    """


@hookspec(firstresult=True)
def loss() -> Loss | None:
    """The loss, asked for once a run; see `Loss`."""


@hookspec
def losses() -> Mapping[str, Callable[[], Loss]]:  # type: ignore[empty-body]
    """Additional names for `solver.loss_function`, each with what builds it (collecting)."""


@hookspec(firstresult=True)
def sampling() -> Sampling | None:
    """Where training samples are cut from their image, asked for once a run; see `Sampling`."""


@hookspec(firstresult=True)
def training_order(samples: Sequence[Any]) -> Callable[..., Sequence[int]] | None:
    """Which training samples an epoch has, and in which order; asked for once a run.

    If no plugin implements the hook, each sample is shown as often, in an order that is drawn again for each
    round.

    Args:
        samples: The entries of the training split, as `Sampling.centre` gets them.

    Returns:
        A function that takes, by name, those that it needs of `epoch` (from 0), `count` (how many samples the
        epoch shows) and `rng` (a NumPy generator of that epoch), and returns `count` indices of `samples`. It
        must be a function of these alone, or a resumed run is another one.
    """


@hookspec
def normalisations() -> Mapping[str, Callable[[], Normalisation]]:  # type: ignore[empty-body]
    """Additional names for the key `normalisation`, each with what builds it (collecting)."""


@hookspec
def augmentations() -> Mapping[str, Callable[[], Scheme]]:  # type: ignore[empty-body]
    """Additional names for `sampler.data_aug`, each with what builds its `Scheme` (collecting)."""


@hookspec(firstresult=True)
def augmenter() -> Augmenter | None:
    """What applies the augmentation in the loader's workers; see `Augmenter`.

    Asked for where `sampler.data_aug_package` names this plugin. Without, the core augments whole batches on
    the run's device, in torch.
    """


@hookspec
def metrics(predictions: Sequence[Any]) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Named metrics of this plugin's own, for the summary of an evaluated split (collecting).

    Args:
        predictions: Those of the task: a `lannunet_landmarks.Prediction` an image, a
            `lannunet_segmentation.SegmentedCase` a case.
    """


@hookspec
def validation_metrics(predictions: Sequence[Any]) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Named metrics of this plugin's own at each validation (collecting).

    They are recorded with the epoch. `trainer.monitor` may name one to choose the best model by and to stop
    early: the lower, the better; with a minus before its name, the higher.

    Args:
        predictions: Of the validation split: a `lannunet_landmarks.Prediction` an image, a
            `lannunet_segmentation.SegmentedImage` a case.
    """


@hookspec(firstresult=True)
def postprocess(prediction: Any) -> Any | None:
    """One prediction, changed after the model made it. If no plugin implements the hook, it stays as it is.

    Args:
        prediction: Of the task: a `lannunet_landmarks.Prediction`, or a
            `lannunet_segmentation.SegmentedImage` with the label map (*S) of a case.

    Returns:
        The same kind of record.
    """


@hookspec(firstresult=True)
def postprocess_all(predictions: Sequence[Any]) -> Sequence[Any] | None:
    """All predictions of a split, changed together after each was. If no plugin implements the hook, they
    stay as they are.

    Args:
        predictions: Of the task: a `lannunet_landmarks.Prediction` an image, a
            `lannunet_segmentation.SegmentedCase`, whose label file may be written again, a case.

    Returns:
        As many, in the same order.
    """


@hookspec
def report(predictions: Sequence[Any]) -> Sequence[ReportPart]:  # type: ignore[empty-body]
    """Additional parts of the report: figures and pictures (collecting).

    Args:
        predictions: As `metrics` gets them.
    """


@hookspec
def observe(event: Event) -> None:
    """Told of a run's start, each batch, each epoch's end, its end and its failure: for trackers and the
    like.

    What it raises at the start ends the run, before anything is trained. Later, the training is worth more
    than its record: the run goes on, a warning names the plugin and the cause, and the other plugins are
    notified.
    """


@hookspec(firstresult=True)
def debug_sample(batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool | None:
    """With `sampler.debug`: write pictures of a training batch and its labels to `folder`.

    Asked for each batch until the answer is True: answer False to see the next one too.

    Args:
        batch: As the network gets it. `batch["before"]` has what it was made of: the `image` before
            augmentation (`task: segmentation`: the part that the patch shows), the `landmarks` and `states`
            there (`task: landmarks`) or the `label` (`task: segmentation`), the exact `transform` (a `Drawn`
            each, elastic part and intensity operations included) and the `centre` (B, D) that was cut around,
            in its pixels.
        labels: What was made of it.
        folder: Made if need be.
    """


# task: landmarks -------------------------------------------------------------------------------------------


EvaluationMode = Literal["scale_heatmap_first", "scale_pred_coords", "use_input_size"]


class State(IntEnum):
    """What is known of one landmark in one sample. Missing is not zero."""

    VISIBLE = 0
    """Annotated, and inside what the network sees."""
    OUTSIDE = 1
    """Annotated, but moved out by crop, patch or augmentation: a known negative."""
    ABSENT = 2
    """Annotated as `"absent"`: a known negative."""
    UNLABELLED = 3
    """Nobody looked (`null`): contributes nothing to loss or metrics."""


@runtime_checkable
class SigmaLoss(Loss, Protocol):
    """A `Loss` that can also learn the labels' widths (`solver.regress_sigma`)."""

    def learn_sigma(self, widths: Callable[[], Tensor], start: float, weight: float) -> None:
        """Called once, when they are to be learned: labels then hold `sigmas` as `generate_labels` got them.

        Of the loss by itself most are drawn to 0 or to infinity; docs/learned_sigma.md derives what to
        minimise.

        Args:
            widths: Gives the present ones in input pixels: (N,), or (N, D, D), symmetric, under `covariance`.
            start: What all started with.
            weight: `solver.regress_sigma_loss_weight`.
        """


@runtime_checkable
class StridedLoss(Loss, Protocol):
    """A `Loss` whose activation depends on how coarse the maps are.

    Attributes:
        stride: Input pixels to a pixel of the finest maps; set before each activation.
    """

    stride: float


@dataclass(frozen=True)
class Coordinates:
    """The return value of the hook `get_coords_from_heatmap`.

    Attributes:
        points: (B, N, D) in input pixels; NaN where the map is flat.
        confidence: (B, N) in 0 … 1, higher is more certain; 0 where the map is flat.
        covariance: (B, N, D, D) in input pixels², or None.
        presence: (B, N) the probability that the landmark is in the image at all, or None.
    """

    points: Tensor
    confidence: Tensor
    covariance: Tensor | None = None
    presence: Tensor | None = None


Decoder = Callable[..., Coordinates]
"""Takes the arguments of `get_coords_from_heatmap` by keyword, but `image_size`: the core sees to coarser
maps."""


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
    """The labels of one batch, made on the run's device; gradients reach `sigmas`.

    Args:
        landmarks: (B, N, D) in pixels of the tensor that the network sees; NaN where there is no point.
        states: (B, N) of `State`.
        corner: (B, D) first pixel of the sample in the image it was cut from, for information.
        image_size: (x, y[, z]) of the tensor that the network sees.
        sigmas: (L, N) width of each landmark's Gaussian, in pixels of each level. With `solver.regress_sigma:
            covariance` it is (L, N, D, D): symmetric positive definite matrices, the squares of which are the
            covariances, in x, y[, z]. `gaussian_heatmaps` takes both, and a multiple of either is as much
            wider. Gradients reach either when they are learned.
        num_res_levels: L.
        level_sizes: Size (x, y[, z]) of each of the network's outputs, finest first.
        lambda_scale: The peak of a heatmap.
        sample: The whole collated batch: what a dataset or an extension added is in it.

    Returns:
        A dict of tensors (or lists of them, one per level) with at least `state` (B, N), and `weight` (B, N)
        where landmarks are weighed.
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
        heatmaps: What the loss's `activation` made of the network's outputs.
        affine: (B, D + 1, D + 1) float64 from input pixels to original pixels.
        original_sizes: (B, D) int64 sizes (x, y[, z]) of the original images.
        evaluation_mode: `scale_heatmap_first` decodes at the original resolution, the others at the input's.
        image_size: (x, y[, z]) of the tensor that the network saw; maps may be coarser.
    """


@asked_in("landmarks")
@hookspec
def decoders() -> Mapping[str, Callable[[], Decoder]]:  # type: ignore[empty-body]
    """Additional names for `inference.decoder`, each with what builds it (collecting)."""


@asked_in("landmarks")
@hookspec(firstresult=True)
def stitch_heatmap(patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Any) -> Any | None:
    """The outputs for a whole image from those for patches of it, with `patchify_and_stitch`.

    What normalises over the whole map, the loss's `activation`, comes after it.

    Args:
        patches: To be gone through once: the network's raw outputs in float32 for a batch of patches, and
            these patches' first pixels (x, y[, z]) in the image. Add them up as they come: an image has more
            of them than fit into memory. Nothing is computed before they are asked for.
        windows: Where all patches lie, and what the pixels of each should weigh.

    Returns:
        What the loss's `activation` takes, for one image: a nest of tensors (1, K, *S).
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
    """A `Loss` that depends on how often each class is."""

    def balance(self, voxels: Sequence[int]) -> None:
        """Called once before training.

        Args:
            voxels: (K,) how many voxels of the training cases are annotated as each class.
        """


@dataclass(frozen=True)
class ExtraMap:
    """An additional spatial array of each case, from a plugin's `extra_maps` hook. Pickles.

    Attributes:
        name: Unique within the run.
        role: What the task does with it: `weight` and `mask` are multiplied into `labels["weight"]`, `label`
            is only brought along.
        interpolation: How it is resampled and augmented.
        fill: Its value outside of the image.
        paths: The file of each training case, by its id: one number per voxel, (*S) or (1, *S), in the grid
            of the case's image file (of a preprocessed folder: in that of the preprocessed image). Other
            cases may have a weight or mask too, for their weighted Dice.
    """

    name: str
    role: Literal["weight", "mask", "label"]
    interpolation: Literal["linear", "nearest"]
    fill: float
    paths: Mapping[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Under which a batch has it."""
        return f"map.{self.name}"


@asked_in("segmentation")
@hookspec(firstresult=True)
def generate_segmentation_labels(
    sample: Mapping[str, Any], level_sizes: Sequence[tuple[int, ...]]
) -> dict[str, Any] | None:
    """The labels of one batch, made on the run's device.

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

    Asked for slab after slab of a case in the grid of its image file, so that all classes of a whole volume
    need not be in memory at once.

    Args:
        maps: (K, *S) activated maps of a slab, averaged over the patches that show it. Where a data set has
            regions, K are these, and `run.regions` gives the label values of each.

    Returns:
        (*S) label values, integers.
    """


@asked_in("segmentation")
@hookspec
def extra_maps(dataset: Any, folder: Path) -> Sequence[ExtraMap]:  # type: ignore[empty-body]
    """Additional arrays of one number per voxel, asked for once a run (collecting).

    They are resampled, cut and augmented with their image. Those of role `weight` or `mask` are multiplied
    into `labels["weight"]`, so a plugin that provides them needs no loss of its own.

    Asked for training only: a model in use needs no maps. With `trainer.inference_only`, and by `lannunet
    predict`, it is not asked, and there are no weighted figures.

    Args:
        dataset: The `lannunet_segmentation.SegmentationDataset`, with its cases and their files.
        folder: For maps that the plugin makes itself, beside the folders of runs, which share it; may not
            exist yet.

    Returns:
        Each map, with the file of each training case.
    """
