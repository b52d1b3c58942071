"""Weight maps of two volumes of 160×256×256 with 3 classes on two processes: time and peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from lannunet_segmentation import in_processes
from lannunet_weighted.cases import find_cases
from lannunet_weighted.generate import Recipe, make_map
from lannunet_weighted.maps import Mode
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import Row

SHAPE, CLASSES, VOLUMES = (160, 256, 256), (1, 2, 3), 2
W0, SIGMA = 10.0, 5.0
MODES: tuple[Mode, ...] = ("nearest", "unet")
CHILD = "import sys; from benchmarks.weightmaps import measure; measure(*sys.argv[1:])"


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "Task001_Shapes" / "nnUNetData_plans_v2.1_stage0"
        folder.mkdir(parents=True)
        for volume in range(VOLUMES):
            write_case(folder / f"case{volume}.npy", np.random.default_rng(volume))
        return [compare(folder, mode) for mode in MODES]


def compare(folder: Path, mode: Mode) -> Row:
    found = {}
    for way in ("plain", "ours"):
        ended = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), mode, way], stdout=subprocess.PIPE, check=True
        )
        found[way] = json.loads(ended.stdout)
    plain, ours = found["plain"], found["ours"]
    apart = 0.0
    for path in folder.glob("*_plain.npy"):
        expected = np.load(path, mmap_mode="r")
        weights = np.load(path.with_name(path.name.replace("_plain", "_weightmap")), mmap_mode="r")
        apart = max(apart, float(np.abs(expected - weights).max()))
    return Row(
        f"weight maps ({mode}), 2 volumes of 160×256×256, 3 classes, 2 processes",
        "SciPy's distances over the whole volume",
        plain["seconds"],
        ours["seconds"],
        at_least=2,
        note=f"peak of a process {ours['peak']:.0f} MB, plain {plain['peak']:.0f} MB (at most half wanted); "
        f"{apart:.0e} apart",
        same=apart < 1e-5 and ours["peak"] <= plain["peak"] / 2,
    )


def write_case(path: Path, rng: np.random.Generator) -> None:
    """A preprocessed case: two ellipsoids of each class, over most of the volume; some of them touch."""
    places = np.indices(SHAPE, np.float32)
    label = np.zeros(SHAPE, np.float32)
    for number in range(2 * len(CLASSES)):
        column = np.array([*divmod(number, 3), 0])[[2, 0, 1]]
        centre = np.array([80, 64, 43]) + column * np.array([0, 128, 85]) + rng.uniform(-8, 8, 3)
        radii = rng.uniform([45, 40, 32], [60, 56, 46])
        ways = sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True))
        label[np.asarray(ways) < 1] = CLASSES[number % len(CLASSES)]
    np.save(path, np.stack([rng.standard_normal(SHAPE, np.float32), label]))


def measure(folder: str, mode: Mode, way: str) -> None:
    """Make all maps in two processes; print seconds and the highest peak of one, in MB.

    In a process without much memory of its own, since a child begins with its parent's peak.
    """
    began = time.perf_counter()
    cases = find_cases(Path(folder), None, "case?.npy", CLASSES)
    if way == "ours":
        for _ in in_processes(partial(make_map, recipe=Recipe(mode, W0, SIGMA)), cases, VOLUMES):
            pass
    else:
        for _ in in_processes(partial(plain_map, mode=mode), [case.path for case in cases], VOLUMES):
            pass
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak": peak / (1e6 if sys.platform == "darwin" else 1e3)}))


def plain_map(path: Path, mode: Mode) -> None:
    label = np.load(path, mmap_mode="r")[-1].astype(np.int16)
    weights = np.zeros(label.shape, np.float32)
    for value in (0, *CLASSES):
        weights[label == value] = 1 - (label == value).mean()
    distance = plain_nearest(label) if mode == "nearest" else plain_unet(label)
    border = W0 * np.exp(-(distance**2) / (2 * SIGMA**2))
    border[distance == 0 if mode == "nearest" else label > 0] = 0
    np.save(path.with_name(f"{path.stem}_plain.npy"), (weights + border)[None].astype(np.float32))


def plain_nearest(label: NDArray[np.int16]) -> NDArray[np.float64]:
    interior = np.zeros(label.shape, bool)
    for value in CLASSES:
        interior |= ndimage.binary_erosion(label == value)
    return np.asarray(ndimage.distance_transform_edt(~interior))


def plain_unet(label: NDArray[np.int16]) -> NDArray[np.float64]:
    nearest = np.full(label.shape, np.inf)
    second = np.full(label.shape, np.inf)
    for value in CLASSES:
        parts, count = ndimage.label(label == value)
        for part in range(1, count + 1):
            distance = ndimage.distance_transform_edt(parts != part)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return np.asarray(nearest + second)
