"""Runs on several devices: here processes on the CPU, joined by gloo."""

import csv
import json

import pytest

from tests.fixtures.projects import draw_project, draw_segmentation_project

EXACT = {"auto_mixed_precision": False, "max_epochs": 20, "mini_batch_size": 1, "optimizer": "sgd"}
"""SGD, as AdamW makes whole steps of gradients that are rounding errors; these depend on the processor."""


def uneven_landmarks(folder):
    """The first images have few labels, the last ones all, so the shares of a batch have unequal numbers."""
    project = draw_project(folder, splits={"training": 5, "validation": 3, "testing": 5}, landmarks=3)
    for number, sample in enumerate(project.annotations["training"]):
        sample["coordinates"] = [
            point if n <= number else None for n, point in enumerate(sample["coordinates"])
        ]
    project.annotations["training"][-1]["coordinates"][0] = "absent"
    project.set(
        solver={**EXACT, "data_loader_batch_size_train": 5, "regress_sigma": True},
        trainer={"validate_every": 10},
    )
    return project


def accumulated_segmentation(folder):
    """Two batches per step."""
    project = draw_segmentation_project(folder, testing=3)
    project.set(
        solver={**EXACT, "mini_batch_size": 2, "accumulate": 2, "data_loader_batch_size_train": 3},
        trainer={"validate_every": 10, "fold": 0},
    )
    return project


