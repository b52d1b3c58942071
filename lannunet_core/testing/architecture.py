"""Checks of a whole model: network, labels, loss and decoding of a run, the core's or the plugin's own.

Each docstring is the contract. Shapes: B batch, C channels, N landmarks or classes, S spatial sizes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.images.nests import level_sizes_of
from lannunet_core.plugins.api import Task
from lannunet_core.testing.package import hooks_are_those_of_the_core
from lannunet_core.testing.running import (
    activate,
    build,
    check_class_maps,
    class_maps,
    decode,
    describe,
    draw_points,
    isolated,
    make_batch,
    outputs_of,
    segmented,
    stepper,
    tensors,
    train,
    untouched,
)
from lannunet_core.testing.subject import Broken, Kind, NotClaimed, Subject, claimed, refuses

VARIATIONS = ((1, 1, 1), (2, 3, 2), (3, 1, 5))
"""Batch size, channels and landmarks, or classes beside the background."""


def two_dimensions(subject: Subject) -> None:
    """In 2D it works, or says with a UserError that it does not."""
    _dimensions(subject, 2, subject.supports_2d)


def three_dimensions(subject: Subject) -> None:
    """In 3D it works, or says with a UserError that it does not."""
    _dimensions(subject, 3, subject.supports_3d)


def _dimensions(subject: Subject, dimensions: int, claim: bool | None) -> None:
    hooks_are_those_of_the_core(subject)
    for task in subject.served_tasks():
        kind = Kind(task, dimensions)
        failure = subject.failure(kind)
        if failure is not None and not refuses(failure):
            remedy = "make it work, or let the hook raise lannunet_core.errors.UserError and do not claim it"
            raise Broken(
                f"in {kind} it raises {type(failure).__name__}: {first_line(failure)}; {remedy}"
            ) from failure
        claimed(claim, failure is None, f"{kind}", f"it refuses: {failure}")


def shapes_and_dtypes(subject: Subject) -> None:
    """Any batch size, channels and number of landmarks or classes give finite float32 maps (B, N, *S)."""
    for kind in subject.kinds():
        for count, channels, landmarks in VARIATIONS:
            session = build(subject, kind, channels=channels, landmarks=landmarks)
            batch = make_batch(session, count)
            wanted = len(session.run.outputs)
            what = "classes" if kind.task == "segmentation" else "landmark(s)"
            where = f"for an image {tuple(batch['image'].shape)} and {wanted} {what}"
            outputs = outputs_of(session, batch["image"])
            _check_tensors(outputs, count, where)
            if not subject.has_own_outputs():
                _check_levels(outputs, batch["image"], wanted, where, kind.task)
            if kind.task == "segmentation":
                check_class_maps(class_maps(session, batch["image"]), batch["image"], wanted, where)
                continue
            maps = activate(session, outputs)
            if not subject.has_own_decoder():
                check_maps(maps, batch["image"], landmarks, where)
            found = decode(session, maps, batch)
            if tuple(found.points.shape) != (count, landmarks, kind.dimensions):
                raise Broken(
                    f"{where}, the decoded points are {tuple(found.points.shape)}, "
                    f"should be {(count, landmarks, kind.dimensions)}"
                )


def _check_tensors(outputs: Any, count: int, where: str) -> None:
    found = tensors(outputs)
    if not found:
        raise Broken(f"{where}, the network's output holds no tensor: {describe(outputs)}")
    for tensor in found:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise Broken(f"{where}, an output is {describe(tensor)}; float32 in, float32 out")
        if tensor.shape[:1] != (count,):
            raise Broken(
                f"{where}, an output is {describe(tensor)}; its first axis should be the batch, {count}"
            )
        if not torch.isfinite(tensor).all():
            raise Broken(f"{where}, an output has values that are NaN or infinite")


def _check_levels(outputs: Any, image: Tensor, wanted: int, where: str, task: Task) -> None:
    levels = [outputs] if isinstance(outputs, Tensor) else outputs
    if not (isinstance(levels, (list, tuple)) and all(isinstance(level, Tensor) for level in levels)):
        raise Broken(
            f"{where}, the outputs are {describe(outputs)}; the core's labels and losses need one tensor, or "
            "a list of tensors with the finest resolution first"
        )
    for level in levels:
        if level.ndim != image.ndim or level.shape[1] != wanted:
            each = "class, (B, K, *S)" if task == "segmentation" else "landmark, (B, N, *S)"
            raise Broken(f"{where}, an output is {describe(level)}; there is one map a {each}")
    if levels[0].shape[2:] != image.shape[2:]:
        raise Broken(
            f"{where}, the first output has the spatial size {tuple(levels[0].shape[2:])}; the finest is as "
            f"large as the image, {tuple(image.shape[2:])}"
        )
    sizes = [tuple(level.shape[2:]) for level in levels]
    if any(a < b for fine, coarse in pairwise(sizes) for a, b in zip(fine, coarse, strict=True)):
        raise Broken(f"{where}, the outputs' sizes are {sizes}; the finest comes first")


def check_maps(maps: Any, image: Tensor, landmarks: int, where: str) -> None:
    """The core's decoders take one map a landmark at the image's resolution."""
    first = (
        maps if isinstance(maps, Tensor) else maps[0] if isinstance(maps, (list, tuple)) and maps else None
    )
    wanted = (image.shape[0], landmarks, *image.shape[2:])
    if not isinstance(first, Tensor) or first.shape != wanted:
        raise Broken(
            f"{where}, the activated maps are {describe(maps)}; the core's decoder needs {wanted}, or a list "
            "that starts with it"
        )


def mixed_precision(subject: Subject) -> None:
    """The network runs under autocast, as it does on a GPU."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session)
        with isolated(), torch.autocast("cpu", torch.bfloat16):
            try:
                terms = session.learner(batch)
            except (RuntimeError, TypeError) as error:
                raise Broken(
                    f"under torch.autocast(bfloat16) it raises {type(error).__name__}: {first_line(error)}; "
                    "make tensors in the dtype of those they meet"
                ) from error
        if not torch.isfinite(torch.stack(list(terms.values()))).all():
            values = {name: float(value) for name, value in terms.items()}
            raise Broken(f"under torch.autocast(bfloat16) the loss is {values}")


