"""The training loop through whole runs: steps, schedule, stopping, interruption and resumption."""

import shutil
import sys

import pytest
import torch

from lannunet_core.run import checkpoint, run
from lannunet_core.run.processes import now

# Warnings about two workers on a small machine, and about forks of a process with threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*multi-threaded"),
]


@pytest.fixture
def stoppable(project, workshop):
    """A project with four epochs of three batches, which `SABOTAGE` stops."""
    project.set(solver={"max_epochs": 4}, trainer={"plugins": ["saboteur"]})
    return project


def whole(project):
    """The results of an uninterrupted run."""
    folder = project.folder / "whole"
    assert project.train("--set", f"output.output_dir={folder}") == 0
    return folder


def assert_same(one, other):
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    a, b = (checkpoint.load_checkpoint(folder / "checkpoints" / "latest.pt") for folder in (one, other))
    assert a.learner.keys() == b.learner.keys()
    assert all(torch.equal(a.learner[name], b.learner[name]) for name in a.learner)
    rows = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in c.progress["history"]]
        for c in (a, b)
    ]
    assert rows[0] == rows[1]


def test_same_seed_same_predictions(stoppable):
    assert stoppable.train() == 0
    assert_same(whole(stoppable), stoppable.out)
    assert stoppable.train("--overwrite", "--set", "solver.seed=1") == 0
    assert (stoppable.out / "predictions.csv").read_bytes() != (
        stoppable.folder / "whole" / "predictions.csv"
    ).read_bytes()


def test_killed_in_the_third_epoch(stoppable, capsys):
    killed = stoppable.start("train", stoppable.yaml, SABOTAGE="step 8 SIGKILL")
    assert killed.returncode == -9
    assert [row["epoch"] for row in stoppable.metrics()] == [1, 2]
    assert not (stoppable.out / "predictions.csv").exists()
    reference = whole(stoppable)

    for workers in (0, 2):
        copy = stoppable.folder / f"with {workers} workers"
        shutil.copytree(stoppable.out, copy)
        capsys.readouterr()
        settings = ("--set", f"output.output_dir={copy}", "--set", f"sampler.num_workers={workers}")
        assert stoppable.train("--resume", *settings) == 0
        latest = copy / "checkpoints" / "latest.pt"
        assert f"resumed from {latest}: epoch 3, batch 1" in capsys.readouterr().out
        assert_same(reference, copy)


def test_ctrl_c_within_an_epoch(stoppable, monkeypatch, capsys):
    """This also holds for a network with dropout and running statistics."""
    stoppable.set(model={"architecture": "probe"})
    del stoppable.config["model"]["unet"]
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 8 SIGINT")
        assert stoppable.train() == 130
    printed = capsys.readouterr()
    assert "saved at epoch 3, batch 3; continue with --resume" in printed.out
    assert printed.err.endswith("\nInterrupted.\n")
    assert stoppable.train("--resume") == 0
    assert "epoch 3, batch 3" in capsys.readouterr().out
    assert_same(whole(stoppable), stoppable.out)


def test_what_an_earlier_version_began_is_gone_on_with(stoppable, monkeypatch, capsys):
    """The recorded configuration lacks newer keys, and has a size for a key whose default is now `auto`."""
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 8 SIGINT")
        assert stoppable.train() == 130
    latest = stoppable.out / "checkpoints" / "latest.pt"
    state = torch.load(latest, weights_only=True)
    for section, keys in {
        "dataset": ["format"],
        "sampler": ["normalisation"],
        "solver": ["accumulate", "clip_gradient_norm"],
        "trainer": ["monitor"],
    }.items():
        for key in keys:
            del state["config"][section][key]
    state["config"]["sampler"]["patch"]["sample_patch_size"] = [128, 128]
    torch.save(state, latest)
    assert stoppable.train("--resume", "--set", "solver.accumulate=2") == 2
    assert "solver.accumulate was 1, is 2." in capsys.readouterr().err
    assert stoppable.train("--resume") == 0
    assert_same(whole(stoppable), stoppable.out)


