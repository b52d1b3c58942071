"""Metrics of an evaluated split: radial errors and success detection rates, with their uncertainty.

Unlabelled landmarks contribute nothing. A visible landmark that the model could not place (a flat map, its
coordinates are NaN) has no error. It is left out of mean and median, but is counted, listed, and a miss at
every detection radius.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lannunet_report import bootstrap_statistics, bootstrap_weights, print_table
from numpy.typing import NDArray

from lannunet_core import Floats, State, echo, terminal_text
from lannunet_landmarks.types import Prediction

MEAN_POSITION = "mean_position"
"""Key of `summary.json`: the metrics of the mean position of the training images, on the same images."""


def radial_errors(prediction: Prediction) -> tuple[Floats, Floats]:
    """Distances from each prediction to its annotation, NaN where either is missing.

    Returns:
        (N,) in pixels, and (N,) in mm: in the image's world, else by the spacing per axis; all NaN if
        both are unknown.
    """
    missing = np.full(len(prediction.coordinates), np.nan)
    if prediction.target is None:
        return missing, missing
    offset = prediction.coordinates - prediction.target
    pixels = np.where(_visible(prediction), np.linalg.norm(offset, axis=-1), np.nan)
    if prediction.spacing is None:
        return pixels, missing
    steps = offset * np.asarray(prediction.spacing)
    if prediction.world is not None:
        steps = prediction.world.steps(offset)
    millimetres = np.linalg.norm(steps, axis=-1)
    return pixels, np.where(_visible(prediction), millimetres, np.nan)


def errors_in(prediction: Prediction, unit: str) -> Floats:
    """(N,) radial errors; infinite where a visible landmark was not found, NaN where none is annotated."""
    pixels, millimetres = radial_errors(prediction)
    if prediction.states is None:
        return pixels
    lost = (prediction.states == State.VISIBLE) & np.isnan(pixels)
    return np.where(lost, np.inf, millimetres if unit == "mm" else pixels)


def uncertainties(prediction: Prediction) -> tuple[Floats, Floats]:
    """The expected error of each landmark: √trace of its covariance, the root mean square distance.

    Returns:
        (N,) in pixels, and (N,) in mm (all NaN if the spacing is unknown); NaN without a covariance, unless
        it was read from a table.
    """
    missing = np.full(len(prediction.coordinates), np.nan)
    if prediction.uncertainty is not None:
        return prediction.uncertainty[:, 0], prediction.uncertainty[:, 1]
    if prediction.covariance is None:
        return missing, missing
    axes = prediction.covariance.shape[-1]
    covariance = np.where(np.isfinite(prediction.coordinates)[:, :, None], prediction.covariance, np.nan)
    pixels = np.sqrt(np.trace(covariance, axis1=1, axis2=2))
    if prediction.spacing is None:
        return pixels, missing
    steps = np.diag(prediction.spacing)
    if prediction.world is not None:
        steps = prediction.world.matrix[:, :axes]
    return pixels, np.sqrt(np.trace(steps @ covariance @ steps.T, axis1=1, axis2=2))


def summarise_errors(
    predictions: Sequence[Prediction],
    landmark_names: Sequence[str],
    radii: Sequence[float],
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `summary.json`, ready for JSON: a metric that is not available is None.

    Intervals contain what they estimate with probability 0.95. Whole images are resampled (see
    `bootstrap_statistics`), since the landmarks of one image are not independent.

    Args:
        predictions: Predictions of one split.
        landmark_names: The N names.
        radii: Radii of the success detection rates, in mm where every image has a spacing, else in pixels.
        seed: Seed of the bootstrap.

    Returns:
        `unit` (of the radii), `images`, `not_found` (id and landmark of each), `overall` and `per_landmark`
        (by name). The last two hold `counts`, `presence` (if it was decided; see `presence_figures`), `px`
        and `mm` (None without spacing) with mean, median and sd of the radial error, `detection_rates`: rows
        of radius, rate and its interval, and `occluded` (if any landmark is; see `occluded_figures`).
    """
    shape = (len(predictions), len(landmark_names))
    errors = [radial_errors(prediction) for prediction in predictions]
    pixels = np.array([error for error, _ in errors]).reshape(shape)
    millimetres = np.array([error for _, error in errors]).reshape(shape)
    states = np.array([_states(prediction) for prediction in predictions], dtype=np.int64).reshape(shape)
    has_spacing = bool(predictions) and all(prediction.spacing is not None for prediction in predictions)

    decided = [p.present for p in predictions if p.present is not None]
    present = np.array(decided).reshape(shape) if predictions and len(decided) == len(predictions) else None

    hidden = np.array([_occluded(prediction) for prediction in predictions], dtype=bool).reshape(shape)
    images = len(predictions)
    weights = bootstrap_weights(images, seed)

    def block(columns: slice) -> dict[str, Any]:
        seen = states[:, columns]
        chosen = pixels[:, columns]
        counts = {
            "evaluated": int(np.isfinite(chosen).sum()),
            "not_found": int(((seen == State.VISIBLE) & np.isnan(chosen)).sum()),
            "absent": int(np.isin(seen, (State.ABSENT, State.OUTSIDE)).sum()),
            "unlabelled": int((seen == State.UNLABELLED).sum()),
        }
        result: dict[str, Any] = {"counts": counts}
        if present is not None:
            result["presence"] = presence_figures(present[:, columns], seen)
        units = {"px": pixels, "mm": millimetres if has_spacing else None}
        rates_unit = "mm" if has_spacing else "px"
        for unit, values in units.items():
            if values is None:
                result[unit] = None
                continue
            image, landmark = np.nonzero(seen == State.VISIBLE)
            chosen_errors = values[:, columns][image, landmark]
            figures = bootstrap_statistics(chosen_errors, image, weights, radii, (0.0, np.inf))
            rates = figures.pop("detection_rates")
            result[unit] = figures
            if unit == rates_unit:
                result["detection_rates"] = rates
        if hidden[:, columns].any():
            chosen = millimetres if has_spacing else pixels
            result["occluded"] = occluded_figures(chosen[:, columns], hidden[:, columns])
        return result

    return {
        "unit": "mm" if has_spacing else "px",
        "images": images,
        "overall": block(slice(None)),
        "per_landmark": {name: block(slice(n, n + 1)) for n, name in enumerate(landmark_names)},
        "not_found": [
            {"id": predictions[i].id, "landmark": landmark_names[n]}
            for i, n in zip(*np.nonzero((states == State.VISIBLE) & np.isnan(pixels)), strict=True)
        ],
    }


