"""The results of a run, in a common form for comparing runs of every task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lannunet_core import Floats, UserError, registered, terminal_text

MOST_NAMED = 3


@dataclass(frozen=True)
class Figure:
    """One metric of every case and output.

    Attributes:
        name: Name, such as `Dice`.
        unit: Unit, such as `mm`; empty: it has none.
        higher_is_better: Whether higher is better, otherwise lower is.
        values: (cases, outputs), NaN for missing ones.
        share: Whether each value is 0 or 1, so that their mean is a rate.
    """

    name: str
    unit: str
    higher_is_better: bool
    values: Floats
    share: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Results:
    """The results of a run for the cases of a split.

    Attributes:
        cases: Ids of the cases.
        outputs: Names of landmarks or classes.
        figures: Metrics; the first one ranks the cases.
        truth: The annotation of each case, as a text that is equal for equal annotations.
        failed: (cases, outputs) whether an output was missed, or found where the annotation has none.
        split: The evaluated split; empty: unknown.
    """

    cases: tuple[str, ...]
    outputs: tuple[str, ...]
    figures: tuple[Figure, ...]
    truth: tuple[str, ...]
    failed: NDArray[np.bool_]
    split: str = ""

    def of(self, cases: Sequence[str], outputs: Sequence[str]) -> Results:
        """The results of some cases and outputs, in this order."""
        rows = [self.cases.index(case) for case in cases]
        columns = [self.outputs.index(name) for name in outputs]
        return replace(
            self,
            cases=tuple(cases),
            outputs=tuple(outputs),
            figures=tuple(
                replace(one, values=one.values[np.ix_(rows, columns)]) for one in self.figures
            ),
            truth=tuple(self.truth[row] for row in rows),
            failed=self.failed[np.ix_(rows, columns)],
        )  # fmt: skip


@dataclass(frozen=True)
class ResultFormat:
    """A reader of a task's results; an entry point of the group `lannunet.result_formats`.

    Attributes:
        task: Name of the task.
        file: Name of the table in a run's folder.
        read: Reads a folder with this table.
        same_split: Keys (`section.key=value`) that make runs with any seed train and test on the same cases.
    """

    task: str
    file: str
    read: Callable[[Path], Results]
    same_split: tuple[str, ...] = ()


def result_formats() -> tuple[ResultFormat, ...]:
    return registered("result_formats", ResultFormat)


def read_results(run: Path) -> Results:
    """The final results in a run's folder; for a cross-validated run those of all folds.

    Raises:
        UserError: There are none.
    """
    if not run.is_dir():
        raise UserError(f"{run}: is not a folder. Give folders of runs.")
    folds = sorted(path for path in run.glob("fold*") if path.name[4:].isdecimal())
    if folds and not any((run / one.file).is_file() for one in result_formats()):
        return _joined(run, [read_results(fold) for fold in folds])
    folder = _final(run)
    known = [one for one in result_formats() if (folder / one.file).is_file()]
    if not known:
        files = " or ".join(one.file for one in result_formats())
        raise UserError(f"{run}: holds no results ({files}). Give the folder of a finished run.")
    return replace(known[0].read(folder), split=_split(run))


def _final(run: Path) -> Path:
    """The folder of the final results, which the summary of a first stage names."""
    try:
        final = (run / json.loads((run / "summary.json").read_text(encoding="utf-8"))["final"]).resolve()
    except (OSError, ValueError, LookupError, TypeError):
        return run
    return final.parent if final.is_relative_to(run.resolve()) else run


def _split(run: Path) -> str:
    try:
        return str(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["inference"]["split"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return ""


def _joined(run: Path, folds: Sequence[Results]) -> Results:
    first = folds[0]
    cases = [case for fold in folds for case in fold.cases]
    if twice := [case for case in set(cases) if cases.count(case) > 1]:
        raise UserError(f"{run}: the case '{terminal_text(twice[0])}' is in several folds; compare one fold.")
    for fold in folds[1:]:
        unlike = set(fold.outputs) ^ set(first.outputs)
        unlike |= {one.title for one in fold.figures} ^ {one.title for one in first.figures}
        if unlike:
            raise UserError(
                f"{run}: its folds do not have the same landmarks or classes, figures and units "
                f"({', '.join(map(terminal_text, sorted(unlike)))}). Compare one fold."
            )
    every = [fold.of(fold.cases, first.outputs) for fold in folds]
    figures = [
        replace(figure, values=np.concatenate([one.figures[n].values for one in every]))
        for n, figure in enumerate(first.figures)
    ]
    truth = tuple(text for one in every for text in one.truth)
    failed = np.concatenate([one.failed for one in every])
    return replace(first, cases=tuple(cases), figures=tuple(figures), truth=truth, failed=failed)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, or one run.

    Attributes:
        name: Name on the page.
        runs: Results with the same cases and outputs.
        about: Other properties by name, such as the training time.
    """

    name: str
    runs: tuple[Results, ...]
    about: Mapping[str, Any]

    def values(self, figure: int) -> Floats:
        """(runs, cases, outputs)"""
        return np.stack([run.figures[figure].values for run in self.runs])

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(cases, outputs) whether it failed in every run."""
        return np.asarray(np.all([run.failed for run in self.runs], axis=0))


def aligned(groups: Sequence[Group]) -> tuple[list[Group], list[str]]:
    """The groups with the cases, outputs and values that all of them have, and notes about the others.

    Raises:
        UserError: They have none in common, or their metrics differ.
    """
    runs = [(group, run) for group in groups for run in group.runs]
    first = runs[0][1]
    notes = []
    for group, run in runs:
        if [one.title for one in run.figures] != [one.title for one in first.figures]:
            raise UserError(
                f"{group.name}: has {', '.join(one.title for one in run.figures)}, but {groups[0].name} has "
                f"{', '.join(one.title for one in first.figures)}. Compare runs of one task, whose images "
                "state their spacing or do not."
            )
    shared = {}
    for what in ("cases", "outputs"):
        every = [set(getattr(run, what)) for _, run in runs]
        names = [name for name in getattr(first, what) if all(name in of for of in every)]
        if not names:
            raise UserError(
                f"{groups[0].name} and the others have no {what[:-1]} in common. Compare runs of the same "
                "data."
            )
        if left := len(set.union(*every)) - len(names):
            notes.append(f"{left} {what[:-1] if left == 1 else what} left out, which not all runs have")
        shared[what] = names
    together = [
        replace(group, runs=tuple(run.of(shared["cases"], shared["outputs"]) for run in group.runs))
        for group in groups
    ]
    base = together[0].runs[0]
    for group in together:
        for run in group.runs:
            if other := sum(a != b for a, b in zip(base.truth, run.truth, strict=True)):
                notes.append(
                    f"{group.name}: {other} case{'s' * (other > 1)} with other annotations than in "
                    f"{together[0].name}, so the differences there are not those of the models alone"
                )
                break
    return with_common_values(together, notes), notes


def with_common_values(groups: Sequence[Group], notes: list[str]) -> list[Group]:
    """The groups without the values that one of their runs lacks, so that their means can be compared."""
    runs = [run for group in groups for run in group.runs]
    kept = []
    for n, figure in enumerate(runs[0].figures):
        known = np.isfinite([run.figures[n].values for run in runs])  # (runs, cases, outputs)
        kept.append(known.all(axis=0))
        if left := np.argwhere(known.any(axis=0) & ~kept[n]).tolist():
            named = [
                f"{runs[0].outputs[output]} of {runs[0].cases[case]}" for case, output in left[:MOST_NAMED]
            ]
            shown = ", ".join([*named, "…"] if len(left) > MOST_NAMED else named)
            every = int(known.any(axis=0).sum())
            notes.append(
                f"{figure.title}: {len(left)} of {every} values left out, which not all runs have ({shown})"
            )

    def masked(run: Results) -> Results:
        figures = zip(run.figures, kept, strict=True)
        return replace(
            run, figures=tuple(replace(one, values=np.where(of, one.values, np.nan)) for one, of in figures)
        )

    return [replace(group, runs=tuple(map(masked, group.runs))) for group in groups]
