"""Peak memory of predicting a 512×512×300 volume with 20 classes, and whether slabs change the labels.

    python -m benchmarks.segmentation_memory [memory|scratch …]

Takes a few minutes, and is not part of `make bench`. The network is one 1×1×1 convolution that distinguishes
20 intensities; a real network needs additional memory for a patch. The original grid is slightly coarser than
the prepared one, so that every axis is resampled. Linux only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PREPARED, ORIGINAL, PATCH, CLASSES = (512, 512, 300), (500, 500, 280), (128, 128, 64), 20
LIMIT = 6.0  # GB
CHILD = (
    "import sys; from pathlib import Path; from benchmarks.segmentation_memory import measure; "
    "measure(Path(sys.argv[1]), sys.argv[2] == 'scratch')"
)


def main(places: list[str]) -> int:
    good = True
    for place in places or ["memory", "scratch"]:
        with tempfile.TemporaryDirectory() as folder:
            write_image(Path(folder) / "image.npy")
            command = [sys.executable, "-c", CHILD, folder, place]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(ended.stdout)
        holds = found["peak"] < LIMIT and found["same"] and found["classes"] == CLASSES
        print(
            f"512×512×300, {CLASSES} classes, scores in {place}: peak {found['peak']:.2f} GB "
            f"(required < {LIMIT:g}), prediction {found['predict']:.0f} s, "
            f"resampling {found['resample']:.0f} s, {found['classes']} classes found, "
            f"labels as all at once: {'yes' if found['same'] else 'NO'}, {'holds' if holds else 'FAILS'}",
            flush=True,
        )
        good = good and holds
    return 0 if good else 1


def write_image(path: Path) -> None:
    """A memory-mapped image (1, z, y, x) of blobs with intensities from 0 to CLASSES − 1."""
    image = np.lib.format.open_memmap(path, "w+", np.float32, (1, *reversed(PREPARED)))
    x, y = (np.arange(side, dtype=np.float32) / 23 for side in PREPARED[:2])
    rng = np.random.default_rng(0)
    for z, plane in enumerate(image[0]):
        waves = np.sin(x + np.float32(z / 11)) * np.sin(y[:, None] - np.float32(z / 17))
        plane[:] = (waves + 1) / 2 * (CLASSES - 1) + rng.normal(0, 0.2, plane.shape)
    image.flush()


def measure(folder: Path, on_scratch: bool) -> None:
    """Print peak and seconds, in a process that does nothing else."""
    import torch
    from lannunet_images import resize_affine
    from lannunet_segmentation.predict.resample import axis_matrices, label_map, resampled
    from lannunet_segmentation.predict.sliding import predict_scores

    centres = torch.arange(CLASSES, dtype=torch.float32)
    network = torch.nn.Conv3d(1, CLASSES, 1)
    with torch.no_grad():  # −(x − centre)², except for x², which all classes share
        network.weight.copy_(2 * centres.reshape(-1, 1, 1, 1, 1))
        network.bias.copy_(-(centres**2))  # type: ignore[union-attr]
    found: dict[str, Any] = {}
    began = time.perf_counter()
    image = np.load(folder / "image.npy", mmap_mode="r")
    scores = predict_scores(
        network, image, PATCH, "cpu", classes=CLASSES, scratch=folder if on_scratch else None
    )
    found["predict"] = time.perf_counter() - began
    began = time.perf_counter()
    matrix = resize_affine(ORIGINAL, PREPARED, "stretch")
    labels = label_map(scores, matrix, ORIGINAL)
    found["resample"] = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    found["peak"] = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024 / 1e9
    found["classes"] = len(np.unique(labels))

    # All voxels at once; only the classes come one by one, since together they are beyond many machines.
    shape = tuple(reversed(ORIGINAL))
    matrices = axis_matrices(scores.shape[1:], matrix, shape)
    best, winner = torch.full(shape, -torch.inf), torch.zeros(shape, dtype=torch.int16)
    for number, one in enumerate(scores):
        values = resampled(one, matrices, slice(0, shape[0]))
        winner[values > best] = number
        torch.maximum(best, values, out=best)
    found["same"] = bool(np.array_equal(labels, winner.numpy()))
    print(json.dumps(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
