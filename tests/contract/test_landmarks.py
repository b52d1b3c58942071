"""The needs of method authors, each in a third-party plugin with only the public API."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lannunet_core.run.checkpoint import load_checkpoint


@pytest.fixture
def install(distribution, project):
    """Installs `stranger.py`, whose class `Stranger` is the plugin `stranger`, and names it in the run."""

    def make(source, architecture=False, files=None):
        text = f"from lannunet_core import Plugin, hookimpl\n\n{source}"
        distribution("stranger", {"stranger": "stranger:Stranger"}, {"stranger.py": text, **(files or {})})
        if architecture:
            project.config["model"] = {"architecture": "stranger"}
        else:
            project.set(trainer={"plugins": ["stranger"]})
        return lambda: sys.modules["stranger"]

    return make


def with_field(project, name, values) -> None:
    """Give every sample an additional field, with values in rotation."""
    samples = [
        sample for split in ("training", "validation", "testing") for sample in project.annotations[split]
    ]
    for number, sample in enumerate(samples):
        sample[name] = values[number % len(values)]


def same_after_resume(project, *, stop_after=1) -> None:
    """A run that was stopped and resumed is identical to an uninterrupted run."""
    assert project.train() == 0
    whole, rows = load_checkpoint(project.out).learner, project.rows()
    project.config["output"]["output_dir"] = "resumed"
    project.write()
    stopped = project.start("train", project.yaml, SABOTAGE=f"epoch {stop_after} SIGINT")
    assert stopped.returncode == 130, stopped.stderr
    assert project.lannunet("train", project.yaml, "--resume") == 0
    resumed = load_checkpoint(project.folder / "resumed").learner
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert rows == project.rows(project.folder / "resumed")


# Additional information of a sample -----------------------------------------------------------------------

WEIGHED = '''
class Stranger(Plugin):
    """Landmarks count as much as their sample's field `quality`."""

    @hookimpl(wrapper=True)
    def generate_labels(self, sample):
        labels = yield
        quality = sample["extra"].get("quality")
        if quality is None:
            return labels
        return {**labels, "weight": quality[:, None].expand_as(labels["state"])}