def test_the_best_model_of_an_earlier_version_stays_the_best(stoppable, workshop, monkeypatch):
    """The file had another name; it has the model of the first epoch, and the training is finished."""
    stoppable.set(trainer={"plugins": ["saboteur", "drifting"]}, solver={"decay_policy": "none"})
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "epoch 4 SIGINT")
        assert stoppable.train() == 130
    best = stoppable.out / "checkpoints" / "best.safetensors"
    content = checkpoint.load_checkpoint(best)
    torch.save({"lannunet": checkpoint.FORMAT, **vars(content)}, best.with_suffix(".pt"))
    best.unlink()
    assert stoppable.train("--resume") == 0
    now = checkpoint.load_checkpoint(best).learner
    assert all(torch.equal(now[name], value) for name, value in content.learner.items())
    last = checkpoint.load_checkpoint(stoppable.out / "checkpoints" / "latest.pt").learner
    assert any(not torch.equal(now[name], value) for name, value in last.items())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGTERM", 143),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_reaches_the_whole_group_of_processes(stoppable, name, code):
    ended = stoppable.start(
        "train",
        stoppable.yaml,
        "--set",
        "sampler.num_workers=2",
        SABOTAGE=f"step 9 {name}",
        SABOTAGE_GROUP="yes",
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (code, "Interrupted.")
    assert "Traceback" not in ended.stderr
    assert "saved at epoch 3, batch 4" in ended.stdout  # its three batches are finished
    assert stoppable.train("--resume") == 0
    assert_same(whole(stoppable), stoppable.out)


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_stopped_at_the_end_of_the_last_epoch(stoppable, monkeypatch, capsys, signal, code):
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", f"epoch 4 {signal}")
        assert stoppable.train() == code
    assert not (stoppable.out / "predictions.csv").exists()
    assert stoppable.train("--resume") == 0
    assert_same(whole(stoppable), stoppable.out)


def test_crash_while_a_checkpoint_is_written(stoppable, monkeypatch, capsys):
    save = torch.save

    def full_disk(content, file):
        if "latest" in file.name and content["progress"]["epoch"] == 3:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        assert stoppable.train() == 1
    folder = stoppable.out / "checkpoints"
    full = f"{folder / 'latest.pt'}: No space left on device"
    error = capsys.readouterr().err.splitlines(keepends=True)[-1]
    assert error == f"Error: {full}. When that is fixed, continue with --resume.\n"
    assert sorted(path.name for path in folder.iterdir()) == ["best.safetensors", "latest.pt"]
    assert checkpoint.load_checkpoint(folder / "latest.pt").progress["epoch"] == 2
    assert stoppable.train("--resume") == 0
    assert "epoch 3, batch 1" in capsys.readouterr().out
    assert_same(whole(stoppable), stoppable.out)


ORDERED = """
import os
import signal

from lannunet_core import Plugin, hookimpl

from ordered_scheme import Killing


class Ordered(Plugin):
    @hookimpl
    def augmentations(self):
        return {"killing": Killing}
"""

KILLING = """
import os
import signal

from lannunet_core import RandomScheme


class Killing:
    \"\"\"The kernel ends a worker in the third epoch, once.\"\"\"

    def draw(self, rng, size, epoch):
        if epoch == 2 and not os.path.exists(os.environ["KILLED"]):
            open(os.environ["KILLED"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return RandomScheme().draw(rng, size)
"""


def test_a_killed_worker(project, distribution):
    distribution(
        "ordered", {"ordered": "ordered:Ordered"}, {"ordered.py": ORDERED, "ordered_scheme.py": KILLING}
    )
    project.set(
        solver={"max_epochs": 4},
        trainer={"plugins": ["ordered"]},
        sampler={"data_aug": "killing", "num_workers": 1},
    )
    marks = {"KILLED": str(project.folder / "killed")}
    ended = project.start("train", project.yaml, **marks)
    assert ended.returncode == 1
    assert "Error: Loader workers ended" in ended.stderr
    assert "continue with --resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = project.start("train", project.yaml, "--resume", **marks)
    assert "resumed from" in ended.stdout and "epoch 3, batch 1" in ended.stdout
    once = project.folder / "whole"
    project.start("train", project.yaml, "--set", f"output.output_dir={once}", **marks)
    assert_same(once, project.out)


def test_what_a_run_resolved_goes_on_with_it(stoppable, monkeypatch):
    stoppable.set(solver={"base_lr": "auto"})
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 8 SIGINT")
        assert stoppable.train() == 130
    free = (
        "inference.debug=true",
        "sampler.debug=true",
        "output.success_radii=[1]",
        "inference.split=validation",
    )
    settings = [word for key in free for word in ("--set", key)]
    assert stoppable.lannunet("train", stoppable.out / "config.yaml", "--resume", *settings) == 0


def test_resuming_a_run_that_has_not_begun_starts_it(project, capsys):
    assert project.train("--resume") == 0
    assert f"nothing to resume in {project.out}: starting from the beginning" in capsys.readouterr().out


def test_resuming_a_finished_run_evaluates_it_again(project, capsys):
    assert project.train() == 0
    before = (project.out / "predictions.csv").read_bytes()
    (project.out / "predictions.csv").unlink()
    assert project.train("--resume") == 0
    assert (project.out / "predictions.csv").read_bytes() == before
    assert len(project.metrics()) == 2


def test_resuming_another_run_is_refused(project, capsys):
    assert project.train() == 0
    before = {path: path.read_bytes() for path in project.out.rglob("*") if path.is_file()}
    project.set(solver={"base_lr": 0.1}, model={"unet": {"init_features": 8, "max_features": 8}})
    assert project.train("--resume") == 2
    error = capsys.readouterr().err
    assert "solver.base_lr was 'auto', is 0.1" in error
    assert "model.unet.init_features was 4, is 8" in error
    assert {path: path.read_bytes() for path in project.out.rglob("*") if path.is_file()} == before


# Stopping


def validated(project):
    return [row["epoch"] for row in project.metrics() if "validation_error" in row]


def test_patience_counts_validations(project, workshop):
    project.set(
        solver={"max_epochs": 12, "early_stopping_patience": 2, "mini_batch_size": 1},
        trainer={"validate_every": 2, "plugins": ["drifting"]},
    )
    assert project.train() == 0
    assert validated(project) == [2, 4, 6]
    assert len(project.metrics()) == 6
    progress = checkpoint.load_checkpoint(project.out / "checkpoints" / "latest.pt").progress
    assert (progress["best_epoch"], progress["stale"]) == (2, 2)


def test_the_last_epoch_is_validated(project):
    project.set(solver={"max_epochs": 5, "mini_batch_size": 1}, trainer={"validate_every": 2})
    assert project.train() == 0
    assert validated(project) == [2, 4, 5]


def test_the_best_model_is_used(project, workshop):
    """If errors rise from the first validation on, the best model is that of the first epoch."""
    project.set(solver={"max_epochs": 1}, trainer={"plugins": ["drifting"]})
    project.set(solver={"decay_policy": "none"})
    assert project.train() == 0
    first = checkpoint.load_checkpoint(project.out / "checkpoints" / "best.safetensors").learner
    assert project.train("--overwrite", "--set", "solver.max_epochs=3") == 0
    best = checkpoint.load_checkpoint(project.out / "checkpoints" / "best.safetensors").learner
    last = checkpoint.load_checkpoint(project.out / "checkpoints" / "latest.pt").learner
    assert all(torch.equal(best[name], first[name]) for name in first)
    assert any(not torch.equal(best[name], last[name]) for name in first)


def test_without_a_validation_split_the_last_model_is_used(project):
    project.annotations["validation"] = []
    assert project.train() == 0
    assert validated(project) == []
    best, last = (
        checkpoint.load_checkpoint(project.out / "checkpoints" / name)
        for name in ("best.safetensors", "latest.pt")
    )
    assert all(torch.equal(best.learner[name], last.learner[name]) for name in best.learner)


def test_a_model_that_finds_nothing_is_not_a_good_one(project, workshop):
    """This also holds if only one landmark of one image is in the validation set."""
    project.annotations["validation"] = project.annotations["validation"][:1]
    project.set(dataset={"landmarks": [0]}, trainer={"plugins": ["blind"]})
    assert project.train() == 0
    assert all(row["validation_error"] > 10 for row in project.metrics())
    assert all(row["x"] == "" and float(row["confidence"]) == 0 for row in project.rows())


# Steps


def test_adamw_and_the_poly_schedule(project, workshop):
    project.set(trainer={"plugins": ["watcher"]})
    assert project.train() == 0
    (optimizer,) = workshop().optimizers
    assert isinstance(optimizer, torch.optim.AdamW)
    expected = [2e-3 * (1 - step / 6) ** 0.9 for step in range(6)]
    assert workshop().rates == pytest.approx(expected)
    assert [row["lr"] for row in project.metrics()] == pytest.approx([expected[3], 0])


def test_sgd_as_in_lannunet(project, workshop):
    project.set(trainer={"plugins": ["watcher"]}, solver={"optimizer": "sgd", "decay_policy": "none"})
    assert project.train() == 0
    (optimizer,) = workshop().optimizers
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)
    assert workshop().rates == [0.01] * 6


