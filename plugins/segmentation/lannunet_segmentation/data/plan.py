"""A run's configuration from the data, by nnU-Net's rules (Isensee et al. 2021), for a given time.

Sizes and spacings are (x, y[, z]). The architecture defines which networks exist and what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lannunet_core import Choice, NetworkRequest, Plan, PlannedNetwork, PlanRequest
from lannunet_segmentation.data.budget import (
    GPU,
    LEAST_STEPS,
    TWO_CORES,
    Budget,
    choose_batch,
    choose_network,
)
from lannunet_segmentation.data.coarse import ENOUGH, Coarse, covered, first_stage
from lannunet_segmentation.data.fingerprint import Fingerprint
from lannunet_segmentation.data.places import RESULTS, results_of
from lannunet_segmentation.types import SegmentationDataset

ANISOTROPIC = 3.0  # ratio of coarsest to next coarsest spacing
STRIPPED = 0.75
"""If nonzero voxels are a smaller share of an image, its background was set to zero (nnU-Net's share)."""
RESCALED = ("rescale_to_0_1", "rescale_0_1", "rgb_to_0_1")  # channel names that request it
BASE_MINUTES, BASE_VOXELS, MOST_MINUTES = 7.5, 2e6, 240.0
LEAST_CASCADE = 2.0
"""Minutes of a cascade. On four generated sets, 0.2 minutes end at a mean Dice of 0.21 in two stages (the
first alone: 0.32), of 0.35 in one; between these times nothing was measured."""
NNUNET, UPRIGHT = "nnunet", "nnunet_upright"
SHORT_STEPS = 10_000
"""Up to this many steps, images with the same orientation are not mirrored. On the hippocampus, 750 steps
end at a Dice of 0.838 with `Upright` and of 0.827 with `nnunet`, 0.835 if that predicts mirrored views too;
2250 at 0.846 with `UprightElastic`, 0.843 with `nnunet` and mirrored views, and 0.856 with `nnunet_upright`,
which has the moves of the former and the intensities of the latter (docs/recipe.md). nnU-Net's scheme is made
for 250,000 steps; the number of steps at which both are equal was not measured."""
ALIGNED = 0.9
"""Images whose files do not state the same axes have the same orientation if their `alignment` is at least
this; 2D slices of the hippocampus: 0.99."""


def make_plan(found: Fingerprint, request: PlanRequest) -> Plan:
    """Choose how to train.

    Args:
        found: Properties of the data.
        request: Request of the user.
    """
    dataset, machine = found.dataset, GPU if request.gpu else TWO_CORES
    extensions, architecture = [plugin.name for plugin in request.extensions], request.architecture[0].name
    spacing, why_spacing = choose_spacing(found)
    sizes = prepared_sizes(found, spacing)
    median = tuple(float(side) for side in np.median(sizes, axis=0))
    voxels = float(np.prod(sizes, axis=1, dtype=np.float64).sum())
    minutes, why_minutes = (request.minutes, "as asked for") if request.minutes else choose_minutes(voxels)
    budget = Budget(request.memory_gb * 1e9, minutes * 60, machine)
    channels, own_spacing = len(dataset.channel_names), np.median(found.spacings, axis=0).tolist()
    asked = NetworkRequest(median, tuple(spacing or own_spacing), channels, len(dataset.outputs))
    guessed = not request.offered(asked)

    def network_for(asked: NetworkRequest, budget: Budget) -> PlannedNetwork:
        return choose_network(
            asked.sides, lambda sides: request.networks(replace(asked, sides=tuple(sides))), budget
        )

    whole, network = median, network_for(asked, budget)
    refined: list[Choice] = []
    enough_time = minutes >= LEAST_CASCADE
    if spacing is not None and enough_time and (share := covered(network, median)) < ENOUGH:
        half = replace(budget, seconds=budget.seconds / 2)
        first = first_stage(
            spacing, median, lambda step, size: network_for(replace(asked, spacing=step, sides=size), half)
        )
        if first is not None:
            seen = len(dataset.class_names) - 1
            second = network_for(replace(asked, in_channels=channels + seen), half)
            refined = _second_stage(request, second, median, spacing, why_spacing, voxels, half, guessed)
            spacing, why_spacing = first.spacing, _why_coarse(network, share, first)
            voxels *= math.prod(first.median) / math.prod(median)
            median, network, budget = first.median, first.network, half
            why_minutes += "; half of it for each stage"
    batch, why_batch = choose_batch(network, voxels, budget)
    normalisation, clips, why_normalisation = choose_normalisation(found)
    why_clips = (
        "0.5 and 99.5 percentile, mean and deviation of the annotated foreground" if any(clips) else "no CT"
    )
    fold, why_fold, split, why_split = choose_fold(dataset)
    name = (dataset.path.parent if dataset.layout == "preprocessed" else dataset.path).resolve().name
    steps = budget.seconds / budget.seconds_of(network, batch)
    choices = [
        Choice("task", "segmentation", ""),
        Choice("dataset.root", replace(request, dataset=dataset.path).root, ""),
        Choice("preprocess.spacing", None if spacing is None else list(spacing), why_spacing),
        Choice("preprocess.normalisation", normalisation, why_normalisation),
        Choice("preprocess.clip", clips, why_clips),
        Choice(
            "sampler.patch.sample_patch_size",
            list(network.size),
            _why_patch(network, median, budget, guessed),
        ),
        Choice("sampler.data_aug", *choose_scheme(found, steps)),
        Choice("solver.budget_minutes", minutes, why_minutes),
        Choice("solver.data_loader_batch_size_train", batch, why_batch),
        Choice(
            "solver.mini_batch_size",
            machine.batches,
            f"batches per epoch; {machine.name} may make about {float(f'{steps:.2g}'):.0f} steps in the time",
        ),
        Choice("trainer.fold", fold, why_fold),
        Choice("trainer.plugins", extensions, _why_plugins(found, extensions)),
        *request.choices_of_extensions(median, network.size),
        Choice("model.architecture", architecture, _why_default_settings() if guessed else ""),
        *_settings(architecture, network),
    ]
    if choose_scheme(found, steps)[0] == NNUNET:
        views = 2**dataset.dimensions
        choices.append(Choice("inference.tta", True, f"the mean of {views} mirrored views, as in nnU-Net"))
    if split != "testing":
        choices.append(Choice("inference.split", split, why_split))
    choices += refined
    choices.append(Choice("output.output_dir", *_output(request, name)))
    return Plan(_about(found, whole, request), tuple(choices))


def choose_scheme(found: Fingerprint, steps: float) -> tuple[str, str]:
    """The augmentation, by whether anatomy has the same orientation in all images and by the run's length."""
    if not found.same_axes and found.alignment < ALIGNED:
        return NNUNET, "nnU-Net's, with mirrors: the orientation of the images differs, or is not known"
    if steps > SHORT_STEPS:
        return NNUNET, "nnU-Net's"
    return UPRIGHT, (
        "nnU-Net's changes of intensity, rotations of up to 15 degrees, no mirrors: in few steps, a network "
        "learns more if images have the same orientation"
    )


def choose_spacing(found: Fingerprint) -> tuple[tuple[float, ...] | None, str]:
    """The spacing to resample to: the median; for a much coarser axis with few voxels the tenth percentile.

    As in nnU-Net: over `ANISOTROPIC` times coarser than the next axis, with as many times fewer voxels.
    """
    if found.dataset.layout == "preprocessed":
        return None, "the images are resampled already"
    if not found.states_spacing:
        return None, "the files do not state their spacing, so images keep their size"
    spacings = np.array(found.spacings)
    target = np.median(spacings, axis=0)
    reason = "mm, the median of the training cases"
    if np.allclose(spacings, target, rtol=1e-3):
        reason = "mm; all training cases have it, so none is resampled"
    elif len(target) == 3:
        coarse, size = int(target.argmax()), np.median(found.sizes, axis=0)
        others = np.delete(target, coarse)
        few = size[coarse] * ANISOTROPIC < np.delete(size, coarse).min()
        if few and target[coarse] > ANISOTROPIC * others.max():
            # Never finer than the other axes: interpolated slices add no information.
            target[coarse] = max(np.percentile(spacings[:, coarse], 10), others.max())
            reason = (
                f"mm, the median; for {'xyz'[coarse]}, over {ANISOTROPIC:g} times as coarse as the others "
                "and with as many times fewer voxels, the tenth percentile"
            )
    return tuple(float(f"{step:.6g}") for step in target), reason


def prepared_sizes(found: Fingerprint, spacing: tuple[float, ...] | None) -> list[tuple[int, ...]]:
    """Size of each training case in the target spacing."""
    if spacing is None:
        return list(found.sizes)
    return [
        tuple(max(1, round(side * old / new)) for side, old, new in zip(size, own, spacing, strict=True))
        for size, own in zip(found.sizes, found.spacings, strict=True)
    ]


def choose_minutes(voxels: float) -> tuple[float, str]:
    """Minutes of training for this many voxels; the time grows with the square root of the data."""
    minutes = min(BASE_MINUTES * math.sqrt(max(voxels / BASE_VOXELS, 1.0)), MOST_MINUTES)
    reason = f"of training; {BASE_MINUTES:g} for up to {BASE_VOXELS / 1e6:g} million voxels"
    if minutes > BASE_MINUTES:
        reason += f", growing with the square root; these are {voxels / 1e6:.0f} million"
        reason += f" ({MOST_MINUTES:g} at most)" if minutes == MOST_MINUTES else ""
        return float(math.ceil(minutes)), reason
    return minutes, reason


def choose_normalisation(
    found: Fingerprint,
) -> tuple[list[str], list[list[float] | None], str]:
    """One normalisation per channel, with its clip, and the reason."""
    names = found.dataset.channel_names
    if found.dataset.layout == "preprocessed":
        return ["none"] * len(names), [None] * len(names), "the images are normalised already"
    kinds = {"ct": "ct", "nonorm": "none"}
    image = "nonzero" if found.nonzero_share < STRIPPED else "zscore"
    chosen = [kinds.get(name.casefold(), image) for name in names]
    clips = [
        [float(f"{number:.6g}") for number in intensities] if kind == "ct" else None
        for kind, intensities in zip(chosen, found.intensities, strict=True)
    ]
    whys = {
        "ct": "a CT's numbers have the same meaning in every image: the data set's clip and z-score",
        "none": "as its name requests",
        "zscore": "each image by its own mean and deviation",
        "nonzero": "what is not zero by its own mean and deviation, as the background was set to zero: the "
        f"rest takes {_percent(found.nonzero_share)} of an image",
    }
    reasons = [
        f"{', '.join(name for name, own in zip(names, chosen, strict=True) if own == kind)}: {why}"
        for kind, why in whys.items()
        if kind in chosen
    ]
    if asked := _not_known(found.dataset):
        reasons.append(f"what nnU-Net means by {', '.join(asked)} is not known here")
    return chosen, clips, "; ".join(reasons)


def _not_known(dataset: SegmentationDataset) -> list[str]:
    """The channels whose names request a normalisation of nnU-Net that does not exist here."""
    return [name for name in dataset.channel_names if name.casefold() in RESCALED]


def choose_fold(dataset: SegmentationDataset) -> tuple[int | str, str, str, str]:
    """The fold with its reason, and the split to evaluate with its own."""
    if any(case.label is not None for case in dataset.testing):
        return (
            "all",
            "every case trains, as there are labelled test cases; 0 to 4 holds a fifth out",
            "testing",
            "",
        )
    if len(dataset.training) > 1:
        held_out = "a part is held out, as there are no labelled test cases; all trains on every case"
        return 0, held_out, "validation", "the cases held out"
    return "all", "there is a single case", "training", "there is nothing else"


def _why_patch(network: PlannedNetwork, median: Sequence[float], budget: Budget, guessed: bool) -> str:
    shape = f"the median image of {_times(median)}"
    if all(side >= wanted for side, wanted in zip(network.size, median, strict=True)):
        divisor = "multiples of 32, or of a power of two" if guessed else "what the strides divide"
        return f"{shape}, rounded up to {divisor}"
    if not budget.affords(network):
        return f"as small as is of use, and still too slow for {LEAST_STEPS} steps in the time: give it more"
    return (
        f"in the shape of {shape}, as large as {budget.memory / 1e9:g} GB and {LEAST_STEPS} steps "
        f"in the time on {budget.machine.name} allow"
    )


def _why_coarse(network: PlannedNetwork, share: float, first: Coarse) -> str:
    return (
        f"mm, of the first of two stages: at full resolution a patch of {_times(network.size)} covers "
        f"{_percent(share)} of the median image, less than {_percent(ENOUGH)} (nnU-Net's rule); here it "
        f"covers {_percent(covered(first.network, first.median))}"
    )


def _second_stage(
    request: PlanRequest,
    network: PlannedNetwork,
    median: tuple[float, ...],
    spacing: tuple[float, ...],
    why_spacing: str,
    voxels: float,
    budget: Budget,
    guessed: bool,
) -> list[Choice]:
    """What the second stage of a cascade has of its own; it sees the image and what the first segments."""
    architecture = request.architecture[0].name
    return [
        Choice(f"refine.{one.key}", one.value, one.reason)
        for one in (
            Choice("preprocess.spacing", list(spacing), why_spacing),
            Choice(
                "sampler.patch.sample_patch_size",
                list(network.size),
                _why_patch(network, median, budget, guessed),
            ),
            Choice("solver.data_loader_batch_size_train", *choose_batch(network, voxels, budget)),
            *request.choices_of_extensions(median, network.size),
            *_settings(architecture, network),
        )
    ]


def _settings(architecture: str, network: PlannedNetwork) -> list[Choice]:
    return [
        Choice(f"model.{architecture}.{key}", value, reason)
        for key, (value, reason) in network.settings.items()
    ]


def _why_default_settings() -> str:
    return (
        "with its own defaults; it does not say what it costs: guessed as a wide U-Net's "
        "300,000 multiplications and 1,000 stored numbers per voxel"
    )


def _why_plugins(found: Fingerprint, plugins: Sequence[str]) -> str:
    if plugins:
        return "as asked for"
    if found.annotated < 1:
        return "--plugins sparse draws patches where voxels are annotated"
    every = found.looked_into == len(found.sizes)
    return "all voxels are annotated" + ("" if every else " in the cases seen")


def _output(request: PlanRequest, name: str) -> tuple[str, str]:
    """The run's folder: among nnU-Net's results if the data set was named as in nnU-Net."""
    results = None if request.dataset.exists() else results_of(name)
    return (f"runs/{name}", "") if results is None else (str(results), f"by {RESULTS}")


def _about(found: Fingerprint, median: tuple[float, ...], request: PlanRequest) -> tuple[str, ...]:
    dataset = found.dataset
    own = np.median(found.sizes, axis=0)
    prepared = "" if np.array_equal(own, median) else f", {_times(median)} when resampled"
    size = f" of {_times(np.median(found.spacings, axis=0))} mm" if found.states_spacing else ""
    shares = ", ".join(
        f"{name} {_percent(share)}"
        for name, share in zip(dataset.class_names, found.class_shares, strict=True)
    )
    looked = "" if found.looked_into == len(found.sizes) else f" (seen in {found.looked_into} cases)"
    about = [
        f"{dataset.name}: {len(dataset.training)} training and {len(dataset.testing)} test cases, "
        f"{dataset.dimensions}D, {', '.join(dataset.channel_names)}. The median image has {_times(own)} "
        f"voxels{size}{prepared}.",
        f"Annotated: {_percent(found.annotated)} of the voxels; of these {shares}{looked}.",
    ]
    if request.gpu_name:
        about.append(f"The GPU found here: {request.gpu_name}; the plan uses up to {request.memory_gb:g} GB.")
    if asked := _not_known(dataset):
        about.append(
            f"nnU-Net would rescale {', '.join(asked)} to 0 … 1, which does not exist here: zscore replaces "
            "it."
        )
    absent = [n for n, share in zip(dataset.class_names, found.class_shares, strict=True) if not share]
    if absent:
        about.append(f"No voxel of {', '.join(absent)} is annotated in the cases seen: it cannot be learnt.")
    return tuple(about)


def _times(numbers: Any) -> str:
    return "×".join(f"{number:.3g}" for number in numbers)


def _percent(share: float) -> str:
    """A percentage: 100 % only if all, 0 % only if none."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"
