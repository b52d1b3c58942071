"""Peak memory of an ensemble of five segmentation models on a 512×512×300 volume with 20 classes.

    python -m benchmarks.ensemble_memory

Takes a few minutes, and is not part of `make bench`. Five networks of one convolution are trained for one
batch, as folds of a cross-validation. A separate process, `lannunet predict`, then reads the volume, a NIfTI
file, and writes its label map. Real networks need additional memory for a patch. Linux only.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZE, CLASSES, FOLDS, LIMIT = (512, 512, 300), 20, 5, 6.0  # GB
PLUGIN = """
from lannunet_core import Plugin, hookimpl


class Tiny(Plugin):
    @hookimpl
    def network(self):
        from torch import nn

        return nn.Conv3d(self.run.in_channels, len(self.run.outputs), 3, padding=1)
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_dataset(folder / "Dataset001_Large")
        (folder / "tiny.py").write_text(PLUGIN)
        write_volume(folder / "large.nii.gz", SIZE)
        settings = {
            "task": "segmentation",
            "dataset": {"root": str(data)},
            "sampler": {"patch": {"sample_patch_size": [128, 128, 64]}, "num_workers": 0},
            "solver": {"max_epochs": 1, "mini_batch_size": 1, "data_loader_batch_size_train": 1},
            "inference": {"split": "validation"},
            "model": {"architecture": "tiny"},
            "output": {"output_dir": str(folder / "cv")},
        }
        (folder / "run.yaml").write_text(json.dumps(settings))
        plugin = ["--plugin", str(folder / "tiny.py")]
        call("train", str(folder / "run.yaml"), "--folds", f"0-{FOLDS - 1}", *plugin)
        began = time.perf_counter()
        images = [str(folder / "large.nii.gz"), "-o", str(folder / "out")]
        peak = call("predict", str(folder / "cv"), *images, *plugin)
        seconds = time.perf_counter() - began
        members = 1 + len(json.loads((folder / "out" / "run.json").read_text())["also"])
        labels = sitk.ReadImage(str(folder / "out" / "large.nii.gz"))
    good = peak < LIMIT and members == FOLDS and labels.GetSize() == SIZE
    print(
        f"{'×'.join(map(str, SIZE))}, {CLASSES} classes, {members} models: peak {peak:.2f} GB "
        f"(required < {LIMIT:g}), {seconds:.0f} s, {'holds' if good else 'FAILS'}"
    )
    return 0 if good else 1


def call(*arguments: str) -> float:
    """Run a `lannunet` command; return the highest peak of memory of all commands so far, in GB."""
    command = [sys.executable, "-m", "lannunet_core", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def write_dataset(folder: Path) -> Path:
    """Five small volumes with all classes."""
    for number in range(FOLDS):
        labels = write_volume(folder / "imagesTr" / f"case{number}_0000.nii.gz", (128, 128, 64))
        (folder / "labelsTr").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labelsTr" / f"case{number}.nii.gz"))
    names = {"background": 0, **{f"class{index}": index for index in range(1, CLASSES)}}
    declared = {"channel_names": {"0": "drawn"}, "labels": names, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**declared, "numTraining": FOLDS}))
    return folder


def write_volume(path: Path, size: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A volume of waves; its class at each voxel (z, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = (
        np.arange(side, dtype=np.float32) / step for side, step in zip(size[::-1], (11, 23, 17), strict=True)
    )
    waves = (np.sin(x + z[:, None, None]) * np.sin(y[:, None]) + 1) / 2
    labels = (waves * (CLASSES - 1)).round().astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray((labels * 10).astype(np.uint8)), str(path), useCompression=True)
    return labels


if __name__ == "__main__":
    raise SystemExit(main())
