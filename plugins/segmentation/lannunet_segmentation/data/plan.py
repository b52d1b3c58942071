"""A run's configuration from a look at the data: nnU-Net's rules (Isensee et al. 2021), for a given time.

Sizes, spacings and strides are (x, y[, z]). Everything here needs NumPy and what reads images, not torch.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Plugin, UserError, progress_bar
from lannunet_segmentation.data.folders import case_geometry, check_case, read_case
from lannunet_segmentation.types import Case, SegmentationDataset

CASES_LOOKED_INTO = 32
VOXELS_A_CASE = 10_000
ANISOTROPIC = 3.0  # coarsest over finest spacing
COARSER = 2.0  # an axis whose voxels are so many times longer than the shortest is not halved yet
LEAST_SIDE = 4
MOST_LEVELS = {2: 7, 3: 5}
WIDTHS = (32, 16, 8)
ENOUGH_CONTEXT = {2: 256**2, 3: 64**3}
LEAST_STEPS = 1000
LEAST_BATCH, MOST_BATCH = 2, 16
SHARE_OF_VOXELS = 0.05
BASE_MINUTES, BASE_VOXELS, MOST_MINUTES = 7.5, 2e6, 240.0
BYTES_A_NUMBER = 10  # float32, and what backward and the convolutions need beside it: measured
LINE = 110


@dataclass(frozen=True)
class Machine:
    """What trains, roughly.

    Attributes:
        name: In reasons.
        products: Multiplications a second.
        numbers: Activations a second that are written and read again.
        voxels: Patch voxels a second that are augmented and labelled.
        batches: An epoch.
    """

    name: str
    products: float
    numbers: float
    voxels: float
    batches: int


@dataclass(frozen=True)
class Budget:
    """What a run may cost.

    Attributes:
        memory: Bytes that a training step may take.
        seconds: Of training.
        machine: What trains.
    """

    memory: float
    seconds: float
    machine: Machine

    def affords(self, network: Network) -> bool:
        """Whether the smallest batch fits, and the least number of steps."""
        return (
            network.memory(LEAST_BATCH) <= self.memory
            and network.seconds(LEAST_BATCH, self.machine) * LEAST_STEPS <= self.seconds
        )


TWO_CORES = Machine("two CPU cores", 200e9, 0.8e9, 4e6, 50)  # as measured with U-Net
GPU = Machine("a GPU", 1.5e12, 25e9, 1e8, 250)


@dataclass(frozen=True)
class Fingerprint:
    """What a plan follows from.

    Attributes:
        dataset: The data set.
        sizes: Of each training case, from its header.
        spacings: Likewise, in mm.
        looked_into: How many of the cases the following comes from.
        intensities: For each channel the 0.5 and 99.5 percentile, mean and standard deviation of annotated
            foreground; of all voxels where none is annotated.
        class_shares: Of the annotated voxels, by class.
        annotated: Share of voxels that are annotated.
    """

    dataset: SegmentationDataset
    sizes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    looked_into: int
    intensities: tuple[tuple[float, float, float, float], ...]
    class_shares: tuple[float, ...]
    annotated: float


@dataclass(frozen=True)
class Choice:
    """A line of the configuration.

    Attributes:
        key: Such as `solver.budget_minutes`.
        value: A number, a string, or a list of them.
        reason: Why; may be empty.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """A configuration with its reasons.

    Attributes:
        about: What was found, a paragraph each.
        choices: In the order in which they are written.
    """

    about: tuple[str, ...]
    choices: tuple[Choice, ...]

    def __getitem__(self, key: str) -> Any:
        return next(choice.value for choice in self.choices if choice.key == key)


# The look


