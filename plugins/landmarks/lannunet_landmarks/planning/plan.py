"""A run's configuration from the data and the machine, by the numbers of the recipe.

Sizes and spacings are (x, y[, z]). The architecture defines which networks exist and what they cost.
"""

from __future__ import annotations

import math

import numpy as np

from lannunet_core import Choice, Plan, PlannedNetwork, PlanRequest, State, UserError
from lannunet_landmarks.data.annotations import open_first
from lannunet_landmarks.data.shared import unlabelled
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.cost import Budget, cores, measured_speed
from lannunet_landmarks.planning.fit import Fitted, asked_of, choose_resize, times
from lannunet_landmarks.planning.look import Look, look
from lannunet_landmarks.planning.rate import choose_rate
from lannunet_landmarks.planning.recipe import Machine
from lannunet_landmarks.planning.second import epoch_of, first_budget, plan_stages

MOST_PAIRS = 12  # shown in a comment


def plan(request: PlanRequest) -> Plan:
    """Inspect the annotations of a request, and the machine, and choose how to train.

    Raises:
        UserError: The data set is wrong, or has no training images.
    """
    dataset = open_first(request.dataset)
    if not dataset.samples["training"]:
        raise UserError(f'{dataset.path}: "training" is empty or missing, so there is nothing to plan for.')
    machine = recipe.GPU if request.gpu else cores(measured_speed())
    return make_plan(look(dataset, recipe.SYMMETRIC), request, machine)


def make_plan(found: Look, request: PlanRequest, machine: Machine) -> Plan:
    """Choose how to train.

    Args:
        found: Properties of the data.
        request: Request of the user.
        machine: Machine that trains.
    """
    dataset, images = found.dataset, len(found.sizes)
    minutes, why_minutes = (request.minutes, "as asked for") if request.minutes else choose_minutes(images)
    budget = Budget(request.memory_gb * 1e9, minutes * 60, machine)
    held_out = any((one.states != State.UNLABELLED).any() for one in dataset.samples["validation"])
    silent = not request.offered(asked_of(found, found.sizes[0], found.spacings[0]))
    fitted, second = plan_stages(found, request, budget)
    if second is not None:
        budget = first_budget(budget)
        minutes, why_minutes = budget.seconds / 60, f"of the first stage; {minutes:g} in all, {why_minutes}"
    network, batch, batches = fitted.network, fitted.batch, fitted.batches
    resize, why_resize = choose_resize(found)
    scheme, why_scheme = choose_scheme(found)
    name, extensions = request.architecture[0].name, [plugin.name for plugin in request.extensions]
    median = tuple(float(side) for side in np.median(found.sizes, axis=0))
    rate = [] if silent else choose_rate(request, batches)
    choices = [
        Choice("task", "landmarks", ""),
        Choice("dataset.src_targets", request.root, ""),
        *_flip_pairs(found),
        Choice("sampler.input_size", list(network.size), fitted.why_size),
        Choice("sampler.resize", resize, why_resize),
        Choice("sampler.data_aug", scheme, why_scheme),
        Choice("solver.budget_minutes", minutes, why_minutes),
        *rate,
        Choice("solver.data_loader_batch_size_train", batch, fitted.why_batch),
        *_evaluation_batch(budget, network, batch),
        epoch_of(batches, machine),
        _patience() if held_out else None,
        *([] if silent else _loss()),
        Choice("trainer.fold", *_fold(found)) if dataset.path != request.dataset else None,
        Choice("trainer.validate_every", 1, "epochs are long") if held_out else None,
        Choice("trainer.plugins", extensions, "as asked for") if extensions else None,
        *request.choices_of_extensions(median, network.size),
        *([] if silent else _width(found, fitted)),
        Choice("model.architecture", name, _why_silent() if silent else ""),
        *(Choice(f"model.{name}.{key}", *setting) for key, setting in network.settings.items()),
        *_split(found),
        Choice("output.output_dir", f"runs/{request.dataset.resolve().stem}", ""),
        *([] if second is None else second.choices(name, machine, rate)),
    ]
    return Plan(_about(found, request, machine, batches), tuple(filter(None, choices)))


def choose_minutes(images: int) -> tuple[float, str]:
    """Minutes of training for this many images."""
    minutes = recipe.BASE_MINUTES * math.sqrt(max(images / recipe.BASE_IMAGES, 1.0))
    reason = f"of training; {recipe.BASE_MINUTES:g} for up to {recipe.BASE_IMAGES} images"
    if images <= recipe.BASE_IMAGES:
        return minutes, reason
    reason += f", growing with the square root; these are {images}"
    if minutes > recipe.MOST_MINUTES:
        return recipe.MOST_MINUTES, f"{reason} ({recipe.MOST_MINUTES:g} at most)"
    return float(math.ceil(minutes)), reason