@pytest.fixture(scope="module", params=[uneven_landmarks, accumulated_segmentation])
def runs(request, tmp_path_factory):
    """The same run in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    one, two = (request.param(folder / name) for name in ("one", "two"))
    assert one.train() == 0
    ended = two.start_processes(2)
    assert [process.returncode for process in ended] == [0, 0], [process.stderr for process in ended]
    return one, two, ended


def test_two_processes_train_as_one_does_with_the_same_batches(runs):
    one, two, _ = runs
    assert len(two.metrics()) == 20
    for alone, shared in zip(one.metrics(), two.metrics(), strict=True):
        for name in ("terms", "sigma"):
            assert shared.get(name, {}) == pytest.approx(alone.get(name, {}), abs=1e-5)
        assert shared.get("validation_error") == pytest.approx(alone.get("validation_error"), abs=1e-3)


def test_they_write_the_same_predictions(runs):
    one, two, _ = runs
    written = [path for path in one.out.rglob("*.*") if path.suffix in (".csv", ".gz")]
    assert written
    for path in written:
        other = two.out / path.relative_to(one.out)
        if path.suffix == ".gz":
            import SimpleITK as sitk

            first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (path, other))
            assert (first != second).mean() < 5e-4  # rounding decides voxels between two classes
            continue
        tables = (csv.DictReader(file.read_text().splitlines()) for file in (path, other))
        for alone, shared in zip(*tables, strict=True):
            for name, value in alone.items():
                by_a_voxel = 5e-3 if path.name == "cases.csv" else 0.0
                assert alike(shared[name].replace("/two/", "/one/"), value, by_a_voxel)


def alike(text, other, share):
    """Whether cells are the same, or numbers that differ by rounding, or by this share."""
    try:
        return float(text) == pytest.approx(float(other), rel=share, abs=1e-3)
    except ValueError:
        return text == other


def test_one_process_prints_and_writes(runs):
    _, two, (first, second) = runs
    assert first.stdout.count("epoch 20/20: loss") == 1
    own = [line for line in second.stderr.splitlines() if "reducer.cpp" not in line]  # torch was imported
    assert second.stdout == "" and own == []
    assert json.loads((two.out / "run.json").read_text())["processes"] == 2
    listed = (two.out / ".lannunet-files").read_text().splitlines()
    files = {str(path.relative_to(two.out)) for path in two.out.rglob("*") if path.is_file()}
    assert files - {".lannunet-files"} == set(listed)


WITNESS = '''
"""Writes down the samples of each batch; ends its process, or asks it to stop, where FAULT says so."""

import os
import signal

from lannunet_core import Plugin, hookimpl


class Witness(Plugin):
    @hookimpl(wrapper=True)
    def training_step(self, step):
        rank = os.environ.get("RANK", "0")
        with open(os.environ["WITNESS"], "a") as file:
            file.write(f"{step.epoch} {step.number} {rank} {','.join(step.batch['id'])}\\n")
        if os.environ.get("FAULT", "").split()[:3] == [rank, str(step.epoch), str(step.number)]:
            os.kill(os.getpid(), getattr(signal, os.environ["FAULT"].split()[3]))
        return (yield)
'''


@pytest.fixture
def witnessed(distribution, make_project, tmp_path, monkeypatch):
    """A project, and the file of its batches."""
    distribution("witness", {"witness": "witness:Witness"}, {"witness.py": WITNESS})
    monkeypatch.setenv("WITNESS", str(tmp_path / "batches"))
    project = make_project(splits={"training": 5, "validation": 2, "testing": 2})
    project.set(solver={"max_epochs": 3, "data_loader_batch_size_train": 4}, trainer={"plugins": ["witness"]})
    return project


def batches(path):
    """The ids of the batch of each step, by epoch and number; repeated steps count once."""
    found = {}
    for line in path.read_text().splitlines():
        epoch, number, rank, ids = line.split()
        found[int(epoch), int(number), int(rank)] = ids.split(",")
    whole = {}
    for epoch, number, rank in sorted(found):
        whole.setdefault((epoch, number), []).extend(found[epoch, number, rank])
    return whole


@pytest.mark.slow
def test_one_that_is_killed_ends_the_run_which_others_resume(witnessed, tmp_path):
    """Three processes are stopped by a signal to one of them, of two one is killed, and one ends the run."""
    path = tmp_path / "batches"
    stopped = witnessed.start_processes(3, FAULT="2 0 1 SIGTERM")
    assert [process.returncode for process in stopped] == [143] * 3, [p.stderr for p in stopped]
    assert "saved at epoch 1, batch 3" in stopped[0].stdout
    first = batches(path)

    path.unlink()
    killed = witnessed.start("train", witnessed.yaml, "--resume", "--devices", 2, FAULT="1 2 1 SIGKILL")
    assert killed.returncode == 1, killed.stdout + killed.stderr
    assert killed.stderr.count("\n") == 1
    assert "process 1 of 2 was killed by SIGKILL" in killed.stderr
    assert "--resume" in killed.stderr
    second = batches(path)
    del second[2, 1]  # it was running

    path.unlink()
    assert witnessed.train("--resume") == 0
    resumed = first | second | batches(path)
    assert min(batches(path)) == (2, 1)  # no finished step is repeated
    path.unlink()
    assert witnessed.train("--overwrite") == 0
    assert resumed == batches(path)
    assert len(resumed) == 9


OWN_STEP = '''
"""A training step that calls the network alone, past what averages gradients."""

from lannunet_core import Plugin, hookimpl


class OwnStep(Plugin):
    @hookimpl
    def training_step(self, step):
        outputs = step.module.network(step.batch["image"])
        loss = outputs[0].float().square().mean()  # of equal shares
        step.backward(loss)
        step.update()
        return {"square": loss}
'''


@pytest.mark.slow
def test_gradients_of_a_plugin_s_own_step_are_averaged(distribution, make_project):
    distribution("own-step", {"own-step": "own_step:OwnStep"}, {"own_step.py": OWN_STEP})
    project = make_project(splits={"training": 4, "testing": 1})
    project.set(solver=EXACT | {"max_epochs": 5}, trainer={"plugins": ["own-step"]})
    project.set(sampler={"num_workers": "auto"})  # measured in all processes
    assert project.train() == 0
    alone = project.metrics()
    ended = project.start_processes(2, "--overwrite")
    assert [process.returncode for process in ended] == [0, 0], [process.stderr for process in ended]
    for one, two in zip(alone, project.metrics(), strict=True):
        assert two["terms"] == pytest.approx(one["terms"], rel=1e-4)
    assert len({one["loss"] for one in alone}) == 5


SEARCHING = '''
"""An optimizer that evaluates the loss as often as its value says."""

from torch.optim import LBFGS

from lannunet_core import Plugin, hookimpl


class Searching(Plugin):
    @hookimpl
    def optimizer_and_scheduler(self, module):
        return LBFGS(module.parameters(), lr=0.1, max_iter=4, line_search_fn="strong_wolfe"), None
'''


@pytest.mark.slow
@pytest.mark.parametrize("plugins", [["searching"], ["searching", "witness"]])
def test_an_optimizer_that_searches_takes_the_same_steps_in_all(
    distribution, make_project, tmp_path, monkeypatch, plugins
):
    """This also holds if a plugin implements the training step, so that only it averages gradients."""
    distribution("searching", {"searching": "searching:Searching"}, {"searching.py": SEARCHING})
    distribution("witness", {"witness": "witness:Witness"}, {"witness.py": WITNESS})
    monkeypatch.setenv("WITNESS", str(tmp_path / "batches"))
    project = make_project(splits={"training": 4, "testing": 1})
    project.set(solver=EXACT | {"max_epochs": 3}, trainer={"plugins": plugins})
    assert project.train() == 0
    alone = project.metrics()
    ended = project.start_processes(2, "--overwrite")
    assert [process.returncode for process in ended] == [0, 0], [process.stderr for process in ended]
    for one, two in zip(alone, project.metrics(), strict=True):
        assert two["terms"] == pytest.approx(one["terms"], rel=1e-3)


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ({"device": "gpu"}, "trainer.device"),
        ({"device": "cuda:99"}, "there is no cuda:99 here"),
        ({"devices": [1, 1]}, "each device once"),
        ({"device": "cuda:0", "devices": 2}, "trainer.device none"),
        ({"devices": 0}, "trainer.devices"),
        ({"num_nodes": 2}, "torchrun --nproc-per-node 1 --nnodes 2"),
    ],
)
def test_devices_that_are_not_there(project, trainer, told, capsys):
    project.set(trainer=trainer)
    assert project.train() == 2
    assert told in capsys.readouterr().err
    assert not project.out.exists()


def test_processes_that_are_not_as_many_as_the_configuration_says(project, monkeypatch, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    project.set(trainer={"devices": 3})
    assert project.train() == 2
    assert "2 processes were started for 3 devices" in capsys.readouterr().err


def test_a_model_is_used_on_the_device_that_is_asked_for(trained, tmp_path, capsys):
    image = trained.folder / "images"
    for device, code in (("cuda:99", 2), ("tpu", 2), ("cpu", 0)):
        out = tmp_path / device.replace(":", "")
        assert trained.lannunet("predict", trained.out, image, "-o", out, "--device", device) == code
        assert code == 0 or f"--device: there is no {device} here" in capsys.readouterr().err
