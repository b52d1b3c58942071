"""Checks of the training of a network, in the runs of every task. Each docstring states the contract."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.run.session import Session
from lannunet_core.testing.outcomes import Broken, NotClaimed
from lannunet_core.testing.randomness import isolated, untouched
from lannunet_core.testing.running import (
    Training,
    build,
    first_line,
    make_batch,
    maps_of,
    outputs_of,
    tensors,
    train,
)
from lannunet_core.testing.subject import Kind, Subject, bench_of


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Every parameter that is to be learned gets a finite gradient from the loss."""
    for kind in subject.kinds():
        session = build(subject, kind)
        learned = {name: p for name, p in session.learner.named_parameters() if p.requires_grad}
        reached: dict[str, bool] = {}

        def note(parameter: Tensor, name: str, kind: Kind, reached: dict[str, bool]) -> None:
            gradient = parameter.grad
            assert gradient is not None
            if not torch.isfinite(gradient).all():
                raise Broken(f"the gradient of '{name}' is NaN or infinite in {kind}")
            # A bias before a normalisation has no gradient, which is correct.
            alive = parameter.ndim < 2 or bool(gradient.any())
            reached[name] = reached.get(name, False) or alive

        hooks: list[Any] = []
        for name, parameter in learned.items():
            told = partial(note, name=name, kind=kind, reached=reached)
            hooks.append(parameter.register_post_accumulate_grad_hook(told))  # type: ignore[no-untyped-call]
        for _ in train(session, make_batch(session), steps=3):
            pass  # three, because zero-initialised layers pass on no gradient at first
        for hook in hooks:
            hook.remove()
        for name in learned:
            if name not in reached:
                raise Broken(f"'{name}' gets no gradient in {kind}: it is not used, or detached on the way")
            if not reached[name]:
                raise Broken(
                    f"the gradient of '{name}' is 0 throughout in {kind}: it has no effect on the loss"
                )


def overfits_a_tiny_problem(subject: Subject) -> None:
    """In each task four images are memorised, with the run's own optimizer and loss."""
    tried: set[str] = set()
    for kind in subject.kinds():
        if kind.task not in tried and bench_of(kind.task).goal is not None:
            _overfit(subject, kind)
            tried.add(kind.task)
    if not tried:
        raise NotClaimed("no task that it supports defines when something is learned")


def _overfit(subject: Subject, kind: Kind) -> None:
    bench, session = bench_of(kind.task), build(subject, kind)
    goal = bench.goal
    assert goal is not None
    wanted = subject.overfit_goals.get(kind.task, goal.value)
    batch = make_batch(session, count=4)

    def figure() -> float:
        session.learner.eval()
        with isolated(), torch.no_grad():
            return bench.figure(session, batch)

    before = now = figure()
    for step in train(session, batch, subject.overfit_steps):
        if step % 20 == 0:
            now = figure()
            if now > wanted if goal.rises else now < wanted:
                return
    raise Broken(
        f"in {kind} after {subject.overfit_steps} steps on four images their {goal.figure} is "
        f"{now:.2f}{goal.unit}, at the start it was {before:.2f}{goal.unit}; it has to "
        f"{'rise above' if goal.rises else 'fall below'} {wanted:g}{goal.unit}"
    )


def same_seed_same_result(subject: Subject) -> None:
    """The same seed gives the same weights and the same training: random numbers are torch's, with its
    seed."""
    kind = next(iter(subject.kinds()))
    built, trained, moved = [], [], []
    for seed in (1, 2):  # seeds of the global generators, which must not matter
        with isolated(seed):
            with untouched("building the plugin", but=("torch",)):
                session = subject.session(kind.dimensions, task=kind.task)
            built.append(_state(session))
            subject.session(kind.dimensions, task=kind.task, seed=seed)
            moved.append(torch.get_rng_state())
            training = Training(session, make_batch(session), total_steps=2)
            for number in range(2):
                torch.manual_seed(number)
                with untouched("training", but=("torch",)):
                    training.step()
        trained.append(_state(session))
    _compare(built[0], built[1], "built twice with the same seed")
    if torch.equal(*moved):
        raise Broken("building the plugin seeds torch's generator, so that the run's seed does not count")
    _compare(trained[0], trained[1], "trained twice with the same seed")