def presence_figures(present: NDArray[np.bool_], states: NDArray[np.int64]) -> dict[str, Any]:
    """The accuracy of the decided presence, over the landmarks whose presence is known.

    Returns:
        `sensitivity`: the share of present landmarks that were decided to be present; `specificity`: the
        share of absent landmarks that were decided to be absent; `precision`: the share of those decided to
        be present that are (None if there are none); and the number of wrong decisions: `taken_for_present`,
        `taken_for_absent`.
    """
    visible = states == State.VISIBLE
    absent = np.isin(states, (State.ABSENT, State.OUTSIDE))
    right, wrong = int((present & visible).sum()), int((present & absent).sum())
    missed, left = int((~present & visible).sum()), int((~present & absent).sum())
    return {
        "sensitivity": right / (right + missed) if right + missed else None,
        "specificity": left / (left + wrong) if left + wrong else None,
        "precision": right / (right + wrong) if right + wrong else None,
        "taken_for_present": wrong,
        "taken_for_absent": missed,
    }


def occluded_figures(errors: Floats, occluded: NDArray[np.bool_]) -> dict[str, Any]:
    """The errors, in the summary's unit, of occluded landmarks, and of the others.

    Returns:
        `occluded` and `others`, each with the number `evaluated`, and the mean and median of the errors.
    """

    def figures(chosen: Floats) -> dict[str, Any]:
        known = chosen[np.isfinite(chosen)]
        if not len(known):
            return {"evaluated": 0, "mean": None, "median": None}
        return {"evaluated": len(known), "mean": float(known.mean()), "median": float(np.median(known))}

    return {"occluded": figures(errors[occluded]), "others": figures(errors[~occluded])}


def print_summary(
    summary: Mapping[str, Any], title: str, comparison: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Print a table of a summary's metrics.

    Args:
        summary: Result of `summarise`.
        title: Title above the table.
        comparison: Summaries of other methods on the same images, by name; one row each below the landmarks.
    """
    unit = summary["unit"]
    rates = [f"≤ {row['radius']:g}" for row in summary["overall"]["detection_rates"]]
    missed = ["missed"] if summary["not_found"] else []

    def row(name: str, block: Mapping[str, Any]) -> list[str]:
        figures = block[unit] or {"mean": None, "mean_ci95": None, "median": None, "sd": None}
        counts = block["counts"]
        return [
            name,
            _text(figures["mean"]),
            "–".join(map(_text, figures["mean_ci95"])) if figures["mean_ci95"] else "–",
            _text(figures["median"]),
            _text(figures["sd"]),
            *("–" if row["rate"] is None else f"{row['rate']:.0%}" for row in block["detection_rates"]),
            f"{counts['evaluated'] + counts['not_found']}",
            *([str(counts["not_found"] or "")] if missed else []),
        ]

    summed = {"all": summary["overall"], **compared(summary, comparison or {})}
    print_table(
        f"{title}: radial errors in {unit}",
        ["landmark", "mean", "95 % CI", "median", "sd", *rates, "cases", *missed],
        [row(name, block) for name, block in [*summary["per_landmark"].items(), *summed.items()]],
        len(summed),
    )
    if names := summary.get("not_learned"):
        echo(f"not learned (no better than the mean position): {terminal_text(', '.join(names))}")
    if (hidden := summary["overall"].get("occluded")) is not None:
        told = (f"{_text(hidden[of]['mean'])} {unit} ({hidden[of]['evaluated']})" for of in
                ("occluded", "others"))  # fmt: skip
        echo(f"mean error of occluded landmarks and of the others: {' and '.join(told)}")
    presence = summary["overall"].get("presence")
    if presence is not None:
        shares = (f"{name} {'–' if presence[name] is None else format(presence[name], '.1%')}" for name in
                  ("sensitivity", "specificity", "precision"))  # fmt: skip
        echo(f"presence of landmarks: {', '.join(shares)}")


def compared(
    summary: Mapping[str, Any], comparison: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The rows below a summary's own, by method; the mean position comes last."""
    rows = {name: other["overall"] for name, other in comparison.items()}
    if MEAN_POSITION in summary:
        rows.setdefault("mean position", summary[MEAN_POSITION])
    return rows


def _visible(prediction: Prediction) -> NDArray[np.bool_]:
    return np.equal(_states(prediction), State.VISIBLE)


def _states(prediction: Prediction) -> NDArray[np.int64]:
    if prediction.states is None:
        return np.full(len(prediction.coordinates), int(State.UNLABELLED))
    return prediction.states


def _occluded(prediction: Prediction) -> NDArray[np.bool_]:
    if prediction.occluded is None:
        return np.zeros(len(prediction.coordinates), dtype=bool)
    return prediction.occluded


def _text(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"
