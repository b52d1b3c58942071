"""Widths of the labels that are learned with the network."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lannunet_landmarks.maps.labels import gaussian_heatmaps, level_sigmas
from lannunet_landmarks.maps.learned_sigma import LearnedSigma, entropy, parameter_groups, penalties, volumes
from lannunet_landmarks.maps.losses import HeatmapMSE, SoftmaxCrossEntropy
from lannunet_landmarks.schema import RunConfig
from lannunet_landmarks.session import start_session

from lannunet_core.config.loaded import ChosenPlugin, LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State
from lannunet_core.plugins import discovery
from lannunet_core.plugins.api import RunInfo
from lannunet_core.run.session import make_fabric

SIZE = (64, 48)
UNET = {"init_features": 8, "max_features": 32, "min_feature_resolution": 8}


def ellipse(major, minor, degrees):
    """The covariance of a Gaussian whose long axis is turned from x towards y."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[c, -s], [s, c]])
    return turn @ torch.diag(torch.tensor([major, minor]) ** 2) @ turn.T


TILTED = ellipse(3.0, 1.4, 30)
JITTER = torch.stack([ellipse(2.8, 1.5, 35), ellipse(1.6, 2.4, 0)])


# The parameters and the labels


def tilted_reference(point, covariance, size, peak):
    pixels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1) - np.asarray(point)
    square = np.einsum("...i,ij,...j->...", pixels, np.linalg.inv(covariance), pixels)
    return peak * np.exp(-square / 2).T


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_covariance_draws_its_gaussian_on_every_level(dimensions):
    rng = np.random.default_rng(0)
    size = (36, 28, 20)[:dimensions]
    halves = [tuple(side // 2 for side in size), tuple(side // 4 for side in size)]
    root = rng.normal(size=(dimensions, dimensions))
    width = 4 * np.eye(dimensions) + 0.4 * (root + root.T)
    assert np.linalg.eigvalsh(width).min() / 4 > 0.5
    point = rng.uniform(8, 14, dimensions)
    sigmas = level_sigmas(torch.tensor(width)[None], [1, 2, 4])
    points, states = torch.tensor(point)[None, None], torch.zeros(1, 1, dtype=torch.long)
    maps = gaussian_heatmaps(points, states, sigmas, size, [size, *halves], 7.0)
    for level, (heatmap, level_size) in enumerate(zip(maps, [size, *halves], strict=True)):
        values, axes = np.linalg.eigh(width / 2**level)
        covariance = (axes * values.clip(min=1) ** 2) @ axes.T
        centre = (point + 0.5) / 2**level - 0.5
        expected = tilted_reference(centre, covariance, level_size, 7.0)
        np.testing.assert_allclose(heatmap[0, 0].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_round_covariance_draws_what_its_sigma_does():
    points = torch.tensor([[[20.3, 11.6], [40.0, 30.2], [math.nan, math.nan]]])
    states = torch.tensor([[0, 0, int(State.ABSENT)]])
    levels, strides = [(64, 48), (32, 24), (16, 12)], [1, 2, 4]
    sigma = torch.tensor([1.5, 3.0, 5.0])
    round_ones = sigma[:, None, None] * torch.eye(2)
    scalar = gaussian_heatmaps(points, states, level_sigmas(sigma, strides), SIZE, levels, 1.0)
    matrix = gaussian_heatmaps(points, states, level_sigmas(round_ones, strides), SIZE, levels, 1.0)
    for one, other in zip(scalar, matrix, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("covariance", [False, True])
def test_gradients_of_all_levels_reach_the_parameters(dimensions, covariance):
    """Against finite differences in float64; from a round start, where eigenvalues are equal, too."""
    torch.manual_seed(0)
    size = (8, 7) if dimensions == 2 else (6, 5, 4)
    levels = [size, tuple(side // 2 for side in size)]
    points = torch.rand(2, 2, dimensions, dtype=torch.float64) * 2 + 1
    states = torch.tensor([[0, 0], [0, int(State.UNLABELLED)]])
    learned = LearnedSigma("ab", dimensions, 2.6, covariance).double()
    start = learned.log.detach()

    def maps(log):
        widths = torch.func.functional_call(learned, {"log": log}, ())
        return tuple(gaussian_heatmaps(points, states, level_sigmas(widths, [1, 2]), size, levels, 2.0))

    for log in (start.clone(), start + 0.3 * torch.randn_like(start)):
        assert torch.autograd.gradcheck(maps, (log.requires_grad_(),))


def test_an_axis_below_a_pixel_stays_there_and_the_other_learns():
    """On the coarser level; the gradient is that of finite differences of the rule."""
    width = torch.tensor([[[3.0, 0.9], [0.9, 1.6]]], dtype=torch.float64, requires_grad=True)

    def rule(matrix):
        return level_sigmas((matrix + matrix.mT) / 2, [1.0, 2.0])

    fine, coarse = torch.linalg.eigvalsh(rule(width))[:, 0]
    assert fine[0] / 2 < 1 < fine[1] / 2
    torch.testing.assert_close(coarse, (fine / 2).clamp(min=1))
    assert torch.autograd.gradcheck(rule, (width,))


def test_any_parameters_are_widths():
    learned = LearnedSigma("ab", 3, 2.0, covariance=True)
    with torch.no_grad():
        learned.log.add_(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)))
    widths = learned()
    torch.testing.assert_close(widths, widths.mT)
    assert torch.linalg.eigvalsh(widths).min() > 0
    learned.keep_between(1.0, 6.0)
    along = torch.linalg.eigvalsh(learned())
    assert along.min() >= 1
    assert along.max() <= 6 + 1e-4


def test_figures():
    learned = LearnedSigma(["tip"], 2, 1.0, covariance=True)
    with torch.no_grad():
        values, axes = torch.linalg.eigh(TILTED)
        learned.log.copy_((axes * values.log() / 2) @ axes.T)
    figures = learned.figures()
    assert figures["sigma"]["tip"] == pytest.approx({"minor": 1.4, "major": 3.0}, abs=1e-4)
    assert np.allclose(figures["covariance"]["tip"], TILTED, atol=1e-4)
    assert LearnedSigma(["tip"], 2, 3.0, covariance=False).figures() == {"sigma": {"tip": pytest.approx(3)}}


# The objectives


def test_entropy_is_that_of_the_distribution():
    maps = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    maps[0, 1] = 0
    maps[1, 2, 0] = 0
    maps.requires_grad_()
    found = entropy(maps)
    for b, n in itertools.product(range(2), range(3)):
        values = maps[b, n].detach().flatten()
        expected = torch.distributions.Categorical(values).entropy() if values.sum() > 0 else 0
        assert found[b, n].item() == pytest.approx(float(expected))
    found.sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_entropy_of_a_gaussian_is_half_log_determinant():
    points, states = torch.tensor([[[32.2, 23.9]]]), torch.zeros(1, 1, dtype=torch.long)
    (heatmap,) = gaussian_heatmaps(points, states, root(TILTED)[None, None], SIZE, [SIZE], 100.0)
    expected = 0.5 * torch.logdet(2 * math.pi * math.e * TILTED)
    assert entropy(heatmap).item() == pytest.approx(float(expected), abs=1e-4)


def test_volumes_and_penalties():
    widths = level_sigmas(torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]), [1.0])
    assert volumes(widths, 2).item() == pytest.approx(6)
    assert penalties(widths, 2).item() == pytest.approx(6.5)
    for dimensions in (2, 3):
        sigma = torch.tensor([[1.5, 4.0]])
        matrix = sigma[..., None, None] * torch.eye(dimensions)
        torch.testing.assert_close(volumes(sigma, dimensions), volumes(matrix, dimensions))
        torch.testing.assert_close(penalties(sigma, dimensions), penalties(matrix, dimensions))


def root(covariance):
    values, axes = torch.linalg.eigh(covariance)
    return (axes * values.sqrt()) @ axes.mT


def test_half_the_entropy_has_its_minimum_at_the_jitter():
    """The best network ends at the closed form, and other covariances have a higher loss."""
    loss = SoftmaxCrossEntropy(1.0, 2)
    loss.learn_sigma(lambda: torch.ones(1), 1.0, 0.0)
    jitter = TILTED.double()
    drawn = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = (drawn - drawn.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(drawn.T.cov())).mT
    offsets = drawn @ torch.linalg.cholesky(jitter).mT  # their covariance is the jitter's
    size, centre = (49, 49), torch.full((1, 1, 2), 24.0, dtype=torch.float64)
    states = torch.zeros(len(offsets), 1, dtype=torch.long)

    def ends_at(covariance):
        width, blurred = root(covariance)[None, None], root(covariance + jitter)[None, None]
        (labels,) = gaussian_heatmaps(centre + offsets[:, None], states, width, size, [size], 1.0)
        (answer,) = gaussian_heatmaps(centre, states[:1], blurred, size, [size], 1.0)
        logits = (answer / answer.sum()).clamp(min=1e-300).log() + 20  # hardly "not here"
        given = {"state": states, "heatmaps": [labels], "sigmas": width}
        return sum(loss(logits.expand(len(offsets), -1, -1, -1), given).values()).item()

    best = ends_at(jitter)
    twice = 0.5 * math.log((3 / 2) ** 2) - 0.25 * math.log(2**2)
    assert ends_at(2 * jitter) - best == pytest.approx(twice, abs=0.005)
    for factor in (0.5, 0.8, 1.25):
        assert ends_at(factor * jitter) > best + 0.005
    assert ends_at(ellipse(3.0, 1.4, -30).double()) > best + 0.05


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize("start", [0.5, 3.0, 16.0])
def test_kl_ends_at_the_jitter_from_every_start(start, covariance):
    """The network is a free map, and each step has fresh jitter."""
    jitter = TILTED if covariance else 4.0 * torch.eye(2)
    found = free_map(SoftmaxCrossEntropy(start, 2), start, covariance, jitter, peak=1.0, rate=0.1)
    if covariance:
        found = torch.tensor(found["covariance"]["a"])
        assert torch.linalg.norm(found - jitter) < 0.08 * torch.linalg.norm(jitter)
    else:
        assert found["sigma"]["a"] == pytest.approx(2.0, rel=0.04)


def free_map(loss, start, covariance, jitter, peak, rate, steps=400, batch=16):
    generator = torch.Generator().manual_seed(0)
    levels, strides = [SIZE, (32, 24)], [1.0, 2.0]
    learned = LearnedSigma("a", 2, start, covariance)
    loss.learn_sigma(learned.forward, start, 0.005)
    maps = [torch.nn.Parameter(torch.zeros(1, 1, *size[::-1])) for size in levels]
    widths = parameter_groups(learned, 4e-3)[1]
    optimizer = torch.optim.AdamW([{"params": maps, "lr": rate, "weight_decay": 0.0}, widths])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / steps) ** 0.9)
    states, cholesky = torch.zeros(batch, 1, dtype=torch.long), torch.linalg.cholesky(jitter)
    centre = (torch.tensor(SIZE) - 1) / 2
    for _ in range(steps):
        points = centre + torch.randn(batch, 1, 2, generator=generator) @ cholesky.T
        learned.keep_between(1.0, 16.0)
        sigmas = level_sigmas(learned(), strides)
        heatmaps = gaussian_heatmaps(points, states, sigmas, SIZE, levels, peak)
        labels = {"state": states, "heatmaps": heatmaps, "sigmas": sigmas}
        terms = loss([m.expand(batch, -1, -1, -1) for m in maps], labels)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        schedule.step()
    return learned.figures()


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize("size", [SIZE, (20, 18, 16)], ids=["2D", "3D"])
def test_missing_landmarks_move_no_width(size, covariance):
    """The network is so certain that its scores, divided by an empty label, would overflow."""
    dimensions = len(size)
    for loss in (SoftmaxCrossEntropy(2.0, dimensions), HeatmapMSE(1.0)):
        learned = LearnedSigma("abcd", dimensions, 2.0, covariance)
        loss.learn_sigma(learned.forward, 2.0, 0.005)
        states = torch.tensor([[State.VISIBLE, State.OUTSIDE, State.ABSENT, State.UNLABELLED]])
        points = torch.full((1, 4, dimensions), math.nan)
        points[0, 0], points[0, 1] = 9.0, -90.0
        sigmas = level_sigmas(learned(), [1.0])
        heatmaps = gaussian_heatmaps(points, states, sigmas, size, [size], 1.0)
        outputs = 12 * torch.randn(1, 4, *size[::-1], generator=torch.Generator().manual_seed(0))
        terms = loss([outputs], {"state": states, "heatmaps": heatmaps, "sigmas": sigmas})
        sum(terms.values()).backward()
        assert learned.log.grad[0].abs().max() > 1e-6
        assert torch.all(learned.log.grad[1:] == 0)