def fingerprint(dataset: SegmentationDataset) -> Fingerprint:
    """Look at the headers of all training cases, and into the voxels of some, spread evenly.

    Raises:
        UserError: Files do not belong together, a label is none of the classes, nothing is annotated.
    """
    cases = dataset.training
    geometries = []
    with progress_bar("looking at headers", len(cases)) as progress:
        for case in cases:
            check_case(case, dataset)
            geometries.append(case_geometry(case, dataset))
            progress.advance()
    chosen = np.unique(np.linspace(0, len(cases) - 1, CASES_LOOKED_INTO).round().astype(int)).tolist()
    others = [index for index in range(len(cases)) if index not in set(chosen)]
    counts = np.zeros(len(dataset.class_names), np.int64)
    voxels = looked_into = 0
    samples = []
    with progress_bar("looking at voxels", len(chosen)) as progress:
        for index in [*chosen, *others]:
            if looked_into >= len(chosen) and counts.any():
                break  # the others are only asked while nothing annotated was found
            found, sample = _look(cases[index], dataset, index)
            counts += found
            voxels += math.prod(geometries[index].size)
            samples.append(sample)
            looked_into += 1
            progress.advance()
    if not counts.any():
        raise UserError(
            f"{dataset.path}: no voxel of any training case is annotated. Annotate some voxels of at least "
            "one case (all others may stay -1)."
        )
    return Fingerprint(
        dataset,
        tuple(geometry.size for geometry in geometries),
        tuple(geometry.spacing for geometry in geometries),
        looked_into,
        tuple(
            _summary([sample[channel] for sample in samples]) for channel in range(len(dataset.channel_names))
        ),
        tuple((counts / counts.sum()).tolist()),
        float(counts.sum() / voxels),
    )


def _look(
    case: Case, dataset: SegmentationDataset, index: int
) -> tuple[NDArray[np.int64], list[tuple[bool, NDArray[np.float32]]]]:
    """A case's voxels by class, and for each channel whether there is foreground, with a sample of it."""
    image = read_case(case, dataset)
    assert image.label is not None
    counts = np.array([np.count_nonzero(image.label == value) for value in range(len(dataset.class_names))])
    is_foreground = bool(counts[1:].any())
    # As many of each case, so that a large one does not outweigh the others.
    rng = np.random.default_rng(index)
    if is_foreground:
        where = np.flatnonzero(image.label > 0)
        where = rng.choice(where, min(VOXELS_A_CASE, len(where)), replace=False)
    else:
        where = rng.integers(image.label.size, size=VOXELS_A_CASE)
    values = [channel.reshape(-1)[where] for channel in image.pixels]
    return counts, [(is_foreground, channel[np.isfinite(channel)]) for channel in values]


def _summary(samples: Sequence[tuple[bool, NDArray[np.float32]]]) -> tuple[float, float, float, float]:
    foreground = [values for is_foreground, values in samples if is_foreground]
    values = np.concatenate(foreground or [values for _, values in samples]).astype(np.float64)
    if not len(values):
        return (0.0, 0.0, 0.0, 0.0)  # preparing the images names the case with nothing but NaN
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high), float(values.mean()), float(values.std())


# The rules