def choose_scheme(found: Look) -> tuple[str, str]:
    """The augmentation, by the orientation of the object in the training images."""
    if found.turned is None:
        return (
            recipe.UPRIGHT,
            "rotations of up to 15 degrees; too few landmarks show the orientation of the object",
        )
    by = f"by {found.turned:.0f} degrees or less in 95 % of the training images"
    if found.turned <= recipe.TURNED_DEGREES:
        return recipe.UPRIGHT, f"rotations of up to 15 degrees, no mirrors: the object is rotated {by}"
    if found.turned <= recipe.ANY_DEGREES:
        return recipe.TURNED, f"rotations of up to 45 degrees, no mirrors: the object is rotated {by}"
    return recipe.ANY_ROTATION, f"rotations by any angle, no mirrors: the object is rotated {by}"


def _patience() -> Choice:
    return Choice(
        "solver.early_stopping_patience",
        recipe.PATIENCE,
        f"validations; a run of about {recipe.VALIDATIONS} never stops early, as its end, at a low "
        "learning rate, is worth waiting for",
    )


def _loss() -> list[Choice]:
    return [
        Choice("solver.loss_function", recipe.LOSS, "finds landmarks in the fewest batches"),
        Choice(
            "solver.regress_sigma", recipe.LEARNED_WIDTH, "the width of each landmark's heatmap is learned"
        ),
    ]


def _width(found: Look, fitted: Fitted) -> list[Choice]:
    sigma = recipe.SIGMA[found.dataset.dimensions]
    unit = "mm" if found.states_spacing else "pixels of the median image"
    reason = f"pixels of the input, {sigma * max(fitted.pixel):.2g} {unit}: where the widths start"
    return [Choice("model.gauss_sigma", sigma, reason)]


def _evaluation_batch(budget: Budget, network: PlannedNetwork, batch: int) -> list[Choice]:
    """The evaluation batch size, only if the default would not fit into memory."""
    if budget.bytes_of(network, recipe.MOST_BATCH) <= budget.memory:
        return []
    return [Choice("solver.data_loader_batch_size_eval", batch, f"what {budget.memory / 1e9:g} GB hold")]


def _flip_pairs(found: Look) -> list[Choice]:
    if not found.pairs:
        return []
    return [
        Choice(
            "dataset.flip_pairs",
            [list(pair) for pair in found.pairs],
            "left and right by their names: for schemes that mirror, which this one does not",
        )
    ]


def _fold(found: Look) -> tuple[int, str]:
    fold = found.dataset.fold
    return fold, "no fold, the one file there" if fold < 0 else "the first; --folds trains the others too"


def _split(found: Look) -> list[Choice]:
    samples = found.dataset.samples
    if samples["testing"]:
        return []
    if samples["validation"]:
        return [
            Choice("inference.split", "validation", "there are no test images; these choose the model too")
        ]
    return [
        Choice("inference.split", "training", "there are no others: the errors do not apply to new images")
    ]


def _about(found: Look, request: PlanRequest, machine: Machine, batches: float) -> tuple[str, ...]:
    dataset = found.dataset
    counts = ", ".join(f"{len(samples)} {split}" for split, samples in dataset.samples.items() if samples)
    size = f" of {times(np.median(found.spacings, axis=0))} mm" if found.states_spacing else ""
    landmarks, channels = len(dataset.landmark_names), found.channels
    about = [
        f"{dataset.name}: {counts} images, {dataset.dimensions}D, {channels} channel{'s'[: channels > 1]}, "
        f"{landmarks} landmark{'s'[: landmarks > 1]}. The median image has "
        f"{times(np.median(found.sizes, axis=0))} pixels{size}."
    ]
    if not found.states_spacing:
        about.append("Not all images state their spacing, so errors are in pixels.")
    if request.gpu_name:
        about.append(f"The GPU found here: {request.gpu_name}; the plan uses up to {request.memory_gb:g} GB.")
    if found.mirrored and not found.pairs:
        shown = [[dataset.landmark_names[n] for n in pair] for pair in found.mirrored[:MOST_PAIRS]]
        more = " and so on" if len(found.mirrored) > MOST_PAIRS else ""
        about.append(
            "The mean shape is symmetric, so some landmarks may be left and right counterparts: "
            f"{', '.join(' and '.join(pair) for pair in shown)}{more}. If they are, which the shape alone "
            "cannot show, name them in dataset.flip_pairs before you choose a scheme that mirrors."
        )
    if batches < recipe.FEW_BATCHES:
        about.append(
            f"Only about {batches:.0f} batches fit into the time on {machine.name}: give it more (--minutes)."
        )
    return (*about, *unlabelled(dataset), *dataset.notes)


def _why_silent() -> str:
    return (
        "with its own defaults, loss and labels; it does not state its cost: estimated as a wide U-Net's "
        "300,000 multiplications and 1,000 stored numbers per pixel"
    )