def prediction_is_deterministic(subject: Subject) -> None:
    """In evaluation mode the same image gives the same maps, and no random generator is used."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session)
        session.learner.eval()
        with isolated(), torch.no_grad(), untouched("the network in evaluation mode"):
            first, second = (session.learner.outputs(batch) for _ in range(2))
        for a, b in zip(tensors(first), tensors(second), strict=True):
            if not torch.equal(a, b):
                raise Broken(f"in {kind} two passes over one image differ by up to {_difference(a, b):.3g}")


def images_do_not_mix(subject: Subject) -> None:
    """In evaluation mode an image's maps do not depend on the other images of its batch."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session, count=3)
        for _ in train(session, batch, steps=1):  # changes running statistics
            pass
        factors = torch.tensor([1.0, 5.0, 0.2]).reshape(-1, *[1] * (kind.dimensions + 1))
        others = {**batch, "image": batch["image"] * factors}
        together = outputs_of(session, others)
        alone = outputs_of(session, first_sample(others))
        for a, b in zip(tensors(together), tensors(alone), strict=True):
            scale = float(b.abs().max()) + 1e-6
            if _difference(a[:1], b) > 1e-3 * scale:
                raise Broken(
                    f"in {kind} the maps of an image differ by up to {_difference(a[:1], b):.3g} when "
                    "others are beside it; does a normalisation use the batch's statistics?"
                )


def state_survives_save_and_load(subject: Subject) -> None:
    """After saving and loading the weights, for example in a new process, the maps are the same."""
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
        wanted, found = (maps_of(s, batch) for s in (session, other))
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


def unlabelled_does_not_matter(subject: Subject) -> None:
    """Values at places without annotation change neither loss nor gradient."""
    for kind in subject.kinds():
        session = build(subject, kind)
        for what, first, second in bench_of(kind.task).equal(session):
            results = [_loss_and_gradient(session, batch) for batch in (first, second)]
            for loss, gradient in results:
                if not (torch.isfinite(loss) and torch.isfinite(gradient)):
                    raise Broken(
                        f"in {kind} the loss is {float(loss)} and the norm of its gradient {float(gradient)} "
                        f"with {what}; select before computing: 0 · NaN is NaN"
                    )
            if not torch.allclose(torch.stack(results[0]), torch.stack(results[1]), rtol=1e-5):
                raise Broken(
                    f"in {kind} the loss is {float(results[0][0]):.6g} or {float(results[1][0]):.6g}, by "
                    f"{what}, or the gradients differ"
                )


def batches_without_labels(subject: Subject) -> None:
    """A batch without labels gives a finite loss and a finite gradient."""
    for kind in subject.kinds():
        session = build(subject, kind)
        for what, batch in bench_of(kind.task).empty(subject, session).items():
            loss, gradient = _loss_and_gradient(session, batch)
            if not (torch.isfinite(loss) and torch.isfinite(gradient)):
                raise Broken(
                    f"in {kind} with {what} the loss is {float(loss)} and the norm of its gradient "
                    f"{float(gradient)}; an empty target must not make 0/0"
                )


def optimizer_holds_every_parameter(subject: Subject) -> None:
    """The optimizer holds every learnable parameter, including those of labels and loss."""
    session = build(subject, next(iter(subject.kinds())))
    optimizers, _ = session.hooks.optimizer_and_scheduler(
        module=session.learner, solver=session.config.solver, base_lr=1e-3, total_steps=10
    )
    held = {
        id(parameter)
        for optimizer in (optimizers if isinstance(optimizers, (list, tuple)) else [optimizers])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    missing = [n for n, p in session.learner.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        raise Broken(f"the optimizer does not hold {', '.join(missing[:5])}; give it module.parameters()")


def first_sample(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The first sample of a batch, as a batch."""
    return {
        key: first_sample(value) if isinstance(value, Mapping) else value[:1] for key, value in batch.items()
    }


def _loss_and_gradient(session: Session, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The loss and the norm of its gradient."""
    learner = session.learner
    learner.eval()  # no dropout, which would make equal passes differ
    learner.zero_grad()
    with isolated():
        total = torch.stack(list(learner(batch).values())).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    return total.detach(), torch.cat([*gradients, torch.zeros(1)]).norm()


def _state(session: Session) -> dict[str, Tensor]:
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
    """Tensors and modules of a module that are missing in its state."""
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            held = value if isinstance(value, (list, tuple)) else [value]
            if not key.startswith("_") and any(isinstance(item, (Tensor, nn.Module)) for item in held):
                yield f"{name}.{key}"