def test_gradients_are_clipped(project, workshop):
    project.set(trainer={"plugins": ["watcher", "losses"]}, solver={"loss_function": "steep"})
    assert project.train() == 0
    assert workshop().norms == pytest.approx([12] * 6, rel=1e-3)


def mixed(config):
    return now().make_fabric(accelerator="cpu", devices=1, precision="bf16-mixed")


def test_backward_runs_outside_autocast(project, workshop, monkeypatch):
    monkeypatch.setattr(run, "make_fabric", mixed)
    project.set(model={"architecture": "probe"})
    del project.config["model"]["unet"]
    assert project.train() == 0
    seen = workshop("workshop_losses").Recording.seen
    assert ("forward", True) in seen
    assert seen.count(("backward", False)) == 6
    assert ("backward", True) not in seen


LABELS_SEEN = """
from lannunet_core import Plugin, hookimpl

class Looking(Plugin):
    landmarks, labels = [], []

    @hookimpl(wrapper=True)
    def generate_labels(self, landmarks):
        labels = yield
        self.landmarks.append(landmarks)
        self.labels.append(labels["heatmaps"][0])
        return labels
"""


def test_coordinates_are_not_rounded_by_mixed_precision(project, distribution, monkeypatch):
    monkeypatch.setattr(run, "make_fabric", mixed)
    distribution("looking", {"looking": "looking:Looking"}, {"looking.py": LABELS_SEEN})
    project.set(trainer={"plugins": ["looking"]})
    assert project.train() == 0
    seen = sys.modules["looking"].Looking
    assert {maps.dtype for maps in seen.labels} == {torch.float32}
    points = torch.cat([points.flatten() for points in seen.landmarks])
    points = points[points.isfinite()]
    assert points.dtype == torch.float32
    assert (points != points.bfloat16().float()).float().mean() > 0.9  # they do not fit into 8 bits


