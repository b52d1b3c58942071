"""Small batches, a few training steps, and the outputs of a perfect network."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lannunet_core.hookspecs import State
from lannunet_core.images.nests import map_tensors
from lannunet_core.testing.subject import Broken, Kind, Subject
from lannunet_core.types import Floats

if TYPE_CHECKING:
    from lannunet_core.hookspecs import Coordinates, EvaluationMode
    from lannunet_core.run.session import Session

BLOB = 2.0  # width of what is drawn for a landmark, in pixels
BALL = 4.0  # radius of what is drawn for a class
BASE_LR = 2e-3  # what `solver.base_lr: auto` means for AdamW
MAX_GRADIENT_NORM = 12.0
FINE_STEPS = 300


@contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """Seed the three global generators, and put them back as they were."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def global_generators() -> dict[str, bytes]:
    """The state of each, comparable."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": pickle.dumps(random.getstate()),
    }


@contextmanager
def untouched(what: str, *, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Finds out whether `what` draws from a global generator other than `but`."""
    before = global_generators()
    yield
    after = global_generators()
    moved = [name for name in before if before[name] != after[name] and name not in but]
    if moved:
        raise Broken(
            f"{what} draws from, or seeds, the global generator of {' and of '.join(moved)}, "
            "so a run does not follow from its seed"
        )


def gaussians(points: Tensor, size: tuple[int, ...], sigma: float = BLOB) -> Tensor:
    """Gaussians of peak 1 at points (B, N, D) on a grid of `size` (x, y[, z]): (B, N, *S) float32."""
    axes = [torch.arange(side, dtype=torch.float64) for side in reversed(size)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)  # (*S, D)
    centres = points.double().reshape(*points.shape[:2], *[1] * len(size), len(size))
    return torch.exp(-((grid - centres) ** 2).sum(-1) / (2 * sigma**2)).float()