def make_plan(
    found: Fingerprint,
    *,
    memory_gb: float = 4.0,
    minutes: float | None = None,
    gpu: bool = False,
    plugins: Mapping[str, type[Plugin]] | None = None,
    root: str | None = None,
) -> Plan:
    """Choose how to train.

    Args:
        found: What is known of the data.
        memory_gb: That a training step may take.
        minutes: Of training; None: as many as the number of voxels suggests.
        gpu: Plan for a GPU instead of two CPU cores.
        plugins: Extensions to train with, by name; each may have a say.
        root: What `dataset.root` says; None: the folder's path.
    """
    dataset, machine = found.dataset, GPU if gpu else TWO_CORES
    plugins = plugins or {}
    dimensions = dataset.dimensions
    spacing, why_spacing = choose_spacing(found)
    sizes = prepared_sizes(found, spacing)
    median = tuple(float(side) for side in np.median(sizes, axis=0))
    voxels = float(np.prod(sizes, axis=1, dtype=np.float64).sum())
    minutes, why_minutes = (minutes, "as asked for") if minutes else choose_minutes(voxels)
    steps_of = spacing or tuple(float(step) for step in np.median(found.spacings, axis=0))
    budget = Budget(memory_gb * 1e9, minutes * 60, machine)
    network = choose_network(median, steps_of, len(dataset.channel_names), len(dataset.class_names), budget)
    batch, why_batch = choose_batch(network, voxels, budget)
    normalisation, clips, why_normalisation = choose_normalisation(found)
    why_clips = (
        "0.5 and 99.5 percentile, mean and deviation of the annotated foreground" if any(clips) else "no CT"
    )
    fold, why_fold, split, why_split = choose_fold(dataset)
    name = dataset.path.parent.name if dataset.layout == "preprocessed" else dataset.path.name
    steps = minutes * 60 / network.seconds(batch, machine)
    choices = [
        Choice("task", "segmentation", ""),
        Choice("dataset.root", str(dataset.path) if root is None else root, ""),
        Choice("preprocess.spacing", None if spacing is None else list(spacing), why_spacing),
        Choice("preprocess.normalisation", normalisation, why_normalisation),
        Choice("preprocess.clip", clips, why_clips),
        Choice(
            "sampler.patch.sample_patch_size",
            list(network.patch),
            _why_patch(network, median, budget),
        ),
        Choice("sampler.data_aug", "nnunet", "nnU-Net's"),
        Choice("solver.budget_minutes", minutes, why_minutes),
        Choice("solver.data_loader_batch_size_train", batch, why_batch),
        Choice(
            "solver.mini_batch_size",
            machine.batches,
            f"batches an epoch; {machine.name} may make about {float(f'{steps:.2g}'):.0f} steps in the time",
        ),
        Choice("trainer.fold", fold, why_fold),
        Choice("trainer.plugins", list(plugins), _why_plugins(found, list(plugins))),
        *(
            Choice(f"trainer.{plugin}.{key}", value, reason)
            for plugin, chosen in plugins.items()
            for key, (value, reason) in chosen.plan(median, network.patch).items()
        ),
        Choice("model.architecture", "unet", ""),
        Choice(
            "model.unet.init_features",
            network.width,
            "as nnU-Net"
            if network.width == WIDTHS[0]
            else f"nnU-Net's {WIDTHS[0]} are too slow for {LEAST_STEPS} steps on patches that show enough",
        ),
        Choice("model.unet.max_features", network.most, "doubled three times"),
        Choice(
            "model.unet.strides",
            [list(stride) for stride in network.strides],
            f"({', '.join('xyz'[:dimensions])}) of each downsampling: halved while {LEAST_SIDE} voxels remain"
            + _why_left_alone(network.strides, steps_of),
        ),
    ]
    if split != "testing":
        choices.append(Choice("inference.split", split, why_split))
    choices.append(Choice("output.output_dir", f"runs/{name}", ""))
    return Plan(_about(found, median), tuple(choices))