'''

IN_THE_LOSS = """
class Stranger(Plugin):
    @hookimpl(wrapper=True)
    def loss(self):
        loss = yield
        plain = loss.forward

        def weighed(outputs, labels):
            seen.append(labels["extra"])
            return plain(outputs, labels)

        loss.forward = weighed
        return loss


seen = []
"""


def test_a_field_of_the_json_weighs_the_loss(install, project):
    """Two of four training images have wrong points and quality 0: they must have no effect."""
    install(WEIGHED)
    with_field(project, "quality", [1.0, 0])
    assert project.train() == 0
    first = load_checkpoint(project.out).learner
    for sample in project.annotations["training"][1::2]:
        sample["coordinates"] = [[5.0, 5.0], [9.0, 50.0]]
    assert project.train("--overwrite") == 0
    for name, value in load_checkpoint(project.out).learner.items():
        assert torch.equal(value, first[name]), name


def test_fields_of_every_kind_reach_the_loss(install, project):
    stranger = install(IN_THE_LOSS)
    with_field(project, "age", [41, None])
    with_field(project, "pose", [[1, 2.5]])
    with_field(project, "site", ["a", "b"])
    assert project.train() == 0
    extra = stranger().seen[0]
    assert extra["age"].shape == (2,) and extra["pose"].tolist() == [[1, 2.5], [1, 2.5]]
    ages = torch.cat([one["age"] for one in stranger().seen])
    assert 41 in ages and ages.isnan().any()
    assert set(extra["site"]) <= {"a", "b"}


# Additional inputs of the network -------------------------------------------------------------------------

AGED = '''
class Stranger(Plugin):
    """A network that is given an age, and a prior map in the pixels that it sees."""

    @hookimpl
    def network(self):
        from lannunet_core import UserError
        from stranger_network import Network

        if self.run.dimensions != 2:
            raise UserError("stranger: is made for 2D; use another architecture.")
        return Network(self.run.in_channels, len(self.run.outputs))

    @hookimpl
    def network_inputs(self, batch):
        import torch

        image, affine = batch["image"], batch["affine"]
        y, x = torch.meshgrid(*[torch.arange(side) for side in image.shape[2:]], indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()  # of the network
        prior = (affine[:, None, None] @ pixels[..., None])[..., 0, 0]  # (B, y, x): x in the original image
        age = batch["extra"].get("age", torch.full((len(image),), 50.0))
        return {"age": age, "prior": (prior / 64).float()}
'''

NETWORK = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, channels, outputs):
        super().__init__()
        self.layers = nn.Conv2d(channels + 2, outputs, 9, padding=4)

    def forward(self, image, age, prior):
        ages = (age / 100).reshape(-1, 1, 1, 1).expand(-1, 1, *image.shape[2:])
        return self.layers(torch.cat([image, ages, prior[:, None]], 1))
"""


@pytest.mark.parametrize("patches", [False, True])
def test_the_network_gets_further_inputs(install, project, patches):
    install(AGED, architecture=True, files={"stranger_network.py": NETWORK})
    with_field(project, "age", [30, 60])
    if patches:
        patch = {"sample_patch_size": [16, 16], "inference_mode": "patchify_and_stitch"}
        project.set(sampler={"sample_mode": "patch_bias", "patch": patch})
    assert project.train() == 0
    project.set(inference={"tta": True}, sampler={"data_aug": "AffineComplex"})
    assert project.train("--overwrite") == 0
    predicted = project.lannunet(
        "predict", project.out, project.folder / "images", "-o", project.folder / "p"
    )
    assert predicted == 0  # standalone images have no age
    assert len(project.rows(project.folder / "p")) == 16


# Maps at another resolution, outputs without spatial axes -------------------------------------------------

QUARTER = '''
class Stranger(Plugin):
    """Maps at a quarter of the image's resolution."""

    @hookimpl
    def network(self):
        from lannunet_core import UserError
        from torch import nn

        if self.run.dimensions != 2:
            raise UserError("stranger: is made for 2D; use another architecture.")
        first = nn.Conv2d(self.run.in_channels, 16, 8, stride=4, padding=2)
        return nn.Sequential(first, nn.ReLU(), nn.Conv2d(16, len(self.run.outputs), 5, padding=2))
'''

COORDINATES = '''
class Stranger(Plugin):
    """Coordinates straight from the image, and how sure it is that each landmark is there."""

    tasks = ("landmarks",)

    @hookimpl
    def network(self):
        from stranger_network import Regressor

        return Regressor(self.run.in_channels, len(self.run.outputs), self.run.input_size)

    @hookimpl
    def loss(self):
        from stranger_network import Distance

        return Distance()

    @hookimpl
    def get_coords_from_heatmap(self, heatmaps):
        from lannunet_core import Coordinates

        points, seen = heatmaps
        return Coordinates(points.masked_fill(seen[..., None] == 0, float("nan")), seen.clamp(max=1))
'''

REGRESSOR = """
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy


class Regressor(nn.Module):
    def __init__(self, channels, landmarks, size):
        super().__init__()
        self.size, D = size, len(size)
        conv, pool = getattr(nn, f"Conv{D}d"), getattr(nn, f"AdaptiveAvgPool{D}d")
        last = nn.Linear(8 * 4**D, landmarks * (D + 1)), nn.Unflatten(1, (landmarks, D + 1))
        self.layers = nn.Sequential(conv(channels, 8, 8, 4), nn.ReLU(), pool(4), nn.Flatten(), *last)

    def forward(self, image):
        found = self.layers(image).float()
        return {"points": (found[..., :-1] + 0.5) * image.new_tensor(self.size), "seen": found[..., -1]}


class Distance(nn.Module):
    def forward(self, outputs, labels):
        visible, known = labels["state"] == 0, labels["state"] != 3
        error = (outputs["points"] - labels["landmarks"])[visible].square().sum()
        seen = cross_entropy(outputs["seen"][known], visible[known].float(), reduction="sum")
        return {"distance": error / visible.sum().clamp(min=1), "seen": seen / known.sum().clamp(min=1)}

    def activation(self, outputs):
        return outputs["points"], outputs["seen"].sigmoid()
"""


@pytest.mark.parametrize("mode", ["scale_heatmap_first", "scale_pred_coords"])
def test_coarse_maps_are_decoded_where_they_are(make_project, distribution, mode):
    splits = dict.fromkeys(("training", "validation", "testing"), 6)
    project = make_project(sizes=((64, 64), (96, 64)), input_size=(64, 48), splits=splits)
    text = f"from lannunet_core import Plugin, hookimpl\n\n{QUARTER}"
    distribution("quarter", {"quarter": "quarter:Stranger"}, {"quarter.py": text})
    project.config["model"] = {"architecture": "quarter"}
    project.set(
        solver={"max_epochs": 8, "mini_batch_size": 25, "data_loader_batch_size_train": 4},
        trainer={"validate_every": 4},
        sampler={"data_aug": "None"},
        inference={"split": "training", "evaluation_mode": mode},
    )
    assert project.train() == 0
    errors = [float(row["error_px"]) for row in project.rows()]
    assert (
        np.median(errors) < 1.5
    )  # a pixel of a map is 4 input pixels, and each of these is 1.3 to 2 image pixels


def test_outputs_need_no_place_in_the_image(install, project):
    install(COORDINATES, architecture=True, files={"stranger_network.py": REGRESSOR})
    assert project.train() == 0
    assert all(np.isfinite(float(row["x"])) for row in project.rows())


# Training steps -------------------------------------------------------------------------------------------

SABOTEUR = '''
from lannunet_core import Plugin, hookimpl


class Saboteur(Plugin):
    """Stops the run as `SABOTAGE` says."""

    @hookimpl
    def observe(self, event):
        import os
        import signal

        planned, count, name = os.environ.get("SABOTAGE", "- 0 -").split()
        if event.name == planned and event.values["epoch"] == int(count):
            os.kill(os.getpid(), getattr(signal, name))
'''


@pytest.fixture
def saboteur(distribution):
    distribution("saboteur", {"saboteur": "saboteur:Saboteur"}, {"saboteur.py": SABOTEUR})
    return {"plugins": ["stranger", "saboteur"]}


TEACHER = '''
class Stranger(Plugin):
    """Mean teacher (Tarvainen and Valpola 2017): predicts with a running mean of the trained network."""

    @hookimpl(wrapper=True)
    def network(self):
        from stranger_network import WithTeacher

        return WithTeacher((yield))

    @hookimpl
    def training_step(self, step):
        terms = step.losses()
        network, image = step.module.network, step.batch["image"]
        taught = network.teacher(image)[0].detach()
        terms = {**terms, "consistency": 0.01 * (network.student(image)[0] - taught).square().mean()}
        step.backward(sum(terms.values()))
        step.update()
        network.teach()
        return terms
'''

WITH_TEACHER = """
import copy

import torch
from torch import nn


class WithTeacher(nn.Module):
    def __init__(self, student):
        super().__init__()
        self.student, self.teacher = student, copy.deepcopy(student).requires_grad_(False)

    def forward(self, image):
        return (self.student if self.training else self.teacher)(image)

    @torch.no_grad()
    def teach(self):
        for theirs, ours in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            theirs.lerp_(ours, 0.1)
"""

GAN = '''
class Stranger(Plugin):
    """A discriminator tells true maps from predicted ones; it has an optimizer of its own."""

    tasks = ("landmarks",)

    @hookimpl(wrapper=True)
    def loss(self):
        from stranger_network import Adversarial

        return Adversarial((yield), len(self.run.outputs), self.run.dimensions)

    @hookimpl
    def optimizer_and_scheduler(self, module):
        from torch.optim import Adam

        return [Adam(module.network.parameters()), Adam(module.loss.judge.parameters())], None

    @hookimpl
    def training_step(self, step):
        terms = step.losses()
        step.backward(sum(terms.values()))
        step.update(step.optimizers[0])
        step.optimizers[1].zero_grad()
        step.backward(judged := step.module.loss.judged())
        step.update(step.optimizers[1])
        return {**terms, "judged": judged}
'''

ADVERSARIAL = """
from torch import nn
from torch.nn.functional import softplus


class Adversarial(nn.Module):
    def __init__(self, plain, landmarks, dimensions):
        super().__init__()
        self.plain, self.activation = plain, plain.activation
        self.judge = getattr(nn, f"Conv{dimensions}d")(landmarks, 1, 8, 4)

    def forward(self, outputs, labels):
        state, drawn = labels["state"], self.activation(outputs)
        drawn = drawn * (state == 0).reshape(*state.shape, *[1] * (drawn.ndim - 2))
        self.seen = drawn.detach(), labels["heatmaps"][0] / 100
        return {**self.plain(outputs, labels), "fooled": 0.01 * softplus(-self.judge(drawn)).mean()}

    def judged(self):
        drawn, true = map(self.judge, self.seen)
        return softplus(drawn).mean() + softplus(-true).mean()
"""

LBFGS = """
class Stranger(Plugin):
    @hookimpl
    def optimizer_and_scheduler(self, module):
        from torch.optim import LBFGS

        return LBFGS(module.parameters(), lr=0.1, max_iter=3, history_size=3), None
"""


@pytest.mark.parametrize(
    ("source", "network"),
    [(TEACHER, WITH_TEACHER), (GAN, ADVERSARIAL), (LBFGS, "")],
    ids=["teacher", "gan", "lbfgs"],
)
def test_a_training_step_of_its_own_trains_and_resumes(install, saboteur, project, source, network):
    install(source, files={"stranger_network.py": network})
    project.set(solver={"max_epochs": 2, "num_res_supervisions": 1}, trainer=saboteur)
    same_after_resume(project)
    terms = project.metrics()[0]["terms"]
    assert all(math.isfinite(value) for value in terms.values())
    assert {TEACHER: "consistency", GAN: "judged", LBFGS: "kl"}[source] in terms


def test_lbfgs_lowers_the_loss(install, project):
    install(LBFGS)
    project.set(
        solver={
            "max_epochs": 6,
            "mini_batch_size": 1,
            "data_loader_batch_size_train": 4,
            "num_res_supervisions": 1,
        },
        sampler={"data_aug": "None"},
    )
    assert project.train() == 0
    losses = [row["loss"] for row in project.metrics()]
    assert losses[-1] < losses[0]


def test_lbfgs_refuses_accumulation(install, project, capsys):
    install(LBFGS)
    assert project.train("--set", "solver.accumulate=2") == 2
    assert "solver.accumulate" in capsys.readouterr().err


PLATEAU = """
class Stranger(Plugin):
    @hookimpl
    def optimizer_and_scheduler(self, module):
        from torch.optim import SGD
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        optimizer = SGD(module.parameters(), lr=1e-6)  # so small that nothing gets better
        return optimizer, ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=0)
"""

GROUP = '''
class Stranger(Plugin):
    """Adds a group to the core's optimizer, with a rate of its own."""

    @hookimpl(wrapper=True)
    def optimizer_and_scheduler(self, module, base_lr):
        optimizer, scheduler = yield
        (group,) = optimizer.param_groups
        group["params"], last = group["params"][:-1], group["params"][-1]
        optimizer.add_param_group({"params": [last], "lr": base_lr / 10})
        return optimizer, scheduler

    @hookimpl
    def observe(self, event):
        if event.name == "batch":
            rates.append(event.values)


rates = []
'''


def test_a_scheduler_may_wait_for_a_plateau(install, project):
    install(PLATEAU)
    project.set(solver={"max_epochs": 4, "auto_mixed_precision": False})
    assert project.train() == 0
    assert [row["lr"] for row in project.metrics()][-1] < 1e-6


def test_a_group_is_added_to_the_cores_optimizer(install, project):
    install(GROUP)
    assert project.train() == 0
    latest = torch.load(project.out / "checkpoints" / "latest.pt", weights_only=True)
    first, last = latest["optimizer"]["several"][0]["param_groups"]
    assert first["lr"] == last["lr"] == 0 and last["initial_lr"] == pytest.approx(first["initial_lr"] / 10)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_accumulated_batches_are_one_large_batch(project, accumulate):
    """The gradients are the same if losses are means over landmarks, and all of these are visible."""
    project.set(
        solver={
            "max_epochs": 1, "mini_batch_size": 3, "data_loader_batch_size_train": 2, "base_lr": 1e-3,
            "optimizer": "sgd", "clip_gradient_norm": None, "auto_mixed_precision": False,
        },
        sampler={"data_aug": "None"},
    )  # fmt: skip
    project.config["model"]["unet"] = {"init_features": 4, "max_features": 8}
    assert project.train("--set", f"solver.accumulate={accumulate}") == 0
    latest = torch.load(project.out / "checkpoints" / "latest.pt", weights_only=True)
    steps = math.ceil(3 / accumulate)
    assert latest["scheduler"]["several"][0]["last_epoch"] == steps


# Figures and defaults -------------------------------------------------------------------------------------

FIGURE = """
class Stranger(Plugin):
    calls = 0

    @hookimpl
    def validation_metrics(self, predictions):
        assert predictions[0].target is not None
        self.calls += 1
        return {"own": [3.0, 1.0, 2.0][(self.calls - 1) % 3]}
"""


@pytest.mark.parametrize(("monitor", "best"), [("own", 2), ("-own", 1)])
def test_a_figure_of_a_plugin_decides_the_best_model(install, project, monitor, best):
    install(FIGURE)
    project.set(solver={"max_epochs": 3}, trainer={"monitor": monitor, "validate_every": 1})
    assert project.train() == 0
    assert [row["own"] for row in project.metrics()] == [3.0, 1.0, 2.0]
    latest = load_checkpoint(project.out / "checkpoints" / "latest.pt")
    assert latest.progress["best_epoch"] == best


def test_a_figure_that_decides_stops_early(install, project):
    install(FIGURE.replace("[3.0, 1.0, 2.0][(self.calls - 1) % 3]", "float(self.calls)"))
    project.set(solver={"max_epochs": 9, "early_stopping_patience": 2}, trainer={"monitor": "own"})
    assert project.train() == 0
    assert len(project.metrics()) == 3


def test_a_figure_that_does_not_exist_is_named(install, project, capsys):
    install(FIGURE)
    assert project.train("--set", "trainer.monitor=mine") == 2
    assert "there is no metric 'mine'" in capsys.readouterr().err


SUGGESTS = """
class Stranger(Plugin):
    @classmethod
    def suggestions(cls, task):
        return {"solver.early_stopping_patience": 3, "solver.base_lr": 5e-4}

    @hookimpl
    def metrics(self):
        return {}
"""


def test_a_plugin_suggests_defaults_and_the_user_wins(install, project, capsys):
    install(SUGGESTS)
    project.set(solver={"base_lr": 1e-3})
    project.write()
    assert project.lannunet("config", "explain", project.yaml) == 0
    lines = capsys.readouterr().out.splitlines()
    (patience,) = [line for line in lines if line.startswith("solver.early_stopping_patience")]
    (rate,) = [line for line in lines if line.startswith("solver.base_lr")]
    assert ": 3 " in patience and "suggested by plugin 'stranger'" in patience
    assert "0.001" in rate and "run.yaml" in rate


def test_a_suggestion_that_is_no_key_is_the_plugins_fault(install, project, capsys):
    install(SUGGESTS.replace("solver.base_lr", "solver.base_rate"))
    assert project.train() == 2
    assert "suggested by plugin 'stranger'" in capsys.readouterr().err


# Sampling, data and normalisation -------------------------------------------------------------------------

NATIVE = '''
class Stranger(Plugin):
    """Patches in the upper half of the original image, of which whole images are stitched."""

    tasks = ("landmarks",)

    @classmethod
    def suggestions(cls, task):
        return {
            "sampler.sample_mode": "patch_bias",
            "sampler.patch.resolution_to_sample_from": "full",
            "sampler.patch.inference_mode": "patchify_and_stitch",
        }

    @hookimpl
    def sampling(self):
        from stranger_sampling import UpperHalf

        return UpperHalf(self.run.input_size)
'''

UPPER = """
from dataclasses import dataclass

import numpy as np

seen = []


@dataclass(frozen=True)
class UpperHalf:
    output_size: tuple

    def centre(self, rng, image_size, sample, epoch):
        seen.append((sample.id, epoch, tuple(image_size)))
        last = np.asarray(image_size, float) - 8
        last[1] = image_size[1] / 2
        return rng.uniform(8, last)
"""


def test_sampling_of_its_own_at_native_resolution(make_project, distribution):
    project = make_project(sizes=((64, 48), (80, 96)))
    text = f"from lannunet_core import Plugin, hookimpl\n\n{NATIVE}"
    distribution(
        "stranger", {"stranger": "stranger:Stranger"}, {"stranger.py": text, "stranger_sampling.py": UPPER}
    )
    project.set(trainer={"plugins": ["stranger"]}, sampler={"patch": {"sample_patch_size": [16, 16]}})
    assert project.train() == 0
    seen = sys.modules["stranger_sampling"].seen
    assert {size for _, _, size in seen} == {(64, 48), (80, 96)}  # images are not resized
    assert {epoch for _, epoch, _ in seen} >= {0, 1}  # it knows the epoch, and the sample
    assert {name for name, _, _ in seen} == {f"training{n}" for n in range(4)}


FORMAT = """
class Stranger(Plugin):
    @classmethod
    def data_formats(cls, task):
        from stranger_format import open_table

        return {"my-table": open_table}

    @classmethod
    def image_readers(cls):
        from stranger_format import read_raw

        return {".raw": read_raw}

    @hookimpl
    def metrics(self):
        return {}
"""

TABLE = """
import csv

import numpy as np

from lannunet_core import State
from lannunet_landmarks import LandmarkDataset, Sample


def open_table(config):
    rows = list(csv.reader(config.src_targets.read_text().splitlines()))
    samples = {}
    for split, name, *numbers in rows:
        points = np.array(numbers, float).reshape(-1, 2)
        image = config.src_targets.parent / f"{name}.raw"
        samples.setdefault(split, []).append(Sample(name, image, points, np.full(len(points), State.VISIBLE)))
    splits = {split: tuple(found) for split, found in samples.items()}
    return LandmarkDataset("table", "", 0, ("a", "b"), 2, splits, (), config.src_targets)


def read_raw(path):
    return np.fromfile(path, np.uint8).reshape(1, 64, 64), (0.5, 0.5)
"""


def test_a_data_format_and_an_image_reader_of_its_own(install, project):
    install(FORMAT, files={"stranger_format.py": TABLE})
    from PIL import Image

    with (project.folder / "table.csv").open("w", newline="") as file:
        for split in ("training", "validation", "testing"):
            for sample in project.annotations[split]:
                numbers = [number for point in sample["coordinates"] for number in point]
                csv.writer(file).writerow([split, sample["id"], *numbers])
                pixels = np.asarray(Image.open(project.folder / sample["image"]))
                pixels.tofile(project.folder / f"{sample['id']}.raw")
    project.set(dataset={"src_targets": "table.csv", "format": "My Table"})
    assert project.train() == 0
    assert {row["landmark"] for row in project.rows()} == {"a", "b"}
    assert all(
        float(row["error_mm"]) == pytest.approx(float(row["error_px"]) / 2, abs=0.01)
        for row in project.rows()
    )
    loose = project.lannunet(
        "predict", project.out, project.folder / "testing6.raw", "-o", project.folder / "p"
    )
    assert loose == 0
    project.write()
    assert project.lannunet("config", "check", project.yaml) == 0


def test_a_damaged_file_of_its_own_format_is_named(install, project, capsys):
    install(FORMAT, files={"stranger_format.py": TABLE})
    first = project.annotations["training"][0]
    (project.folder / "short.raw").write_bytes(b"123")
    first["image"] = "short.raw"
    assert project.train() == 2
    assert "short.raw: cannot be read by the plugin's reader" in capsys.readouterr().err


WINDOW = """
class Stranger(Plugin):
    @hookimpl
    def normalisations(self):
        from stranger_window import Window

        return {"window": Window}

    @hookimpl
    def training_step(self, step):
        import stranger_window

        stranger_window.seen.append((float(step.batch["image"].min()), float(step.batch["image"].max())))
        return step.usual()
"""

WINDOWED = """
import numpy as np

seen = []


class Window:
    def __call__(self, channel):
        return np.clip((channel - 100) / 20, -0.5, 0.5)
"""


def test_a_normalisation_of_its_own(install, project):
    install(WINDOW, files={"stranger_window.py": WINDOWED})
    project.set(sampler={"normalisation": "window", "data_aug": "None", "num_workers": 2})
    assert project.train() == 0
    seen = np.array(sys.modules["stranger_window"].seen)
    assert seen.min() == -0.5 and seen.max() == 0.5


# Augmentation and order -----------------------------------------------------------------------------------

INTENSITY = """
class Stranger(Plugin):
    @hookimpl
    def augmentations(self):
        from stranger_scheme import Darker

        return {"Darker": Darker}

    @hookimpl
    def training_step(self, step):
        import stranger_scheme

        stranger_scheme.means.append(float(step.batch["image"].mean()))
        return step.usual()
"""

DARKER = '''
from lannunet_core import Drawn, RandomScheme

means = []


class Less:
    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return image - self.by


class Darker:
    """An intensity operation of its own, stronger with each epoch, and never for the first sample."""

    def draw(self, rng, size, sample, epoch):
        plain = RandomScheme().draw(rng, size)
        first = sample is None or sample.id == "training0"
        return Drawn(plain.spatial, () if first else (Less(10.0 * (epoch + 1)),))
'''


@pytest.mark.parametrize("package", ["torch", "imgaug"])
def test_an_intensity_operation_that_knows_sample_and_epoch(install, project, package):
    install(INTENSITY, files={"stranger_scheme.py": DARKER})
    project.set(sampler={"data_aug": "darker", "data_aug_package": package})
    if package == "imgaug":
        pytest.importorskip("imgaug.augmenters")
    assert project.train() == 0
    means = np.round(sys.modules["stranger_scheme"].means, 1)
    assert means[0] in (-5, -10) and means[-1] in (-10, -20)


PACKAGE = """
class Stranger(Plugin):
    @hookimpl
    def augmenter(self):
        from stranger_package import apply

        return apply
"""

APPLY = """
from lannunet_images import augment_one


def apply(image, drawn, centre, output_size):
    return augment_one(image, drawn, centre, output_size) + 7
"""


def test_an_augmentation_package_is_found_by_name(install, project, distribution):
    text = f"from lannunet_core import Plugin, hookimpl\n\n{PACKAGE}"
    distribution("mine", {"my-package": "mine:Stranger"}, {"mine.py": text, "stranger_package.py": APPLY})
    install(INTENSITY, files={"stranger_scheme.py": DARKER})
    project.set(sampler={"data_aug_package": "MyPackage", "data_aug": "None", "num_workers": 1})
    assert project.train() == 0
    assert np.allclose(sys.modules["stranger_scheme"].means, 7, atol=0.2)


ORDER = '''
class Stranger(Plugin):
    """A curriculum: the first sample alone, then the second."""

    @hookimpl
    def training_order(self, samples):
        assert [sample.id for sample in samples] == [f"training{n}" for n in range(4)]
        return lambda epoch, count: [min(epoch, 3)] * count

    @hookimpl
    def training_step(self, step):
        seen.append((step.epoch, *step.batch["id"]))
        return step.usual()


seen = []
'''


def test_the_order_of_training_cases(install, project):
    stranger = install(ORDER)
    assert project.train() == 0
    assert set(stranger().seen) == {(0, "training0", "training0"), (1, "training1", "training1")}


def test_an_order_of_the_wrong_length_is_named(install, project, capsys):
    install(ORDER.replace("[min(epoch, 3)] * count", "[0]"))
    assert project.train() == 2
    assert "'training_order'" in capsys.readouterr().err


# After the model ------------------------------------------------------------------------------------------

POST = """
class Stranger(Plugin):
    @hookimpl
    def postprocess(self, prediction):
        from dataclasses import replace

        return replace(prediction, coordinates=prediction.coordinates.clip(10, 20))

    @hookimpl
    def postprocess_all(self, predictions):
        from dataclasses import replace

        share = 1 / len(predictions)
        return [replace(one, confidence=one.confidence * 0 + share) for one in predictions]
"""


def test_predictions_are_post_processed_one_by_one_and_together(install, project):
    install(POST)
    assert project.train() == 0
    rows = project.rows()
    assert all(10 <= float(row[axis]) <= 20 for row in rows for axis in "xy")
    assert {float(row["confidence"]) for row in rows} == {0.5}
    assert (
        project.lannunet("predict", project.out, project.folder / "images", "-o", project.folder / "p") == 0
    )
    assert {float(row["confidence"]) for row in project.rows(project.folder / "p")} == {0.125}


REPORT = """
class Stranger(Plugin):
    @hookimpl
    def report(self, predictions):
        import numpy as np
        from matplotlib.figure import Figure

        from lannunet_core import ReportPart

        figure = Figure()
        figure.subplots().plot([one.confidence.mean() for one in predictions])
        picture = np.full((8, 8, 3), 200, np.uint8)
        return [ReportPart("My <figure>", "As I see it.", figure), ReportPart("My picture", picture=picture)]
"""


def test_figures_and_pictures_of_a_plugin_are_in_the_report(install, project):
    install(REPORT)
    assert project.train() == 0
    page = (project.out / "report.html").read_text()
    assert "My &lt;figure&gt;" in page and "As I see it." in page
    assert '<img src="data:image/jpeg;base64,' in page


# Weights --------------------------------------------------------------------------------------------------

PRETRAINED = '''
from pathlib import Path


class Stranger(Plugin):
    """Weights that are there while training alone."""

    @hookimpl
    def initial_weights(self, network):
        import torch

        network.load_state_dict(torch.load(Path(__file__).with_name("weights.pt"), weights_only=True))
'''


def test_pretrained_weights_are_needed_for_training_alone(install, project, trained, tmp_path):
    install(PRETRAINED)
    state = load_checkpoint(trained.out).learner
    weights = tmp_path / "installed" / "stranger" / "weights.pt"
    network = {
        key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")
    }
    torch.save(network, weights)
    project.set(solver={"base_lr": 1e-9, "max_epochs": 1})
    assert project.train() == 0
    for name, value in load_checkpoint(project.out).learner.items():
        assert torch.allclose(value, state[name], atol=1e-4), name
    weights.unlink()
    assert (
        project.lannunet("predict", project.out, project.folder / "images", "-o", project.folder / "p") == 0
    )


def test_a_model_of_another_number_of_landmarks_is_a_start(make_project, trained, capsys):
    project = make_project(landmarks=3, splits={"training": 4, "validation": 2, "testing": 2})
    project.config["model"]["checkpoint"] = str(trained.out)
    project.set(solver={"base_lr": 1e-9, "max_epochs": 1})
    assert project.train() == 0
    said = capsys.readouterr().out
    assert "weights fit this run; these are initialised again" in said
    before, after = load_checkpoint(trained.out).learner, load_checkpoint(project.out).learner
    new = {name for name in after if after[name].shape != before[name].shape}
    assert new and all(name in said for name in new)
    for name in after.keys() - new:
        assert torch.allclose(after[name].float(), before[name].float(), atol=1e-4), name


# Observing ------------------------------------------------------------------------------------------------

DEBUG = '''
class Stranger(Plugin):
    """Keeps what every batch of the first epoch was made of."""

    @hookimpl
    def debug_sample(self, batch, labels, folder):
        kept.append((batch, labels))
        return len(kept) == 3


kept = []
'''


def test_debug_sample_sees_what_a_sample_was_before_augmentation(install, project):
    stranger = install(DEBUG)
    project.set(sampler={"debug": True, "data_aug": "AffineComplexElastic", "num_workers": 1})
    assert project.train() == 0
    kept = stranger().kept
    assert len(kept) == 3  # until it is finished
    for batch, labels in kept:
        before = batch["before"]
        assert before["image"].shape == batch["image"].shape and not torch.equal(
            before["image"], batch["image"]
        )
        for b, drawn in enumerate(before["transform"]):
            visible = batch["states"][b] == 0
            points = before["landmarks"][b].double().numpy()
            moved = drawn.spatial.to_output(points, before["centre"][b].double().numpy(), (32, 32))
            if not drawn.spatial.mirrored:
                assert np.allclose(moved[visible], batch["landmarks"][b][visible], atol=1e-3)
        assert labels["heatmaps"][0].shape[:2] == (2, 2)


OBSERVER = """
class Stranger(Plugin):
    @hookimpl
    def observe(self, event):
        norm = sum(float(one.detach().norm()) for one in event.module.network.parameters())
        events.append((event.name, event.values.get("batch"), norm))


events = []
"""


def test_an_observer_sees_the_module_and_every_batch(install, project):
    stranger = install(OBSERVER)
    assert project.train() == 0
    events = stranger().events
    assert [name for name, _, _ in events] == ["start", *["batch", "batch", "batch", "epoch"] * 2, "end"]
    assert [batch for name, batch, _ in events if name == "batch"] == [1, 2, 3] * 2
    norms = [norm for name, _, norm in events if name == "batch"]
    # An event is sent one step later, so the last two events of an epoch see the same module.
    assert [norms[1], norms[4]] == [norms[2], norms[5]]
    assert len(set(norms)) == 4


# One file -------------------------------------------------------------------------------------------------

ONE_FILE = '''
from lannunet_core import Plugin, hookimpl


class Idea(Plugin):
    """One convolution."""

    @hookimpl
    def network(self):
        from torch import nn

        convolution = getattr(nn, f"Conv{self.run.dimensions}d")
        return convolution(self.run.in_channels, len(self.run.outputs), 9, padding=4)
'''


@pytest.fixture
def idea(project):
    """A file with a unique name, so that tests do not share a module."""
    path = project.folder / f"idea_{abs(hash(project.folder)) % 10**8}.py"
    path.write_text(ONE_FILE)
    return path


@pytest.mark.parametrize("how", ["yaml", "option"])
def test_one_file_is_a_plugin(project, idea, capsys, how):
    project.config["model"] = {"architecture": idea.name} if how == "yaml" else {}
    assert project.train(*([] if how == "yaml" else ["--plugin", idea])) == 0
    assert "its code runs" in capsys.readouterr().err
    out = project.folder / "p"
    images = project.folder / "images"
    assert project.lannunet("predict", project.out, images, "-o", out) == 2  # it may be a third-party model
    assert f"--plugin {idea.name}" in capsys.readouterr().err
    assert project.lannunet("predict", project.out, images, "-o", out, "--plugin", idea) == 0


def test_what_is_wrong_with_a_file_is_said(project, idea, capsys):
    project.config["model"] = {"architecture": "none.py"}
    assert project.train() == 2
    assert "run.yaml" in (said := capsys.readouterr().err) and "there is no such file" in said
    idea.write_text("from lannunet_core import Plugin\n")
    project.config["model"] = {"architecture": idea.name}
    assert project.train() == 2
    assert "holds 0 classes derived from lannunet_core.Plugin" in capsys.readouterr().err


def test_json_records_which_plugins_answered(install, project):
    install(POST)
    assert project.train() == 0
    hooks = dict(json.loads((project.out / "run.json").read_text())["hooks"])
    assert hooks["postprocess"][0] == ["stranger", "1.0"]
    assert Path(project.out / "config.yaml").is_file()
