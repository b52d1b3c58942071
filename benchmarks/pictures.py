"""The pictures of the documentation: the report, a prediction, the terminal; so that they stay true.

    python -m benchmarks.pictures [--demo runs/demo] [--out docs/pictures]

Runs `lannunet demo` unless its folder exists. Chromium makes the picture of the report:
`apt-get install chromium`.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
WIDTH = 100  # characters of the terminal
PAGE = (1000, 1250)  # pixels of the report that are shown
LINES = 45  # of a command's output that are shown
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)


def terminal(folder: Path, path: Path) -> None:
    """An SVG of a terminal in which a data set is planned, checked and trained for a few batches."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for command in (
        "plan data/dataset.json -o my.yaml --minutes 1 --no-gpu",
        "config check my.yaml",
        "train my.yaml --set output.output_dir=terminal --overwrite",
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "lannunet_core", *command.split()],
            cwd=folder,
            env={**os.environ, "COLUMNS": str(WIDTH)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        lines = ended.stdout.replace(str(folder.resolve()), ".").splitlines()
        console.print(f"$ lannunet {command}", style="bold")
        console.print(Text("\n".join(lines if len(lines) <= LINES else ["…", *lines[-LINES:]])))
    path.write_text(console.export_svg(title="lannunet"), encoding="utf-8")


def photograph(page: Path, size: tuple[int, int], path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("There is no Chromium: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size={},{}".format(*size)]
    command = [browser, *options, f"--screenshot={path.resolve()}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def predictions(page: Path, path: Path) -> None:
    """Three cases of a report next to each other: predicted and annotated points."""
    text = page.read_text(encoding="utf-8")
    shown = [svg for svg in DRAWING.findall(text) if "data:image/jpeg" in svg]
    with tempfile.TemporaryDirectory() as folder:
        only = Path(folder) / "page.html"
        cells = "".join(f'<div style="width:240px;float:left">{svg}</div>' for svg in shown[:3])
        style = "".join(STYLE.findall(text))
        only.write_text(
            f'<meta charset="utf-8">{style}<body style="margin:0;padding:0;max-width:none">{cells}',
            encoding="utf-8",
        )
        photograph(only, (720, 240), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    chosen = parser.parse_args()
    if not (chosen.demo / "report.html").exists():
        subprocess.run([sys.executable, "-m", "lannunet_core", "demo", str(chosen.demo)], check=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    photograph(chosen.demo / "report.html", PAGE, chosen.out / "report.png")
    predictions(chosen.demo / "report.html", chosen.out / "predictions.png")
    terminal(chosen.demo, chosen.out / "terminal.svg")


if __name__ == "__main__":
    main()
