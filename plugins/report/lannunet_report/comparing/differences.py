"""Paired differences with 95 % intervals.

For single runs: the bootstrap of `bootstrap_statistics` over whole cases. For several seeds: the difference
of a seed and a case is μ + seed + case + rest, both drawn at random, so that the interval applies to other
seeds and other cases. Its variance is that of the two-way random-effects model (as of readers and cases in
Obuchowski and Rockette 1995; Hillis 2007), its degrees of freedom are Satterthwaite's (1946).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lannunet_core import Floats
from lannunet_report.bootstrap import LEFT_OUT, bootstrap_statistics, bootstrap_weights
from lannunet_report.comparing.results import Figure, Group

SEED = 0


def mean_with_interval(values: Floats, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """The mean of values or differences (runs, cases, outputs) and its interval; NaN is ignored.

    Args:
        values: The values.
        limits: Range of the mean if each value is 0 or 1, or a difference of such values. Equal values in n
            cases are no proof: at most a share 1 − 0.025^(1/n) of all cases differs from them (Clopper and
            Pearson 1934).

    Returns:
        `mean` and `ci95` (None if not available), `pairs`: the number of known values of a run, and
        for several runs `sd_of_seeds`: the standard deviation of their means.
    """
    known = np.isfinite(values)
    runs, cases, _ = values.shape
    if runs == 1:
        of_case = np.nonzero(known[0])[0]
        figures = bootstrap_statistics(values[0][known[0]], of_case, bootstrap_weights(cases, SEED))
        ends = not_certain(figures["mean_ci95"], len(np.unique(of_case)), limits)
        return {"mean": figures["mean"], "ci95": ends, "pairs": int(known.sum())}
    in_all = np.asarray(known.all(axis=0))  # (cases, outputs)
    counted = in_all.any(axis=1)
    kept = np.where(in_all, values, 0)[:, counted].sum(axis=2) / in_all[counted].sum(axis=1)
    if not counted.any():
        return {"mean": None, "ci95": None, "pairs": 0, "sd_of_seeds": None}
    return {
        "mean": float(kept.mean()),
        "ci95": not_certain(crossed_interval(kept), int(counted.sum()), limits),
        "pairs": int(in_all.sum()),
        "sd_of_seeds": float(kept.mean(axis=1).std(ddof=1)),
    }


def not_certain(
    ends: list[float] | None, cases: int, limits: tuple[float, float] | None
) -> list[float] | None:
    """The interval of a share, which has no width if all cases have the same value."""
    if ends is None or limits is None or ends[0] < ends[1]:
        return ends
    most = 1 - (LEFT_OUT / 2) ** (1 / cases)
    return [max(ends[0] - most, limits[0]), min(ends[1] + most, limits[1])]


def crossed_interval(values: Floats) -> list[float] | None:
    """The 95 % interval of the mean of values (seeds, cases), both random; None: there is only one of
    either."""
    from scipy.stats import t as student

    seeds, cases = values.shape
    if min(seeds, cases) < 2:
        return None
    mean, of_seed, of_case = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - of_seed[:, None] - of_case + mean
    squares_of_seed = cases * of_seed.var(ddof=1)
    squares_of_case = seeds * of_case.var(ddof=1)
    squares_of_rest = (rest**2).sum() / ((seeds - 1) * (cases - 1))
    total = max(squares_of_seed + squares_of_case - squares_of_rest, squares_of_seed, squares_of_case)
    if not total > 0:
        return [float(mean), float(mean)]
    freedom = total**2 / (squares_of_seed**2 / (seeds - 1) + squares_of_case**2 / (cases - 1))
    freedom = max(freedom, min(seeds, cases) - 1)
    half = float(student.ppf(1 - LEFT_OUT / 2, freedom) * np.sqrt(total / (seeds * cases)))
    return [float(mean - half), float(mean + half)]


def figures_of(group: Group, figure: int) -> dict[str, Any]:
    """A group's own mean of a metric: `overall`, and `per_output` by name."""
    limits = (0.0, 1.0) if group.runs[0].figures[figure].share else None
    return _blocks(group.values(figure), group.runs[0].outputs, limits)


def differences_of(other: Group, base: Group, figure: int) -> dict[str, Any]:
    """The difference of a metric between two groups, for each output: `overall`, `per_output`.

    A value is used if both groups have it. Seeds are paired in their order; one run is compared with each
    seed.
    """
    limits = (-1.0, 1.0) if base.runs[0].figures[figure].share else None
    return _blocks(other.values(figure) - base.values(figure), base.runs[0].outputs, limits)


def _blocks(values: Floats, outputs: Sequence[str], limits: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "overall": mean_with_interval(values, limits),
        "per_output": {
            name: mean_with_interval(values[..., n : n + 1], limits) for n, name in enumerate(outputs)
        },
    }  # fmt: skip


def verdict(block: dict[str, Any], figure: Figure) -> str:
    """`better`, `worse`, or `unclear` if the interval contains 0, or there is none."""
    if block["ci95"] is None or block["ci95"][0] <= 0 <= block["ci95"][1]:
        return "unclear"
    return "better" if (block["mean"] > 0) is figure.higher_is_better else "worse"


def cases_of(other: Group, base: Group) -> list[dict[str, Any]]:
    """Each case's mean of the first metric in both groups, the largest deterioration first.

    Outputs that failed in only one of the groups take precedence over any difference.

    Returns:
        Rows of `id`, `base`, `other` and `difference` (None without a common output), `failed` and `fixed`
        (names of outputs that were missed, or found where there is none, in all seeds of the other group or
        of the base alone), and `output`: the one with the largest deterioration.
    """
    figure = base.runs[0].figures[0]
    ours, theirs = other.values(0), base.values(0)
    known = np.asarray(np.isfinite(ours).all(axis=0) & np.isfinite(theirs).all(axis=0))
    worse = (-1 if figure.higher_is_better else 1) * (ours.mean(axis=0) - theirs.mean(axis=0))
    outputs, rows = base.runs[0].outputs, []
    fails, failing = other.failed, base.failed
    for n, case in enumerate(base.runs[0].cases):
        both = known[n]
        failed, fixed = (of[n] & ~than[n] for of, than in ((fails, failing), (failing, fails)))
        means = [float(of[:, n][:, both].mean()) if both.any() else None for of in (theirs, ours)]
        change = float(worse[n][both].mean()) if both.any() else 0.0
        rows.append(
            {
                "id": case,
                "base": means[0],
                "other": means[1],
                "difference": None if means[0] is None or means[1] is None else means[1] - means[0],
                "failed": [name for name, is_so in zip(outputs, failed, strict=True) if is_so],
                "fixed": [name for name, is_so in zip(outputs, fixed, strict=True) if is_so],
                "output": outputs[int(np.where(both, worse[n], -np.inf).argmax())] if both.any() else None,
                "rank": (int(failed.sum()) - int(fixed.sum()), change),
            }
        )
    rows.sort(key=lambda row: row["rank"], reverse=True)  # type: ignore[arg-type, return-value]
    return [{key: value for key, value in row.items() if key != "rank"} for row in rows]