def test_mse_is_the_plain_one_at_the_start():
    torch.manual_seed(0)
    learned = LearnedSigma("ab", 2, 3.0, covariance=False)
    points, states = torch.rand(2, 2, 2) * 40, torch.zeros(2, 2, dtype=torch.long)
    levels = [SIZE, (32, 24), (16, 12)]
    sigmas = level_sigmas(learned(), [1.0, 2.0, 4.0])
    heatmaps = gaussian_heatmaps(points, states, sigmas, SIZE, levels, 100.0)
    outputs = [torch.randn(2, 2, *size[::-1]) for size in levels]
    labels = {"state": states, "heatmaps": heatmaps, "sigmas": sigmas}
    plain, loss = HeatmapMSE(100.0), HeatmapMSE(100.0)
    loss.learn_sigma(learned.forward, 3.0, 0.005)
    torch.testing.assert_close(loss(outputs, labels)["mse"], plain(outputs, labels)["mse"])


def test_a_perfect_learned_label_has_a_peak_of_1():
    learned = LearnedSigma("a", 2, 2.0, covariance=True)
    with torch.no_grad():
        learned.log.copy_(torch.tensor([[[1.2, 0.3], [0.3, 0.8]]]))
    loss = SoftmaxCrossEntropy(2.0, 2)
    loss.learn_sigma(learned.forward, 2.0, 0.005)
    points, states = torch.tensor([[[31.0, 24.0]]]), torch.zeros(1, 1, dtype=torch.long)
    (label,) = gaussian_heatmaps(points, states, level_sigmas(learned(), [1.0]), SIZE, [SIZE], 1.0)
    logits = (label / label.sum()).clamp(min=1e-30).log() + 15
    assert loss.activation([logits]).max().item() == pytest.approx(1, abs=1e-3)


