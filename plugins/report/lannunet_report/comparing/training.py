"""Models trained under the same conditions: one data set and split, the same minutes, the same seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lannunet_core import (
    SECOND_STAGE_FOLDER,
    InstalledPlugin,
    LoadedConfig,
    UserError,
    api,
    canonical_name,
    earlier_results,
    echo,
    load_checkpoint,
    load_config,
    plugin_of,
    refuse_changes,
    write_text,
)
from lannunet_report.comparing.results import Group, read_results, result_formats


@dataclass(frozen=True)
class Model:
    """A network to compare: the name of an installed plugin, or a file with one."""

    name: str
    file: Path | None = None

    @classmethod
    def of(cls, word: str) -> Model:
        return cls(Path(word).stem, Path(word)) if word.endswith(".py") else cls(canonical_name(word))

    @property
    def architecture(self) -> str | InstalledPlugin:
        return self.name if self.file is None else plugin_of(self.file)


def train_models(
    data: Path, words: Sequence[str], seeds: int, minutes: float | None, folder: Path
) -> list[Group]:
    """Train each model with each seed, and read the results.

    `folder` gets MODEL.yaml, a plan for the model unless the file exists, and a run in MODEL/seedN.
    Finished runs are skipped, an interrupted one is resumed.

    Args:
        data: Data set of a task whose results can be compared.
        words: The models, by name or file.
        seeds: Number of seeds: 0, 1, ….
        minutes: Minutes of training per run; None: as planned for the data.
        folder: Folder for plans and runs; created if need be.

    Raises:
        UserError: Something named does not exist, a plan that is there is for other data, or a finished run
            was trained with other settings.
    """
    models = [Model.of(word) for word in words]
    names = [model.name for model in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--models: '{twice[0]}' is named twice. Name each once.")
    task = api.task_of_dataset(data)
    known = [one for one in result_formats() if one.task == task.name]
    if not known:
        raise UserError(f"{data}: results of task {task.name} cannot be compared.")
    folder.mkdir(exist_ok=True)
    runs: dict[tuple[int, str], LoadedConfig] = {}
    for model in models:
        yaml = folder / f"{model.name}.yaml"
        if not yaml.exists():
            plan = api.plan(
                data.absolute(),
                folder=folder,
                task=task.name,
                architecture=model.architecture,
                minutes=minutes,
            )
            write_text(yaml, str(plan))
        for seed in range(seeds):
            place = json.dumps(str((folder / model.name / f"seed{seed}").absolute()), ensure_ascii=False)
            own = [f"solver.seed={seed}", f"output.output_dir={place}"]
            own += [] if minutes is None else [f"solver.budget_minutes={minutes:g}"]
            files = [] if model.file is None else [model.file]
            runs[seed, model.name] = load_config(yaml, [*own, *known[0].same_split], files)
    for name in names:
        refuse_other_data(runs[0, name], data, folder / f"{name}.yaml")
    for loaded in runs.values():  # errors of the last one are found before the first is trained
        task.check(loaded)
    done = {key for key, loaded in runs.items() if finished(loaded)}
    for number, (key, loaded) in enumerate(sorted(runs.items()), start=1):
        output, name = loaded.run.output.output_dir, f"{key[1]}, seed {key[0]}"
        if key in done:
            echo(f"{name} is finished: {output}")
            continue
        echo(f"{name} (run {number} of {len(runs)}): {output}")
        task.train(loaded, resume=bool(earlier_results(output)))
    folders = {name: [runs[seed, name].run.output.output_dir for seed in range(seeds)] for name in names}
    return [
        Group(name, tuple(map(read_results, of_model)), about_runs(of_model))
        for name, of_model in folders.items()
    ]


def refuse_other_data(loaded: LoadedConfig, data: Path, yaml: Path) -> None:
    """Refuse a configuration that was there, such as an earlier comparison's, and trains on other data."""
    wanted = data.resolve()
    named = [Path(value).resolve() for value in vars(loaded.run.dataset).values() if isinstance(value, Path)]
    if not any(path.is_relative_to(wanted) for path in named):
        raise UserError(
            f"{yaml}: trains on other data than --data {data}. Remove it, or give another --output, whose "
            "folder has no such file."
        )


def finished(loaded: LoadedConfig) -> bool:
    """Whether the run of this configuration, and its second stage if it has one, is finished.

    Raises:
        UserError: It was trained with other settings.
    """
    folder = loaded.run.output.output_dir
    last = folder if loaded.refine is None else folder / SECOND_STAGE_FOLDER
    if not (last / "report.html").exists():  # it is written last
        return False
    for stage, where in ((loaded, folder), (loaded.refine, last)):
        if stage is not None:
            refuse_changes(load_checkpoint(where), stage, where)
    return True


def about_runs(runs: Sequence[Path]) -> dict[str, Any]:
    """The cost of runs with one configuration: `parameters`, and medians of `minutes` and `epochs`, if
    known."""
    about: dict[str, Any] = {}
    try:
        described = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs]
        histories = [
            [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
            for run in runs
        ]
    except (OSError, ValueError):
        return about
    if all(histories):
        about["epochs"] = median(len(rows) for rows in histories)
        about["minutes"] = median(sum(row.get("seconds", 0) for row in rows) / 60 for rows in histories)
    if "parameters" in described[0]:
        about["parameters"] = described[0]["parameters"]
    return about
