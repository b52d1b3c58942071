"""The errors of trained landmark models with and without the correction of systematic errors.

    python -m benchmarks.offsets RUN [RUN …]

Each run's model predicts the images that its run evaluated. The table has the mean error (median, 95th
percentile) in pixels of the images.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.evaluation.summary import radial_errors
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.model import LandmarkModel
from rich.console import Console
from rich.table import Table

from lannunet_core import Floats


def errors(model: LandmarkModel) -> Floats:
    """The radial errors of the model's last stage."""
    config = model.session.config
    samples = load_dataset(config.dataset, config.trainer.fold).samples[config.inference.split]
    methods = model.locate(samples, model.prepare(model.session, samples))
    found = np.concatenate([radial_errors(one)[0] for one in next(iter(methods.values()))])
    return found[np.isfinite(found)]


def described(found: Floats) -> str:
    """The mean of errors, and their median and 95th percentile."""
    return f"{found.mean():.3f} ({np.median(found):.2f}, {np.percentile(found, 95):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    table = Table("run", "points", "without", "with", "ratio", "offsets", box=None)
    for run in parser.parse_args().runs:
        model = LandmarkModel(run)
        corrected, offsets = errors(model), np.linalg.norm(model.last.correction, axis=-1).mean()
        model.looks[-1] = together([replace(model.last, offsets=None)])
        plain = errors(model)
        ratio = corrected.mean() / plain.mean()
        cells = map(described, (plain, corrected))
        table.add_row(str(run), str(len(plain)), *cells, f"{ratio:.3f}", f"{offsets:.2f} px of the input")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
