"""Cross-validation: train the folds of a data set one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lannunet_core import (
    SECOND_STAGE_FOLDER,
    LoadedConfig,
    TrainRequest,
    earlier_results,
    echo,
    find_task,
    fold_numbers,
    load_checkpoint,
    load_config,
    refuse_changes,
)


def one_by_one(request: TrainRequest) -> int:
    """Run `lannunet train --folds` in this process; return 0."""
    folds = fold_numbers(request.folds or "")
    train_folds(
        request.config, request.overrides, folds, plugins=request.plugins, overwrite=request.overwrite
    )
    return 0


def train_folds(
    config: Path,
    overrides: Sequence[str],
    folds: Sequence[int],
    *,
    plugins: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Train folds, each into foldK of the output folder; other arguments are those of `load_config`.

    Unless `overwrite`, finished folds are skipped, and an interrupted one is resumed.
    """
    base = load_config(config, overrides, plugins).run.output.output_dir
    runs = {}
    for fold in folds:
        folder = json.dumps(str(base / f"fold{fold}"), ensure_ascii=False)  # a quoted YAML string
        own = [f"trainer.fold={fold}", f"output.output_dir={folder}"]
        runs[fold] = load_config(config, [*overrides, *own], plugins)
    task = find_task(next(iter(runs.values())).run.task)
    for loaded in runs.values():  # an error in the last one is found before the first is trained
        task.check_fold(loaded)
    begun = {fold: bool(earlier_results(loaded.run.output.output_dir)) for fold, loaded in runs.items()}
    done = {fold for fold, loaded in runs.items() if not overwrite and finished(loaded)}
    for fold, loaded in runs.items():
        output = loaded.run.output.output_dir
        if fold in done:
            echo(f"fold {fold} is finished: {output}")
            continue
        echo(f"fold {fold}: {output}")
        task.train(loaded, resume=begun[fold] and not overwrite, overwrite=overwrite)
    folders = [loaded.run.output.output_dir for loaded in runs.values()]
    if len(folders) > 1 and (advice := task.after_folds(folders, base)):
        echo(advice)


def finished(loaded: LoadedConfig) -> bool:
    """Whether the run of this configuration, and its second stage if it has one, is done.

    Raises:
        UserError: The run was done with other settings.
    """
    folder = loaded.run.output.output_dir
    last = folder if loaded.refine is None else folder / SECOND_STAGE_FOLDER
    if not (last / "report.html").exists():  # the last file to be written
        return False
    if not loaded.run.trainer.inference_only:
        for now, where in ((loaded, folder), (loaded.refine, last)):
            if now is not None:
                refuse_changes(load_checkpoint(where), now, where)
    return True
