"""A run, or the folds of a cross-validation, as a job array of SLURM: `lannunet train --submit slurm`."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path

from lannunet_cluster.children import command_words
from lannunet_core import TrainRequest, UserError, echo, fold_numbers, refuse_existing, write_text

MARGIN = 1.5  # factor on the budget, for reading, validation and prediction
LEAST_HOURS, HOURS = 1, 24
FOLD = '"$SLURM_ARRAY_TASK_ID"'
TO_SAVE = 180  # seconds before the time limit, at which a run gets the signal to save


def write_script(request: TrainRequest) -> int:
    """Write the script next to the output folder; the user edits its header and submits it.

    Raises:
        UserError: Another script exists, or each start of a job would replace earlier results.
    """
    if request.overwrite:
        raise UserError(
            "--overwrite: SLURM may start a job more than once, and each start would train from scratch. "
            "Remove the earlier results, or set another output.output_dir."
        )
    output = request.loaded.run.output.output_dir
    path = output.with_name(f"{output.name}.sbatch")
    text = script(request)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_existing(path, "output.output_dir")
        write_text(path, text)
    jobs = "one job" if request.folds is None else f"{len(fold_numbers(request.folds))} jobs"
    echo(f"{jobs}: adapt the header of {path} to your cluster, then")
    echo(f"sbatch {shlex.quote(str(path))}")
    return 0


def script(request: TrainRequest) -> str:
    """The text of the script: resources derived from the configuration, and the command."""
    run = request.loaded.run
    trainer, solver, output = run.trainer, run.solver, run.output.output_dir
    machines, devices = trainer.num_nodes, trainer.devices_per_node
    several = machines > 1
    hours = HOURS
    if solver.max_epochs == "auto":
        hours = max(math.ceil(MARGIN * solver.budget_minutes / 60), LEAST_HOURS)
    head = {
        "job-name": "".join(c if c.isalnum() or c in "-_." else "-" for c in output.name),
        **({} if request.folds is None else {"array": ",".join(map(str, fold_numbers(request.folds)))}),
        "nodes": machines,
        "ntasks-per-node": devices if several else 1,  # on one machine lannunet starts the processes
        "cpus-per-task": 8 if several else 8 * devices,
        **({} if trainer.device == "cpu" else {"gpus-per-node": devices}),
        "time": f"{hours}:00:00",
        "signal": f"{'' if several else 'B:'}TERM@{TO_SAVE}",  # srun forwards it to every process
        "output": in_head(output, "%j" if request.folds is None else "%A_%a"),
        "open-mode": "append",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in head.items()]
    of_job = request._replace(resume=True) if request.folds is None else request._replace(folds=FOLD)
    words = command_words(of_job)
    command = " ".join(word if word == FOLD else shlex.quote(word) for word in words)
    start = "exec srun --kill-on-bad-exit=1" if several else "exec"
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "",
            "# If submitted again, it continues with the unfinished runs.",
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            f"{start} {shlex.quote(os.path.abspath(sys.executable))} -m lannunet_core {command}",  # noqa: PTH100
            "",
        ]
    )


def in_head(output: Path, job: str) -> str:
    """The log file of a job in the syntax of sbatch, with the percent signs of the path escaped."""
    if any(character in str(output) for character in '"\n\\'):
        raise UserError(f"output.output_dir: sbatch cannot read {output}. Choose a name without quotes.")
    return f'"{str(output).replace("%", "%%")}-{job}.log"'