def choose_spacing(found: Fingerprint) -> tuple[tuple[float, ...] | None, str]:
    """The spacing to resample to: the median; of a much coarser third axis the tenth percentile."""
    if found.dataset.layout == "preprocessed":
        return None, "the images are resampled already"
    spacings = np.array(found.spacings)
    target = np.median(spacings, axis=0)
    reason = "mm, the median of the training cases"
    if np.allclose(spacings, target, rtol=1e-3):
        reason = "mm; all training cases have it, so none is resampled"
    elif len(target) == 3 and target.max() > ANISOTROPIC * target.min():
        coarse = int(target.argmax())
        # Never finer than the other axes: nothing is gained by slices that no scanner took.
        finest_useful = np.delete(target, coarse).max()
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), finest_useful)
        reason = (
            f"mm, the median; of {'xyz'[coarse]}, over {ANISOTROPIC:g} times as coarse as the finest axis, "
            "the tenth percentile"
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
    """Minutes of training for so many voxels; more data has more to learn, but not in proportion."""
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
    """One kind a channel, with its clip, and why."""
    names = found.dataset.channel_names
    if found.dataset.layout == "preprocessed":
        return ["none"] * len(names), [None] * len(names), "the images are normalised already"
    kinds = {"ct": "ct", "nonorm": "none"}
    chosen = [kinds.get(name.casefold(), "zscore") for name in names]
    clips = [
        [float(f"{number:.6g}") for number in intensities] if kind == "ct" else None
        for kind, intensities in zip(chosen, found.intensities, strict=True)
    ]
    whys = {
        "ct": "a CT's numbers mean the same in every image: the data set's clip and z-score",
        "none": "as its name asks",
        "zscore": "each image by its own mean and deviation",
    }
    reasons = [
        f"{', '.join(name for name, own in zip(names, chosen, strict=True) if own == kind)}: {why}"
        for kind, why in whys.items()
        if kind in chosen
    ]
    return chosen, clips, "; ".join(reasons)


def choose_strides(size: Sequence[float], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """The strides of each downsampling.

    An axis is halved while at least 4 voxels remain, except that one with voxels twice as long as the
    shortest of those that can be halved waits until these have caught up.
    """
    sides, steps = list(size), list(spacing)
    strides: list[tuple[int, ...]] = []
    while len(strides) < MOST_LEVELS[len(sides)]:
        able = [axis for axis, side in enumerate(sides) if side >= 2 * LEAST_SIDE]
        if not able:
            break
        shortest = min(steps[axis] for axis in able)
        stride = tuple(
            2 if axis in able and steps[axis] < COARSER * shortest else 1 for axis in range(len(sides))
        )
        strides.append(stride)
        sides = [side / step for side, step in zip(sides, stride, strict=True)]
        steps = [length * step for length, step in zip(steps, stride, strict=True)]
    return tuple(strides)


@dataclass(frozen=True)
class Network:
    """A U-Net on patches, and what a training step of it costs.

    Attributes:
        patch: Its size.
        strides: Of each downsampling.
        width: Features at full resolution.
        channels: C.
        classes: K.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    width: int
    channels: int
    classes: int

    @property
    def most(self) -> int:
        """Where doubling of features stops."""
        return 8 * self.width

    def cost(self) -> tuple[float, float]:
        """Multiplications of a forward pass, and numbers that it keeps for the backward one, a patch."""
        kernel = 3 ** len(self.patch)
        voxels = float(math.prod(self.patch))
        products = numbers = 0.0
        coming = self.channels
        for level in range(len(self.strides) + 1):
            features = min(self.width * 2**level, self.most)
            voxels /= math.prod(self.strides[level - 1]) if level else 1
            products += voxels * kernel * features * (coming + features)
            numbers += voxels * 4 * features  # two convolutions, each normalised
            if level < len(self.strides):
                coarser = min(2 * features, self.most)
                products += voxels * features * (coarser + kernel * 3 * features)
                numbers += voxels * 6 * features  # the same again, and the two that are concatenated
            products += voxels * features * self.classes
            numbers += voxels * 6 * self.classes
            coming = features
        return products, numbers

    def memory(self, batch: int) -> float:
        """Bytes of a training step."""
        return batch * self.cost()[1] * BYTES_A_NUMBER

    def seconds(self, batch: int, machine: Machine) -> float:
        """Of a training step; the backward pass takes twice the forward one."""
        products, numbers = self.cost()
        voxels = math.prod(self.patch)
        return batch * (3 * products / machine.products + numbers / machine.numbers + voxels / machine.voxels)


def choose_network(
    median: Sequence[float], spacing: Sequence[float], channels: int, classes: int, budget: Budget
) -> Network:
    """The widest network that sees enough: the median image, or a patch of a decent size.

    Args:
        median: Size of the median prepared image.
        spacing: Of the prepared images.
        channels: C.
        classes: K.
        budget: What a run may cost.
    """
    enough = min(math.prod(median), ENOUGH_CONTEXT[len(median)])
    for width in WIDTHS:
        scale = 1.0
        network = _network(median, spacing, width, channels, classes)
        while not budget.affords(network) and scale * max(median) > 4 * LEAST_SIDE:
            scale *= 0.95
            sides = [max(scale * side, min(side, 2 * LEAST_SIDE)) for side in median]
            network = _network(sides, spacing, width, channels, classes)
        if budget.affords(network) and math.prod(network.patch) >= enough:
            break
    return network


def _network(
    sides: Sequence[float], spacing: Sequence[float], width: int, channels: int, classes: int
) -> Network:
    """On a patch of these sides, rounded up to what its strides divide."""
    strides = choose_strides(sides, spacing)
    multiples = [math.prod(stride[axis] for stride in strides) for axis in range(len(sides))]
    patch = tuple(
        math.ceil(side / multiple) * multiple for side, multiple in zip(sides, multiples, strict=True)
    )
    return Network(patch, strides, width, channels, classes)


def choose_batch(network: Network, voxels: float, budget: Budget) -> tuple[int, str]:
    """Patches a batch: two, more of small ones where memory, time and the number of voxels allow."""
    all_steps = 2 * LEAST_STEPS * network.seconds(1, budget.machine)
    limits = {
        f"as many as {budget.memory / 1e9:g} GB hold": budget.memory / network.memory(1),
        f"as many as leave time for {2 * LEAST_STEPS} steps": budget.seconds / all_steps,
        f"{100 * SHARE_OF_VOXELS:g} % of all voxels": SHARE_OF_VOXELS * voxels / math.prod(network.patch),
        "more would not help": float(MOST_BATCH),
    }
    reason = min(limits, key=lambda each: limits[each])
    if limits[reason] < LEAST_BATCH + 1:
        return LEAST_BATCH, "the least that trains steadily"
    return int(limits[reason]), reason


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


def _why_patch(network: Network, median: Sequence[float], budget: Budget) -> str:
    shape = f"the median image of {_times(median)}"
    if all(side >= wanted for side, wanted in zip(network.patch, median, strict=True)):
        return f"{shape}, rounded up to what the strides divide"
    if not budget.affords(network):
        return f"as small as is of use, and still too slow for {LEAST_STEPS} steps in the time: give it more"
    return (
        f"in the shape of {shape}, as large as {budget.memory / 1e9:g} GB and {LEAST_STEPS} steps "
        f"in the time on {budget.machine.name} allow"
    )


def _why_plugins(found: Fingerprint, plugins: Sequence[str]) -> str:
    if plugins:
        return "as asked for"
    if found.annotated < 1:
        return "--plugins sparse draws patches where voxels are annotated"
    return "all voxels are annotated"


def _why_left_alone(strides: Sequence[tuple[int, ...]], spacing: Sequence[float]) -> str:
    first = strides[0] if strides else ()
    waiting = [
        axis for axis, step in enumerate(first) if step == 1 and spacing[axis] >= COARSER * min(spacing)
    ]
    return f"; {', '.join('xyz'[axis] for axis in waiting)} is coarser and waits" if waiting else ""


def _about(found: Fingerprint, median: tuple[float, ...]) -> tuple[str, ...]:
    dataset = found.dataset
    own = np.median(found.sizes, axis=0)
    prepared = "" if np.array_equal(own, median) else f", {_times(median)} when resampled"
    shares = ", ".join(
        f"{name} {_percent(share)}"
        for name, share in zip(dataset.class_names, found.class_shares, strict=True)
    )
    looked = "" if found.looked_into == len(found.sizes) else f" (seen in {found.looked_into} cases)"
    about = [
        f"{dataset.name}: {len(dataset.training)} training and {len(dataset.testing)} test cases, "
        f"{dataset.dimensions}D, {', '.join(dataset.channel_names)}. The median image has {_times(own)} "
        f"voxels of {_times(np.median(found.spacings, axis=0))} mm{prepared}.",
        f"Annotated: {_percent(found.annotated)} of the voxels; of these {shares}{looked}.",
    ]
    absent = [n for n, share in zip(dataset.class_names, found.class_shares, strict=True) if not share]
    if absent:
        about.append(f"No voxel of {', '.join(absent)} is annotated in the cases seen: it cannot be learnt.")
    return tuple(about)


# The text


def write_plan(plan: Plan) -> str:
    """The plan as YAML: each choice a line, with its reason as a comment."""
    lines = [line for paragraph in plan.about for line in _comment(paragraph, "")]
    open_sections: tuple[str, ...] = ()
    for choice in plan.choices:
        *sections, key = choice.key.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != tuple(sections[: depth + 1]):
                lines.append(f"{'  ' * depth}{section}:")
        open_sections = tuple(sections)
        indent = "  " * len(sections)
        line = f"{indent}{key}: {_yaml(choice.value)}"
        beside = f"{line}  # {choice.reason}"
        if not choice.reason:
            lines.append(line)
        elif len(beside) <= LINE:
            lines.append(beside)
        else:
            lines += [*_comment(choice.reason, indent), line]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()), LINE, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )


def _yaml(value: Any) -> str:
    import yaml

    return (
        yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        .removesuffix("...\n")
        .strip()
    )


def _times(numbers: Any) -> str:
    return "×".join(f"{number:.3g}" for number in numbers)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