def test_parameters_of_a_loss_are_trained_saved_and_resumed(stoppable, monkeypatch):
    stoppable.set(trainer={"plugins": ["saboteur", "losses"]}, solver={"loss_function": "learned"})
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 5 SIGINT")
        assert stoppable.train() == 130
    stopped = checkpoint.load_checkpoint(stoppable.out / "checkpoints" / "latest.pt").learner["loss.width"]
    assert 1 < stopped < 3
    assert stoppable.train("--resume") == 0
    assert (
        checkpoint.load_checkpoint(stoppable.out / "checkpoints" / "latest.pt").learner["loss.width"]
        > stopped
    )
    assert_same(whole(stoppable), stoppable.out)
    assert {"kl", "width"} == set(stoppable.metrics()[-1]["terms"])


@pytest.mark.parametrize("name", ["kl", "mse", "MSE"])
def test_losses_by_name(project, name):
    project.set(solver={"loss_function": name})
    assert project.train() == 0
    assert [set(row["terms"]) for row in project.metrics()] == [{name.lower()}] * 2


@pytest.mark.parametrize(
    ("section", "key"),
    [("solver", "loss_function"), ("inference", "decoder"), ("sampler", "data_aug")],
)
def test_a_name_that_a_plugin_might_have_brought(project, workshop, capsys, section, key):
    project.set(trainer={"plugins": ["names"]}, **{section: {key: "besdie"}})
    assert project.train() == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {section}.{key}: ")
    assert "'besdie'" in error
    assert "beside" in error
    assert not project.out.exists()


def test_a_loss_that_is_not_a_number(project, workshop, capsys):
    project.set(trainer={"plugins": ["losses", "watcher"]}, solver={"loss_function": "breaking"})
    assert project.train() == 1
    error = capsys.readouterr().err
    saved = project.out / "failure" / "batch.pt"
    batch = torch.load(saved, weights_only=True)
    assert "not a number in epoch 2, batch 2" in error
    assert "odd = nan" in error
    assert str(saved) in error
    assert "Traceback" not in error
    assert all(name in error for name in batch["id"])
    assert batch["image"].shape == (2, 1, 32, 32)

    latest = checkpoint.load_checkpoint(project.out / "checkpoints" / "latest.pt")
    assert latest.progress["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in latest.learner.values())
    image = project.folder / project.annotations["testing"][0]["image"]
    assert project.lannunet("predict", project.out, image, "-o", project.folder / "found") == 0

    assert not torch.backends.cudnn.benchmark  # predictions of this process would inherit it
    told = workshop().events
    assert [event.name for event in told] == ["start", *["batch"] * 3, "epoch", "batch", "failure"]
    assert "epoch 2, batch 2" in told[-1].values["error"]


def test_a_gradient_that_is_not_a_number(project, workshop, capsys):
    """The fault is in the last batch, after which no loss would show it."""
    project.set(trainer={"plugins": ["losses"]}, solver={"loss_function": "silent"})
    assert project.train() == 1
    assert "weights are not numbers after epoch 2, batch 3" in capsys.readouterr().err
    for name in ("latest.pt", "best.safetensors"):
        kept = checkpoint.load_checkpoint(project.out / "checkpoints" / name).learner
        assert all(torch.isfinite(value).all() for value in kept.values())


def test_what_a_worker_refuses_comes_without_its_traceback(project, workshop, capsys):
    project.set(trainer={"plugins": ["stumbling"]}, sampler={"num_workers": 1})
    assert project.train() == 2
    error = capsys.readouterr().err
    assert error.endswith("\nError: a.yaml: this is refused. Do that instead.\n")
    assert "Traceback" not in error


def test_debug_pictures_change_nothing(project, workshop):
    """This also holds for a network with dropout and running statistics."""
    project.set(model={"architecture": "probe"}, sampler={"debug": True})
    del project.config["model"]["unet"]
    assert project.train() == 0
    drawn = [path.name for path in (project.out / "debug").iterdir()]
    assert len(drawn) == 2
    project.set(sampler={"debug": False})
    assert_same(whole(project), project.out)
