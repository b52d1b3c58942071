"""Speed and memory of training on a GPU, with each measure disabled in turn: `python -m benchmarks.gpu`.

U-Net is trained on drawn landmark images: 512×512 in batches of 12, and 128×128×128 in batches of 2. The run
is that of `lannunet train`. One epoch is a warm-up, the next one is measured. Without a GPU, the images have
128×128 and 32×32×32 pixels; this only tests the script.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

import numpy as np
import torch
import yaml
from lannunet_landmarks.work import train
from rich.console import Console
from rich.table import Table

from lannunet_core import load_config
from lannunet_core.run import run
from lannunet_core.run.loop import Training

IMAGES = 24
LANDMARKS = 8


@dataclass(frozen=True)
class Case:
    size: tuple[int, ...]
    batch: int


@dataclass(frozen=True)
class Measured:
    images_per_second: float
    busy: float | None
    peak: float | None


class Done(BaseException):
    """End a run after it is measured."""


@contextmanager
def waiting() -> Iterator[None]:
    """Read the losses of every step immediately."""
    read = Training.read_losses
    with patch.object(Training, "read_losses", lambda self, bar, but=0: read(self, bar)):
        yield


@contextmanager
def unpinned() -> Iterator[None]:
    make = run.make_loader

    def changed(samples: Any, workers: int, device: torch.device, *more: Any, **options: Any) -> Any:
        return make(samples, workers, torch.device("cpu"), *more, **options)

    with patch.object(run, "make_loader", changed):
        yield


@contextmanager
def heuristic() -> Iterator[None]:
    """cuDNN chooses its algorithms by a heuristic, not by trying them."""
    with patch.object(type(torch.backends.cudnn), "benchmark", PropertyMock(return_value=False)):
        yield


Switch = tuple[dict[str, bool], Callable[[], Any] | None]
MEASURES: dict[str, Switch] = {
    "all": ({}, None),
    "without bfloat16": ({"solver.auto_mixed_precision": False}, None),
    "without channels-last": ({"trainer.channels_last": False}, None),
    "without cudnn.benchmark": ({}, heuristic),
    "without late reading of losses": ({}, waiting),
    "without pinned memory": ({}, unpinned),
    "with torch.compile": ({"trainer.compile": True}, None),
}


def draw(folder: Path, case: Case) -> None:
    """Noise with points, because the learned weights do not matter here."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(max(IMAGES, 2 * case.batch) + 1 if len(case.size) == 2 else 5):
        np.save(folder / f"{number}.npy", rng.normal(size=(1, *case.size[::-1])).astype(np.float32))
        points = rng.uniform(0, np.array(case.size) - 1, (LANDMARKS, len(case.size))).tolist()
        samples.append({"id": str(number), "image": f"{number}.npy", "coordinates": points})
    splits = {"training": samples[1:], "validation": [], "testing": samples[:1]}
    (folder / "points.json").write_text(json.dumps({"name": "noise", **splits}))


def configuration(folder: Path, case: Case, steps: int, settings: dict[str, bool]) -> Path:
    keys: dict[str, Any] = {
        "dataset.src_targets": "points.json",
        "sampler.input_size": list(case.size),
        "sampler.data_aug": "AffineComplex",
        "sampler.num_workers": 4 if torch.cuda.is_available() else 0,
        "solver.max_epochs": 2,
        "solver.mini_batch_size": steps,
        "solver.data_loader_batch_size_train": case.batch,
        "trainer.channels_last": True,
        "model.architecture": "unet",
        "output.output_dir": "out",
        **settings,
    }
    if not torch.cuda.is_available():
        keys |= {"model.unet.init_features": 4, "model.unet.max_features": 8}
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        *sections, last = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(nested))
    return path


def busy_share(step: Callable[[], None]) -> tuple[float, float | None]:
    """Seconds of a function, and in which share of them a kernel ran; None without a GPU."""
    if not torch.cuda.is_available():
        started = time.perf_counter()
        step()
        return time.perf_counter() - started, None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    spans = sorted((event.time_range.start, event.time_range.end) for event in profiler.events())
    covered, reached = 0.0, 0.0
    for first, last in spans:
        covered += max(last - max(first, reached), 0.0)
        reached = max(reached, last)
    return seconds, covered / 1e6 / seconds


def measure(case: Case, steps: int, switch: Switch) -> Measured:
    settings, context = switch
    found: list[Measured] = []

    def measured_run(self: Training) -> None:
        self.train_epoch(lambda: 0)
        self.progress.epoch, self.progress.step = 1, 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds, busy = busy_share(lambda: self.train_epoch(lambda: 0))
        peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
        found.append(Measured(steps * case.batch / seconds, busy, peak))
        raise Done

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        draw(folder, case)
        stack.enter_context(patch.object(Training, "run", measured_run))
        if context is not None:
            stack.enter_context(context())
        try:
            train(load_config(configuration(folder, case, steps, settings)))
        except Done:
            return found[0]
    raise AssertionError


def shown(number: float | None, unit: str) -> str:
    return "not measured" if number is None else f"{number:.3g}{unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gpu = torch.cuda.is_available()
    parser.add_argument("--steps", type=int, default=100 if gpu else 2, help="steps of an epoch")
    parser.add_argument("--only", choices=list(MEASURES), action="append", help="some of the rows")
    options = parser.parse_args()
    cases = [Case((512, 512), 12), Case((128,) * 3, 2)] if gpu else [Case((128, 128), 12), Case((32,) * 3, 2)]
    where = torch.cuda.get_device_name() if gpu else "no GPU: a test of this script alone"
    for case in cases:
        size = "×".join(map(str, case.size))
        title = f"{size}, batches of {case.batch}; {where}"
        table = Table("", "images per second", "busy", "peak memory", title=title)
        for name in options.only or MEASURES:
            if name == "with torch.compile" and not gpu and not options.only:
                continue  # saves half a minute on a CPU
            found = measure(case, options.steps, MEASURES[name])
            busy = None if found.busy is None else 100 * found.busy
            table.add_row(name, f"{found.images_per_second:.3g}", shown(busy, " %"), shown(found.peak, " GB"))
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
