"""One training step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lannunet_core.run.processes import now
from lannunet_core.run.step import Numbers, Step, needs_closure, plain, several, total


class Failed(Exception):
    pass


class Module(nn.Module):
    """Two loss terms, each with a separate parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.tensor(value)) for value in (1.0, 2.0))

    def forward(self, given):
        scale = given.batch["scale"]
        return {"first": scale * self.first**2, "second": scale * self.second**2}


def run(*optimizers, clip=None, schedulers=()):
    module = Module()
    made = [build(list(module.parameters())) for build in optimizers]
    fabric = now().make_fabric(accelerator="cpu", devices=1)
    module, *wrapped = fabric.setup(module, *made)

    def fail(step, batch, values):
        raise Failed(values)

    return SimpleNamespace(
        module=module,
        optimizers=wrapped,
        schedulers=[build(made[0]) for build in schedulers],
        fabric=fabric,
        clip=clip,
        fail=fail,
        hooks=SimpleNamespace(training_step=lambda step: step.usual()),
    )


def step(of, scale=1.0, share=1.0, last=True):
    return Step(of, {"scale": torch.tensor(scale)}, 0, 0, share, last)


def sgd(parameters, rate=0.1):
    return SGD(parameters, lr=rate)


def test_the_usual_step_is_gradient_descent():
    of = run(sgd)
    one = step(of)
    one.take()
    assert one.values() == {"first": 1, "second": 4}
    assert of.module.first.item() == pytest.approx(1 - 0.1 * 2)
    assert of.module.second.item() == pytest.approx(2 - 0.1 * 4)
    assert of.module.first.grad is None


def test_gradients_are_clipped():
    of = run(sgd, clip=1.0)
    step(of).usual()
    norm = (2**2 + 4**2) ** 0.5
    assert of.module.first.item() == pytest.approx(1 - 0.1 * 2 / norm, abs=1e-5)


def test_batches_are_averaged_into_one_update():
    of = run(sgd, schedulers=[lambda optimizer: LambdaLR(optimizer, lambda _: 1.0)])
    step(of, 1.0, share=0.5, last=False).usual()
    assert of.module.first.item() == 1
    assert of.schedulers[0].last_epoch == 0
    step(of, 3.0, share=0.5, last=True).usual()
    assert of.module.first.item() == pytest.approx(1 - 0.1 * 2 * (1 + 3) / 2)
    assert of.schedulers[0].last_epoch == 1


def test_a_scheduler_that_waits_for_a_plateau_is_not_stepped():
    of = run(sgd, schedulers=[lambda optimizer: ReduceLROnPlateau(optimizer)])
    step(of).usual()
    assert of.schedulers[0].last_epoch == 0


def test_one_of_several_optimizers_steps_with_its_scheduler():
    of = run(
        lambda parameters: sgd(parameters[:1]),
        lambda parameters: sgd(parameters[1:]),
        schedulers=[lambda optimizer: LambdaLR(optimizer, lambda _: 1.0)],
    )
    one = step(of)
    one.backward(total(one.losses()))
    one.update(of.optimizers[1])
    assert of.module.first.item() == 1
    assert of.module.second.item() < 2
    assert of.schedulers[0].last_epoch == 0
    one.update(of.optimizers[0])
    assert of.module.first.item() < 1
    assert of.schedulers[0].last_epoch == 1


def test_an_optimizer_with_a_closure_lowers_the_loss():
    of = run(lambda parameters: LBFGS(parameters, lr=0.5, max_iter=4))
    one = step(of)
    one.take()
    assert one.values() == {"first": 1, "second": 4}  # before the step
    assert sum(Numbers(step(of).losses()).read().values()) < 1


def test_what_is_no_number_ends_the_run():
    one = step(run(sgd), float("nan"))
    one.take()
    with pytest.raises(Failed):
        one.values()


@pytest.mark.parametrize("answer", [{"own": float("inf")}, {"own": torch.tensor(float("nan"))}])
def test_what_the_hook_answers_is_read_too(answer):
    of = run(sgd)
    of.hooks.training_step = lambda step: {"own": torch.tensor(2.0), "plain": 1.0}
    one = step(of)
    one.take()
    assert one.values() == {"own": 2, "plain": 1}
    of.hooks.training_step = lambda step: answer
    other = step(of)
    other.take()
    with pytest.raises(Failed):
        other.values()


def test_a_loss_on_the_way_that_is_no_number_ends_the_run():
    """This also holds if the hook returns something else."""
    of = run(sgd)

    def own_step(step):
        step.losses({"scale": torch.tensor(float("nan"))})
        return {"own": 1.0}

    of.hooks.training_step = own_step
    one = step(of)
    one.take()
    with pytest.raises(Failed):
        one.values()


def test_what_is_written_over_afterwards_was_read_before():
    """The values of a step are read while the next step runs."""
    of, kept = run(sgd), torch.tensor(2.0)
    of.hooks.training_step = lambda step: {"mean": kept}
    one = step(of)
    one.take()
    kept.fill_(7.0)
    assert one.values() == {"mean": 2}


def test_helpers():
    of = run(sgd, lambda parameters: LBFGS(parameters))
    assert [needs_closure(plain(one)) for one in of.optimizers] == [False, True]
    assert several(None) == []
    assert several(3) == [3]
    assert several((1, 2)) == [1, 2]
