"""The pictures of the documentation: a report, three of its cases, and the terminal.

    python -m benchmarks.pictures [--demo runs/demo] [--out docs/pictures]

Runs `lannunet demo` unless its folder exists. The picture of the report needs Chromium:
`apt-get install chromium`.
"""

import argparse
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PAGE = (1000, 1250)  # pixels of the report in the picture
SIDE = 240  # pixels of a case
WIDTH, LINES = 112, 22  # of the terminal, and the number of last lines that are shown of each output
COMMANDS = (
    "plan data/dataset.json -o my.yaml --minutes 2 --no-gpu",
    "config check my.yaml",
    "train my.yaml --set output.output_dir=terminal --overwrite",
)
COLOURS = {"target": "#2ecc71", "prediction": "#3b82f6"}
RECORD = re.compile(r'<script type="application/json" data-case="\d+">(.*?)</script>', re.DOTALL)


def photograph(page: Path, size: tuple[int, int], path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("There is no Chromium: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size={},{}".format(*size)]
    command = [browser, *options, f"--screenshot={path.resolve()}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def predictions(page: Path, path: Path) -> None:
    """The best, a median and the worst case of a report: predicted points blue, annotated ones green."""
    records = [json.loads(text) for text in RECORD.findall(page.read_text(encoding="utf-8"))]
    row = Image.new("RGB", (3 * SIDE, SIDE), "white")
    for place, number in enumerate((-1, len(records) // 2, 0)):  # the page begins with the worst
        (plane,) = records[number]["planes"]
        encoded = base64.b64decode(plane["href"].partition(",")[2])
        scale = SIDE / max(plane["size"])
        size = tuple(round(scale * side) for side in plane["size"])
        picture = Image.open(io.BytesIO(encoded)).convert("RGB").resize(size)
        draw = ImageDraw.Draw(picture)
        for mark in records[number]["marks"]:
            for kind, colour in COLOURS.items():
                if mark[kind] is not None:
                    x, y = (scale * (at + 0.5) for at in mark[kind])
                    draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=colour, width=2)
        row.paste(picture, (place * SIDE, 0))
    row.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def terminal(folder: Path, path: Path) -> None:
    """Write an SVG of a terminal in which `plan`, `config check` and `train` run on the data of the demo."""
    (folder / "my.yaml").unlink(missing_ok=True)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for command in COMMANDS:
        ended = subprocess.run(
            [sys.executable, "-m", "lannunet_core", *command.split()],
            cwd=folder,
            env={**os.environ, "COLUMNS": str(WIDTH), "TERM": "dumb"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        lines = ended.stdout.replace(f"{folder.resolve()}/", "").splitlines()
        console.print(f"$ lannunet {command}", style="bold")
        console.print(Text("\n".join(lines if len(lines) <= LINES else ["…", *lines[-LINES:]])))
    drawn = re.sub(
        r"@font-face \{.*?\}", "", console.export_svg(title="lannunet"), flags=re.DOTALL
    )  # which would be downloaded
    path.write_text(drawn.replace("Fira Code, ", ""), encoding="utf-8")


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