def deep_supervision(subject: Subject) -> None:
    """Asked for several resolutions the network gives several, finest first; asked for one it gives one."""
    own_outputs = subject.supports_deep_supervision is None and subject.has_own_outputs()
    if subject.supports_deep_supervision is False or own_outputs:
        raise NotClaimed("deep supervision is not claimed")
    for kind in subject.kinds():
        counts = {}
        for supervised in (1, 3):
            session = build(subject, kind, supervised=supervised)
            counts[supervised] = len(level_sizes_of(outputs_of(session, make_batch(session)["image"])))
        claimed(
            subject.supports_deep_supervision,
            counts[3] > 1,
            "deep supervision",
            f"with run.supervised_resolutions = 3 there is {counts[3]} output",
        )
        if counts[1] != 1:
            raise Broken(f"with run.supervised_resolutions = 1 there are {counts[1]} outputs")


def other_sizes(subject: Subject) -> None:
    """A network made for one size takes others: it is trained on patches and used on whole images."""
    if subject.supports_patches is False:
        raise NotClaimed("other image sizes are not claimed")
    for kind in subject.kinds():
        session = build(subject, kind)
        size = session.run.input_size
        image = torch.zeros(1, 1, *(side + side // 2 for side in reversed(size)))
        reason, outputs, usual = "", None, outputs_of(session, torch.zeros(1, 1, *reversed(size)))
        try:
            outputs = outputs_of(session, image)
        except Exception as error:
            reason = (
                f"made for {size}, it raises {type(error).__name__} for {tuple(image.shape[:1:-1])}: "
                f"{first_line(error)}"
            )
        else:
            larger, before = level_sizes_of(outputs)[0], level_sizes_of(usual)[0]
            if any(new <= old for new, old in zip(larger, before, strict=True)):
                reason = f"its output for {tuple(image.shape[:1:-1])} is {larger}, no larger than for {size}"
        claimed(subject.supports_patches, not reason, "other image sizes", reason)


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Every parameter that is to be learned gets a finite gradient from the loss."""
    for kind in subject.kinds():
        session = build(subject, kind)
        learner = session.learner
        reached: dict[str, bool] = {}
        for _ in train(
            session, make_batch(session), steps=3
        ):  # zero-initialised layers pass on nothing at first
            for name, parameter in learner.named_parameters():
                if not parameter.requires_grad:
                    continue
                if parameter.grad is None:
                    raise Broken(
                        f"'{name}' gets no gradient in {kind}: it is not used, or detached on the way"
                    )
                if not torch.isfinite(parameter.grad).all():
                    raise Broken(f"the gradient of '{name}' is NaN or infinite in {kind}")
                # A bias before a normalisation has none, and is no fault.
                alive = parameter.ndim < 2 or bool(parameter.grad.any())
                reached[name] = reached.get(name, False) or alive
        if dead := [name for name, alive in reached.items() if not alive]:
            raise Broken(
                f"the gradient of '{dead[0]}' is 0 throughout in {kind}: it has no effect on the loss"
            )


def overfits_a_tiny_problem(subject: Subject) -> None:
    """Four images of two blobs each are learned by heart, with the run's own optimizer and loss."""
    kind = next(iter(subject.kinds("landmarks")))
    session = build(subject, kind)
    batch = make_batch(session, count=4)

    def error() -> float:
        maps = activate(session, outputs_of(session, batch["image"]))
        distance = (decode(session, maps, batch).points.cpu() - batch["landmarks"]).norm(dim=-1)
        return float(distance.nan_to_num(nan=max(session.run.input_size)).mean())

    before = error()
    for step, loss in enumerate(train(session, batch, subject.overfit_steps)):
        if not loss == loss:
            raise Broken(f"the loss is NaN in step {step + 1}")
        if step % 20 == 19 and error() < subject.overfit_error:
            return
    raise Broken(
        f"after {subject.overfit_steps} steps on four images their mean error is {error():.1f} px, at the "
        f"start it was {before:.1f} px; it has to fall below {subject.overfit_error:g} px"
    )


def segments_a_tiny_problem(subject: Subject) -> None:
    """With `task: segmentation`, the classes of four images are learned by heart, as a run learns."""
    kind = next(iter(subject.kinds("segmentation")))
    session = build(subject, kind)
    batch = make_batch(session, count=4)

    def dice() -> float:
        found, wanted = segmented(session, class_maps(session, batch["image"])), batch["label"]
        shares = []
        for value in range(1, len(session.run.outputs)):
            both = ((found == value) & (wanted == value)).sum()
            shares.append(2 * both / ((found == value).sum() + (wanted == value).sum()))
        return float(torch.stack(shares).mean())

    before = dice()
    for step, loss in enumerate(train(session, batch, subject.overfit_steps)):
        if not loss == loss:
            raise Broken(f"the loss is NaN in step {step + 1}")
        if step % 20 == 19 and dice() > subject.overfit_dice:
            return
    raise Broken(
        f"after {subject.overfit_steps} steps on four images their mean Dice is {dice():.2f}, at the start "
        f"it was {before:.2f}; it has to rise above {subject.overfit_dice:g}"
    )


def same_seed_same_result(subject: Subject) -> None:
    """The same seed gives the same weights and the same training: random numbers are torch's, seeded ones."""
    kind = next(iter(subject.kinds()))
    built, trained, moved = [], [], []
    for seed in (1, 2):  # of the global generators, which must not matter
        with isolated(seed):
            with untouched("building the plugin", but=("torch",)):
                session = subject.session(kind.dimensions, task=kind.task)
            built.append(_state(session))
            subject.session(kind.dimensions, task=kind.task, seed=seed)
            moved.append(torch.get_rng_state())
            step = stepper(session, make_batch(session), total_steps=2)
            for number in range(2):
                torch.manual_seed(number)
                with untouched("training", but=("torch",)):
                    step()
        trained.append(_state(session))
    _compare(built[0], built[1], "built twice with the same seed")
    if torch.equal(*moved):
        raise Broken("building the plugin seeds torch's generator, so that the run's seed does not count")
    _compare(trained[0], trained[1], "trained twice with the same seed")


def prediction_is_deterministic(subject: Subject) -> None:
    """In evaluation mode the same image gives the same maps, and no generator is drawn from."""
    for kind in subject.kinds():
        session = build(subject, kind)
        image = make_batch(session)["image"]
        session.learner.eval()
        with isolated(), torch.no_grad(), untouched("the network in evaluation mode"):
            first, second = (session.learner.network(image) for _ in range(2))
        for a, b in zip(tensors(first), tensors(second), strict=True):
            if not torch.equal(a, b):
                raise Broken(f"in {kind} two passes over one image differ by up to {_difference(a, b):.3g}")


def images_do_not_mix(subject: Subject) -> None:
    """In evaluation mode an image's maps do not depend on the others of its batch."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session, count=3)
        for _ in train(session, batch, steps=1):  # running statistics are no longer those of the start
            pass
        image = batch["image"] * torch.tensor([1.0, 5.0, 0.2]).reshape(-1, *[1] * (kind.dimensions + 1))
        together, alone = outputs_of(session, image), outputs_of(session, image[:1])
        for a, b in zip(tensors(together), tensors(alone), strict=True):
            scale = float(b.abs().max()) + 1e-6
            if _difference(a[:1], b) > 1e-3 * scale:
                raise Broken(
                    f"in {kind} the maps of an image differ by up to {_difference(a[:1], b):.3g} when "
                    "others are beside it; does a normalisation use the batch's statistics?"
                )


def state_survives_save_and_load(subject: Subject) -> None:
    """After saving and loading the weights, in a new process say, the maps are the same."""
    for kind in subject.kinds():
        session, other = build(subject, kind), build(subject, kind, seed=1)
        batch = make_batch(session)
        for _ in train(session, batch, steps=2):
            pass
        file = io.BytesIO()
        torch.save(session.learner.state_dict(), file)
        file.seek(0)
        try:
            state = torch.load(file, weights_only=True)
        except Exception as error:
            raise Broken(
                "the state is not made of tensors and plain values alone, so a model file does not load "
                f"safely ({first_line(error)})"
            ) from None
        try:
            other.learner.load_state_dict(state)
        except RuntimeError as error:
            raise Broken(f"the state does not load into a new network: {first_line(error)}") from None
        wanted, found = (_maps(s, batch["image"]) for s in (session, other))
        for a, b in zip(tensors(wanted), tensors(found), strict=True):
            if not torch.allclose(a, b, rtol=1e-4, atol=1e-6):
                unsaved = list(_unsaved(session.learner))
                hint = (
                    f"; not in the state: {', '.join(unsaved)} (register_buffer, nn.Parameter, nn.ModuleList)"
                    if unsaved
                    else ""
                )
                raise Broken(
                    f"in {kind} the maps differ by up to {_difference(a, b):.3g} after saving and "
                    f"loading{hint}"
                )


def missing_landmarks_do_not_matter(subject: Subject) -> None:
    """A landmark that nobody labelled changes neither loss nor gradient, whatever its coordinates are."""
    from lannunet_core.hookspecs import State

    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        states = torch.tensor([[0, State.UNLABELLED], [State.UNLABELLED, 0]])
        batch = make_batch(session, states=states)
        unlabelled = (states == State.UNLABELLED)[..., None]
        results = []
        for fill in (torch.nan, draw_points(session.run.input_size, 2, 2, seed=5)):
            landmarks = torch.where(unlabelled, fill, batch["landmarks"])
            results.append(_loss_and_gradient(session, {**batch, "landmarks": landmarks}))
        for (loss, gradient), what in zip(results, ("NaN", "some place"), strict=True):
            if not (torch.isfinite(loss) and torch.isfinite(gradient)):
                raise Broken(
                    f"in {kind} with an unlabelled landmark at {what} the loss is {float(loss)}, its "
                    f"gradient's norm {float(gradient)}; select before computing: 0 · NaN is NaN"
                )
        if not torch.allclose(torch.stack(results[0]), torch.stack(results[1]), rtol=1e-5):
            raise Broken(
                f"in {kind} the loss is {float(results[0][0]):.6g} with an unlabelled landmark at NaN "
                f"and {float(results[1][0]):.6g} with it at some place, or the gradients differ"
            )


def batches_without_labels(subject: Subject) -> None:
    """A batch in which nothing is labelled gives a finite loss and a finite gradient."""
    from lannunet_core.hookspecs import State

    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        for state in (State.UNLABELLED, State.ABSENT):
            batch = make_batch(session, states=torch.full((2, 2), int(state)))
            loss, gradient = _loss_and_gradient(session, batch)
            if not (torch.isfinite(loss) and torch.isfinite(gradient)):
                raise Broken(
                    f"in {kind} with all landmarks {state.name.lower()} the loss is {float(loss)} and "
                    f"the norm of its gradient {float(gradient)}; an empty target must not make 0/0"
                )


def optimizer_holds_every_parameter(subject: Subject) -> None:
    """The optimizer holds every parameter that is to be learned, those of labels and loss included."""
    session = build(subject, next(iter(subject.kinds())))
    optimizer, _ = session.hooks.optimizer_and_scheduler(
        module=session.learner, solver=session.config.solver, base_lr=1e-3, total_steps=10
    )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [n for n, p in session.learner.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        raise Broken(f"the optimizer does not hold {', '.join(missing[:5])}; give it module.parameters()")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _loss_and_gradient(session: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """The loss and the norm of its gradient."""
    learner = session.learner
    learner.eval()  # no dropout, which would tell equal passes apart
    learner.zero_grad()
    with isolated():
        total = torch.stack(list(learner(batch).values())).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return total.detach(), torch.cat([*gradients, torch.zeros(1)]).norm()


def _maps(session: Any, image: Tensor) -> Any:
    """What prediction makes of an image."""
    if session.run.task == "segmentation":
        return class_maps(session, image)
    return activate(session, outputs_of(session, image))


def _state(session: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in session.learner.state_dict().items()}


def _compare(first: dict[str, Tensor], second: dict[str, Tensor], how: str) -> None:
    for name, value in first.items():
        if not torch.equal(value, second[name]):
            raise Broken(
                f"{how}, '{name}' differs by up to {_difference(value, second[name]):.3g}; random numbers "
                "come from torch's generator, which the core seeds"
            )


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0


def _unsaved(module: nn.Module) -> Iterator[str]:
    """Tensors and modules that a module keeps where its state does not see them."""
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            held = value if isinstance(value, (list, tuple)) else [value]
            if not key.startswith("_") and any(isinstance(item, (Tensor, nn.Module)) for item in held):
                yield f"{name}.{key}"
