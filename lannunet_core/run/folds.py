"""A cross-validation: the folds of a data set, trained one after the other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from lannunet_core.config.compose import LoadedConfig, load_config
from lannunet_core.data.annotations import load_dataset
from lannunet_core.errors import UserError
from lannunet_core.training import checkpoint as model_file
from lannunet_core.training.models import settle_ensemble
from lannunet_core.training.output import SECOND_STAGE, earlier_results
from lannunet_core.training.run import refuse_changes
from lannunet_core.training.stages import around

TrainOne = Callable[[LoadedConfig, bool], object]
"""Trains a run, or goes on with it."""


def train_folds(
    config: Path,
    overrides: Sequence[str],
    folds: Sequence[int],
    train_one: TrainOne,
    *,
    overwrite: bool = False,
) -> None:
    """Train folds, each into foldK of the output folder.

    Those that are finished are skipped, one that was interrupted is gone on with.

    Args:
        config: The YAML.
        overrides: `key=value` each.
        folds: Their numbers.
        train_one: See `TrainOne`.
        overwrite: Replace what is there.
    """
    base = load_config(config, overrides).run.output.output_dir
    runs = {fold: load_fold(config, overrides, fold, base / f"fold{fold}") for fold in folds}
    for fold, loaded in runs.items():  # what is wrong with the last one is found before the first is trained
        if loaded.run.task == "landmarks":
            if not loaded.run.dataset.src_targets.is_dir():
                raise UserError(
                    f"--folds: dataset.src_targets ({loaded.run.dataset.src_targets}) is no folder of "
                    "foldK.json. Make one with lannunet folds, and name it there."
                )
            load_dataset(loaded.run.dataset, fold)
    done = {fold for fold, loaded in runs.items() if not overwrite and finished(loaded)}
    for fold, loaded in runs.items():
        folder = loaded.run.output.output_dir
        if fold in done:
            print(f"fold {fold} is finished: {folder}", flush=True)
            continue
        print(f"fold {fold}: {folder}", flush=True)
        train_one(loaded, not overwrite and bool(earlier_results(folder)))
    if runs and next(iter(runs.values())).run.task == "landmarks":
        pooled = " ".join(shlex.quote(str(loaded.run.output.output_dir)) for loaded in runs.values())
        print(
            f"all images together: lannunet evaluate --runs {pooled} -o {shlex.quote(str(base / 'pooled'))}"
        )


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
    last = folder if loaded.refine is None else folder / SECOND_STAGE
    if not (last / "report.html").exists():  # it is written last
        return False
    if not loaded.run.trainer.inference_only:
        asked = settle_ensemble(loaded) if loaded.run.task == "landmarks" else loaded
        refuse_changes(model_file.load(folder).config, asked.resolved(), folder)
        if loaded.refine is not None:
            before = model_file.load(last).config
            now = loaded.refine
            if now.run.sampler.patch.jitter == "auto":
                now = around(now, last, before["sampler"]["patch"]["jitter"])
            refuse_changes(before, now.resolved(), last)
    return True