# In a run


def start(mode, sigma, architecture="unet", section=UNET, size=SIZE, **solver):
    """A session without files."""
    config = RunConfig.model_validate(
        {
            "dataset": {"src_targets": "none.json"},
            "output": {"output_dir": "none"},
            "sampler": {"input_size": size},
            "solver": {"regress_sigma": mode, **solver},
            "model": {"architecture": architecture, "gauss_sigma": float(sigma)},
        }
    )
    installed = discovery.find(architecture)
    plugin_class = installed.load()
    chosen = ChosenPlugin(installed, plugin_class, plugin_class.Config.model_validate(section))
    run = RunInfo(
        task="landmarks",
        dimensions=2,
        in_channels=1,
        outputs=("first", "second"),
        input_size=size,
        spacing=None,
        supervised_resolutions=3,
        device="cpu",
        seed=0,
    )
    return start_session(LoadedConfig(config, chosen, (), Path("none.yaml"), {}), run, make_fabric(config))


def draw(generator, jitter, size, batch=8):
    """A bright and a dark blob, annotated next to where they are."""
    margin = 10
    points = torch.rand(batch, 2, 2, generator=generator) * (torch.tensor(size) - 1 - 2 * margin) + margin
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float32) for side in size[::-1]], indexing="ij")
    squares = (x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2
    blobs = torch.exp(-squares / 8)
    noise = 0.1 * torch.randn(batch, *size[::-1], generator=generator)
    moved = torch.randn(batch, 2, 2, generator=generator)[:, :, None] @ torch.linalg.cholesky(jitter).mT
    return {
        "image": (noise + blobs[:, 0] - blobs[:, 1])[:, None],
        "landmarks": points + moved[:, :, 0],
        "states": torch.zeros(batch, 2, dtype=torch.long),
        "corner": torch.zeros(batch, 2),
    }, moved[:, :, 0]


def learn(session, jitter, steps, precision=None):
    """Train on images that are never seen again; the jitter that was drawn (images, N, D)."""
    learner, solver = session.learner.train(), session.config.solver
    optimizer, scheduler = session.hooks.optimizer_and_scheduler(
        module=learner,
        solver=solver,
        base_lr={"adamw": 2e-3, "sgd": 0.01}[solver.optimizer],
        total_steps=steps,
    )
    generator, drawn = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        batch, moved = draw(generator, jitter, session.config.sampler.input_size)
        drawn.append(moved)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            terms = learner(batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 12.0)
        optimizer.step()
        scheduler.step()
    return torch.cat(drawn)


def off(session, drawn):
    """Relative Frobenius distances between the learned covariances and those of the jitter."""
    found = torch.tensor(list(session.learner.label_width.figures()["covariance"].values()))
    true = torch.stack([drawn[:, n].T.cov() for n in range(2)])
    return (torch.linalg.norm(found - true, dim=(1, 2)) / torch.linalg.norm(true, dim=(1, 2))).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma", "size"),
    [(4 * torch.linalg.det(JITTER[0]).item() ** 0.25, (96, 72)), (0.5, (64, 48)), (16.0, (128, 128))],
)
def test_covariances_of_the_jitter_are_recovered(sigma, size):
    """Widths end within 15 %, from a 4-fold start and from the limits; 12,000 images are seen once."""
    torch.set_num_threads(1)
    session = start("covariance", sigma, size=size)
    before = torch.linalg.eigvalsh(session.learner.label_width())
    torch.testing.assert_close(before, torch.full_like(before, sigma))
    drawn = learn(session, JITTER, 1500)
    assert max(off(session, drawn)) < 0.15


