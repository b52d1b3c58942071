"""Scripts for SLURM, run by bash with SLURM's variables, and by a SLURM on this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

SLURM = ("slurmctld", "slurmd", "sbatch", "srun")
missing = [name for name in SLURM if shutil.which(name) is None]


@pytest.fixture
def crossed(make_project):
    """A project of two folds."""
    project = make_project(splits={"training": 6, "validation": 2})
    project.write()
    assert project.lannunet("folds", project.json, "-o", project.folder / "folds", "--count", 2) == 0
    project.set(
        dataset={"src_targets": "folds"},
        solver={"max_epochs": 1},
        trainer={"device": "cpu"},
        output={"output_dir": "two words/out"},
    )
    return project


@pytest.fixture
def out(crossed):
    return crossed.folder / "two words" / "out"


def head(script):
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.slow
def test_the_script_runs_one_fold_under_bash(crossed, out, capsys):
    assert crossed.train("--folds", "0-1", "--set", "solver.seed=3", "--submit", "slurm") == 0
    path = out.with_name("out.sbatch")
    assert f"sbatch '{path}'" in capsys.readouterr().out
    assert not out.exists()
    asked = head(path.read_text())
    assert asked["array"] == "0,1"
    assert asked["output"] == f'"{out}-%A_%a.log"'
    assert "gpus-per-node" not in asked
    variables = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    ran = subprocess.run(
        ["bash", path], env=os.environ | variables, cwd="/", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [folder.name for folder in out.iterdir()] == ["fold1"]
    assert json.loads((out / "fold1" / "run.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (
            {"devices": 4, "num_nodes": 3, "device": "cuda"},
            {"nodes": "3", "ntasks-per-node": "4", "gpus-per-node": "4", "signal": "TERM@180"},
        ),
        (
            {"devices": [0, 2], "device": "auto"},
            {"nodes": "1", "ntasks-per-node": "1", "gpus-per-node": "2", "signal": "B:TERM@180"},
        ),
    ],
)
def test_a_run_on_several_devices_asks_for_them(crossed, out, keys, asked):
    crossed.set(dataset={"src_targets": "points.json"}, trainer=keys, solver={"max_epochs": "auto"})
    assert crossed.train("--set", "solver.budget_minutes=100", "--submit", "slurm") == 0
    script = out.with_name("out.sbatch").read_text()
    assert asked.items() <= head(script).items()
    assert head(script)["time"] == "3:00:00"
    last = script.splitlines()[-1]
    assert last.startswith("exec srun") == (keys.get("num_nodes", 1) > 1)
    assert last.endswith("--resume")


def test_a_script_that_was_changed_is_kept(crossed, out, capsys):
    assert crossed.train("--folds", "0-1", "--submit", "slurm") == 0
    assert crossed.train("--folds", "0-1", "--submit", "slurm") == 0
    out.with_name("out.sbatch").write_text("mine")
    assert crossed.train("--folds", "0-1", "--submit", "slurm") == 2
    assert "out.sbatch" in capsys.readouterr().err
    assert out.with_name("out.sbatch").read_text() == "mine"


def test_a_job_that_starts_again_replaces_nothing(crossed, out, capsys):
    assert crossed.train("--folds", "0-1", "--submit", "slurm", "--overwrite") == 2
    assert "more than once" in capsys.readouterr().err
    assert not out.with_name("out.sbatch").exists()


def test_a_cluster_that_nothing_here_knows(crossed, capsys):
    assert crossed.train("--folds", "0-1", "--submit", "moon") == 2
    assert "installed: local, slurm" in capsys.readouterr().err


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A controller and a node of SLURM on this machine, without accounts."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    host, folder = socket.gethostname().partition(".")[0], tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    user = os.environ.get("USER") or "root"
    (folder / "slurm.conf").write_text(
        f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=local Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = [subprocess.Popen([name, "-D"], cwd=folder) for name in ("slurmctld", "slurmd")]
    for _ in range(100):
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            break
        time.sleep(0.2)
    else:
        pytest.fail(f"SLURM does not start: {told.stdout}{told.stderr}")
    yield
    for daemon in daemons:
        daemon.terminate()
        daemon.wait()


def finish(job, *logs):
    for _ in range(600):
        queue = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False)
        if not queue.stdout.strip():
            return
        time.sleep(0.5)
    pytest.fail(f"job {job} does not end: {[log.read_text() for log in logs if log.exists()]}")


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"needs SLURM (apt-get install slurm-wlm): no {', '.join(missing)}")
def test_a_slurm_of_this_machine_trains_the_folds(slurm, crossed, out):
    assert crossed.train("--folds", "0-1", "--submit", "slurm") == 0
    path = out.with_name("out.sbatch")
    path.write_text(path.read_text().replace("cpus-per-task=8", "cpus-per-task=1"))  # as a user edits it
    submitted = subprocess.run(["sbatch", "--parsable", path], capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    logs = [out.with_name(f"out-{job}_{fold}.log") for fold in (0, 1)]
    finish(job, *logs)
    for fold, log in enumerate(logs):
        assert (out / f"fold{fold}" / "report.html").exists(), log.read_text()
        assert "epoch 1/1" in log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"needs SLURM (apt-get install slurm-wlm): no {', '.join(missing)}")
def test_srun_starts_the_processes_of_a_run(slurm, crossed, out):
    """`trainer.devices: auto` uses all processes that srun started."""
    crossed.set(dataset={"src_targets": "points.json"}, inference={"split": "validation"})
    crossed.write()
    command = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=1", sys.executable]
    ran = subprocess.run(
        [*command, "-m", "lannunet_core", "train", str(crossed.yaml)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((out / "run.json").read_text())["processes"] == 2
    assert ran.stdout.count("epoch 1/1: loss") == 1
