"""The errors of trained landmark models with and without the prior of relative positions.

    python -m benchmarks.shape_prior RUN [RUN …]

Each run's model predicts the images that its run evaluated. The table has the mean error (median, 95th
percentile) of the last stage in pixels of the images.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.model import LandmarkModel
from rich.console import Console
from rich.table import Table

from benchmarks.offsets import described, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    table = Table("run", "points", "without", "with", "ratio", box=None)
    for run in parser.parse_args().runs:
        model = LandmarkModel(run)
        weighted = errors(model)
        model.looks[0] = together([replace(model.session, shape=None)])
        plain = errors(model)
        cells = map(described, (plain, weighted))
        table.add_row(str(run), str(len(plain)), *cells, f"{weighted.mean() / plain.mean():.3f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