@pytest.mark.slow
def test_sigma_of_the_jitter_is_recovered():
    torch.set_num_threads(1)
    true = torch.tensor([1.5, 2.5])
    session = start("isotropic", 4 * 2.5, size=(96, 80))
    learn(session, true[:, None, None] ** 2 * torch.eye(2), 1500)
    found = list(session.learner.label_width.figures()["sigma"].values())
    assert found == pytest.approx(true.tolist(), rel=0.15)


@pytest.mark.slow
def test_a_covariance_turns_towards_its_jitter():
    """The quick variant is less precise, and starts closer."""
    session = start("covariance", 3.5)
    drawn = learn(session, JITTER, 200)
    after = off(session, drawn)
    before = off(start("covariance", 3.5), drawn)
    assert all(a < 0.5 * b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("loss_function", ["kl", "mse"])
@pytest.mark.parametrize("sigma", [0.5, 16.0])
def test_extreme_starts_stay_finite_and_within_bounds(sigma, loss_function):
    session = start("covariance", sigma, loss_function=loss_function)
    learn(session, JITTER, 30, precision=torch.bfloat16)
    along = torch.linalg.eigvalsh(session.learner.label_width())
    assert torch.isfinite(along).all()
    assert 0.9 < along.min() <= along.max() < 48 / 8 * 1.5


@pytest.mark.parametrize("mode", ["isotropic", "covariance"])
def test_phdnet_learns_its_widths(mode):
    session = start(mode, 5.0, "phdnet", {"maxpool_factor": 2})
    before = session.learner.label_width.log.detach().clone()
    learn(session, JITTER, 12)
    moved = (session.learner.label_width.log - before).abs().reshape(len(before), -1).amax(-1)
    assert (moved > 1e-3).all()


@pytest.mark.parametrize(
    ("architecture", "section", "solver"),
    [
        ("unet", UNET, {"loss_function": "awl"}),
        ("phdnet", {"branch_scheme": "displacement"}, {}),
        ("phdnet", {"class_label_scheme": "binary"}, {}),
    ],
)
def test_losses_without_a_width_are_refused(architecture, section, solver):
    with pytest.raises(UserError, match=r"^solver\.regress_sigma: .* regress_sigma (to|or) ?false"):
        start("isotropic", 2.0, architecture, section, **solver)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_label_parameters_have_a_group_of_their_own(optimizer):
    session = start("covariance", 2.0, optimizer=optimizer)
    made, _ = session.hooks.optimizer_and_scheduler(
        module=session.learner, solver=session.config.solver, base_lr=0.002, total_steps=10
    )
    network, widths = made.param_groups
    assert widths["params"] == [session.learner.label_width.log]
    assert widths["weight_decay"] == 0 < network["weight_decay"]
    both = {id(p) for group in made.param_groups for p in group["params"]}
    assert both == {id(p) for p in session.learner.parameters()}
    assert sum(len(group["params"]) for group in made.param_groups) == len(both)


# Through the command line


@pytest.mark.parametrize("mode", ["isotropic", "covariance"])
def test_a_resumed_run_goes_on_on_the_same_curve(project, workshop, monkeypatch, mode):
    project.set(solver={"regress_sigma": mode, "max_epochs": 3}, trainer={"plugins": ["saboteur"]})
    assert project.train() == 0
    whole = project.metrics()
    monkeypatch.setenv("SABOTAGE", "step 5 SIGINT")
    assert project.train("--overwrite") == 130
    monkeypatch.delenv("SABOTAGE")
    assert project.train("--resume") == 0
    assert [row | {"seconds": 0} for row in project.metrics()] == [row | {"seconds": 0} for row in whole]
    widths = [row["sigma"]["0"] for row in whole]
    assert widths[0] != widths[-1]
    assert ("covariance" in whole[0]) == (mode == "covariance")
    assert {"kl", "sigma"} == set(whole[0]["terms"])
    assert "Learned width of the heatmaps" in (project.out / "report.html").read_text()


def test_with_loader_workers_and_true_for_isotropic(project):
    project.set(solver={"regress_sigma": True}, sampler={"num_workers": 1})
    assert project.train() == 0
    assert "regress_sigma: isotropic" in (project.out / "config.yaml").read_text()
    assert all(isinstance(width, float) for width in project.metrics()[0]["sigma"].values())


def test_models_with_and_without_learned_widths_start_each_other(project, trained):
    project.set(model={"checkpoint": str(trained.out / "checkpoints" / "best.safetensors")})
    project.set(solver={"regress_sigma": "covariance"})
    assert project.train() == 0
    learned = project.folder / "learned.safetensors"
    (project.out / "checkpoints" / "best.safetensors").rename(learned)
    for mode in ("isotropic", False):
        project.set(model={"checkpoint": str(learned)}, solver={"regress_sigma": mode})
        assert project.train("--overwrite") == 0
