"""A cross-validation: the folds of a data set, trained one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lannunet_core.config.compose import load_config
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.plugins import tasks
from lannunet_core.run import checkpoint as model_file
from lannunet_core.run.output import SECOND_STAGE_FOLDER, earlier_results
from lannunet_core.run.run import refuse_changes


def train_folds(
    config: Path,
    overrides: Sequence[str],
    folds: Sequence[int],
    *,
    overwrite: bool = False,
) -> None:
    """Train folds, each into foldK of the output folder.

    Those that are finished are skipped, one that was interrupted is gone on with.

    Args:
        config: The YAML.
        overrides: `key=value` each.
        folds: Their numbers.
        overwrite: Replace what is there.
    """
    base = load_config(config, overrides).run.output.output_dir
    runs = {fold: load_fold(config, overrides, fold, base / f"fold{fold}") for fold in folds}
    task = tasks.find(next(iter(runs.values())).run.task)
    for loaded in runs.values():  # what is wrong with the last one is found before the first is trained
        task.check_fold(loaded)
    done = {fold for fold, loaded in runs.items() if not overwrite and finished(loaded)}
    for fold, loaded in runs.items():
        folder = loaded.run.output.output_dir
        if fold in done:
            print(f"fold {fold} is finished: {folder}", flush=True)
            continue
        print(f"fold {fold}: {folder}", flush=True)
        resume = not overwrite and bool(earlier_results(folder))
        task.train(loaded, resume=resume, overwrite=overwrite)
    folders = [loaded.run.output.output_dir for loaded in runs.values()]
    if advice := task.after_folds(folders, base):
        print(advice)


def load_fold(config: Path, overrides: Sequence[str], fold: int, folder: Path) -> LoadedConfig:
    """The configuration of one fold."""
    written = json.dumps(str(folder), ensure_ascii=False)  # a quoted word of YAML, whatever is in it
    return load_config(config, [*overrides, f"trainer.fold={fold}", f"output.output_dir={written}"])


def finished(loaded: LoadedConfig) -> bool:
    """Whether the run of this configuration, and its second stage if it has one, is done.

    Raises:
        UserError: It is, with other settings.
    """
    folder = loaded.run.output.output_dir
    last = folder if loaded.refine is None else folder / SECOND_STAGE_FOLDER
    if not (last / "report.html").exists():  # it is written last
        return False
    if not loaded.run.trainer.inference_only:
        task = tasks.find(loaded.run.task)
        for now, where in ((loaded, folder), (loaded.refine, last)):
            if now is not None:
                before = model_file.load_checkpoint(where).config
                refuse_changes(before, task.as_trained(now, before).resolved(), where)
    return True