def draw_points(size: tuple[int, ...], count: int, landmarks: int, seed: int = 0) -> Tensor:
    """Points (B, N, D) float32 away from the border, and from pixel centres: rounding any of them shows."""
    rng = np.random.default_rng([seed, *size])
    margin = np.minimum(8, np.array(size) // 4)
    pixel = rng.integers(margin, np.array(size) - margin, (count, landmarks, len(size)))
    return torch.from_numpy(
        pixel + rng.uniform(0.25, 0.45, pixel.shape) * rng.choice([-1, 1], pixel.shape)
    ).float()


def make_batch(
    session: Session, count: int = 2, states: Tensor | None = None, seed: int = 0
) -> dict[str, Any]:
    """A collated batch: a blob of its own brightness for each landmark, or a ball for each class, on noise.

    Args:
        session: Of the run.
        count: B.
        states: (B, N) of `State`; all visible by default. Landmarks only.
        seed: Of points and noise.
    """
    run = session.run
    if run.task == "segmentation":
        return _segmentation_batch(session, count, seed)
    size, landmarks, dimensions = run.input_size, len(run.outputs), run.dimensions
    points = draw_points(size, count, landmarks, seed)
    states = torch.zeros(count, landmarks, dtype=torch.int64) if states is None else states
    brightness = torch.tensor([(-1) ** n * (3 + n) for n in range(landmarks)]).float()
    visible = brightness * (states == State.VISIBLE)
    blobs = (gaussians(points, size) * visible.reshape(*visible.shape, *[1] * dimensions)).sum(
        1, keepdim=True
    )
    noise = torch.randn(
        count, run.in_channels, *reversed(size), generator=torch.Generator().manual_seed(seed)
    )
    moved_out = points + torch.tensor(size) * torch.where(points.mean((1, 2), keepdim=True) > 0, 1.0, -1.0)
    points = torch.where((states == State.OUTSIDE)[..., None], moved_out, points)
    unknown = (states == State.ABSENT) | (states == State.UNLABELLED)
    return {
        "image": blobs + 0.1 * noise,
        "landmarks": torch.where(unknown[..., None], torch.nan, points),
        "states": states,
        "original_size": torch.tensor(size).expand(count, -1).clone(),
        "spacing": torch.full((count, dimensions), torch.nan, dtype=torch.float64),
        **_about(count, dimensions),
    }


def _segmentation_batch(session: Session, count: int, seed: int) -> dict[str, Any]:
    run = session.run
    size, classes, dimensions = run.input_size, len(run.outputs), run.dimensions
    label = torch.zeros(count, *reversed(size), dtype=torch.int16)
    middles = draw_points(size, count, classes - 1, seed)
    for value, near in enumerate(gaussians(middles, size, sigma=1.0).unbind(1), start=1):
        label[near > np.exp(-(BALL**2) / 2)] = value
    brightness = torch.tensor([0.0, *((-1) ** n * (3 + n) for n in range(classes - 1))])
    noise = torch.randn(
        count, run.in_channels, *reversed(size), generator=torch.Generator().manual_seed(seed)
    )
    return {
        "image": brightness[label.long()][:, None] + 0.1 * noise,
        "label": label,
        "landmarks": torch.empty(count, 0, dimensions),
        "states": torch.empty(count, 0, dtype=torch.int64),
        "spacing": torch.ones(count, dimensions, dtype=torch.float64),
        **_about(count, dimensions),
    }


def _about(count: int, dimensions: int) -> dict[str, Any]:
    """What is in a batch of any task."""
    return {
        "affine": torch.eye(dimensions + 1, dtype=torch.float64).expand(count, -1, -1).clone(),
        "corner": torch.zeros(count, dimensions),
        "id": [f"sample {k}" for k in range(count)],
        "index": torch.arange(count),
    }


def build(subject: Subject, kind: Kind, **options: Any) -> Session:
    """A session, with the global generators put back."""
    with isolated():
        return subject.session(kind.dimensions, task=kind.task, **options)


def stepper(session: Session, batch: Mapping[str, Any], total_steps: int) -> Callable[[], float]:
    """What takes a training step on one batch as the core does, and says the loss."""
    learner = session.learner
    optimizer, scheduler = session.hooks.optimizer_and_scheduler(
        module=learner, solver=session.config.solver, base_lr=BASE_LR, total_steps=total_steps
    )

    def step() -> float:
        learner.train()
        total = torch.stack(list(learner(batch).values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learner.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return float(total.detach())

    return step


def train(session: Session, batch: Mapping[str, Any], steps: int) -> Iterator[float]:
    """Training steps on one batch; the loss of each. Random numbers follow from the step's number."""
    step = stepper(session, batch, steps)
    for number in range(steps):
        with isolated(number):
            loss = step()
        yield loss


def outputs_of(session: Session, image: Tensor) -> Any:
    """The network's outputs in evaluation mode."""
    session.learner.eval()
    with isolated(), torch.no_grad():
        return session.learner.network(image)


def tensors(nest: Any) -> list[Tensor]:
    """All tensors of a nest, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(nest, keep)
    return found


def labels_of(session: Session, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    with isolated():
        return session.learner.labels(batch, outputs)


def free_outputs(outputs: Any, fill: float | None = None) -> Any:
    """Outputs of the same shapes that can be differentiated by; noise where there is no `fill`."""
    generator = torch.Generator().manual_seed(0)

    def free(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        values = (
            torch.randn(tensor.shape, generator=generator) if fill is None else torch.full_like(tensor, fill)
        )
        return values.requires_grad_()

    return map_tensors(outputs, free)


def perfect_outputs(subject: Subject, session: Session, batch: Mapping[str, Any]) -> Any:
    """The outputs of a perfect network: as the author gives them, or what minimises the loss."""
    outputs = outputs_of(session, batch["image"])
    labels = map_tensors(labels_of(session, batch, outputs), Tensor.detach)
    given = subject.perfect_outputs(labels, outputs)
    if given is not None:
        return given
    free = free_outputs(outputs, fill=0.0)
    with isolated():
        minimise(
            lambda: torch.stack(list(session.learner.loss(free, labels).values())).sum(),
            [tensor for tensor in tensors(free) if tensor.requires_grad],
        )
    return map_tensors(free, Tensor.detach)


def minimise(loss: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Move `leaves` to the minimum of `loss`, whatever its scale and however little some of them weigh."""

    def gradient() -> float:
        coarse.zero_grad()
        total = loss()
        if not total.requires_grad:
            raise Broken("the loss is not differentiable: its terms do not depend on the outputs")
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    # Finds the scale, of which Adam knows nothing; Adam gives each number its own step.
    coarse = torch.optim.LBFGS(leaves, max_iter=20, line_search_fn="strong_wolfe")
    coarse.step(gradient)  # type: ignore[no-untyped-call]
    fine = torch.optim.Adam(leaves, lr=0.5, betas=(0.9, 0.99), eps=1e-12)
    decay = torch.optim.lr_scheduler.LambdaLR(fine, lambda step: (1 - step / FINE_STEPS) ** 2)
    for _ in range(FINE_STEPS):
        gradient()
        fine.step()
        decay.step()


def decode(
    session: Session, maps: Any, batch: Mapping[str, Any], mode: EvaluationMode = "use_input_size"
) -> Coordinates:
    with isolated(), torch.no_grad():
        return session.hooks.get_coords_from_heatmap(
            heatmaps=maps,
            affine=batch["affine"],
            original_sizes=batch["original_size"],
            evaluation_mode=mode,
        )


def activate(session: Session, outputs: Any) -> Any:
    with isolated(), torch.no_grad():
        return session.learner.loss.activation(outputs)


def class_maps(session: Session, image: Tensor) -> Any:
    """What prediction makes of patches (B, C, *S), with `task: segmentation`: (B, K, *S)."""
    from lannunet_segmentation.predict.sliding import patch_scores

    learner = session.learner.eval()
    with isolated(), torch.no_grad():
        return patch_scores(learner.network, image, learner.loss.activation, mirror=False)


def check_class_maps(maps: Any, image: Tensor, classes: int, where: str) -> None:
    wanted = (image.shape[0], classes, *image.shape[2:])
    if not isinstance(maps, Tensor) or tuple(maps.shape) != wanted:
        raise Broken(
            f"{where}, the activated maps are {describe(maps)}, should be {wanted}: one map a class, finest "
            "resolution"
        )
    if not torch.isfinite(maps).all():
        raise Broken(f"{where}, the activated maps have values that are NaN or infinite")
    if maps.min() < -1e-3 or maps.max() > 1 + 1e-3:
        raise Broken(
            f"{where}, the activated maps lie in {float(maps.min()):.3g} … {float(maps.max()):.3g}, should "
            "lie in 0 … 1; is the activation missing?"
        )


def segmented(session: Session, maps: Tensor) -> Tensor:
    """The labels (B, *S) of activated maps (B, K, *S)."""
    with isolated(), torch.no_grad():
        return torch.stack([session.hooks.get_segmentation(maps=one) for one in maps])


def compare_points(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Says where points (…, D) differ, and the likely slip: swapped axes, or rounding."""
    found, wanted = (
        found.detach().double().cpu().reshape(-1, found.shape[-1]),
        wanted.double().reshape(-1, wanted.shape[-1]),
    )
    error = (found - wanted).norm(dim=-1).nan_to_num(nan=torch.inf)
    if error.max() <= tolerance:
        return
    worst = int(error.argmax())
    hint, known = "", torch.isfinite(found).all(-1)
    if known.any() and torch.allclose(found[known], wanted.flip(-1)[known], atol=0.75):
        hint = "; these are the axes the other way round: points are (x, y[, z]), tensors (…, [z,] y, x)"
    elif known.all() and torch.equal(found, found.round()) and error.max() < 2:
        hint = "; all of them are whole numbers: coordinates must never be rounded"
    elif error.max() < 1:
        hint = "; less than a pixel: is a coordinate rounded, or half a pixel lost?"
    raise Broken(
        f"{what}: expected {shown(wanted[worst])}, found {shown(found[worst])}, "
        f"off by {float(error[worst]):.2f} px{hint}"
    )


def shown(point: Floats | Tensor) -> str:
    return "(" + ", ".join(f"{float(value):.2f}" for value in point) + ")"


def describe(nest: Any) -> str:
    """A nest in words: its shapes."""
    if isinstance(nest, Tensor):
        return f"{tuple(nest.shape)} {str(nest.dtype).removeprefix('torch.')}"
    if isinstance(nest, Mapping):
        return "{" + ", ".join(f"{key}: {describe(value)}" for key, value in nest.items()) + "}"
    if isinstance(nest, (list, tuple)):
        return "[" + ", ".join(map(describe, nest)) + "]"
    return type(nest).__name__
