"""Make a partially annotated data set: a few axial slices of each training volume keep their labels.

    python -m benchmarks.annotate_slices DatasetXXX_FULL DatasetXXX_SPARSE --slices 3 --seed 0

Every other voxel of the training labels becomes −1. Images, test labels and splits are copied as they are.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
from lannunet_segmentation import IGNORE, read_dataset, read_label, write_label

from lannunet_core import UserError


def annotate_slices(source: Path, target: Path, slices: int = 3, seed: int = 0) -> dict[str, list[int]]:
    """Copy a raw nnU-Net folder with only some slices annotated.

    Args:
        source: A raw folder of version 1 or 2, of volumes.
        target: The new folder.
        slices: How many slices of each volume keep their labels; a volume that has fewer keeps all.
        seed: A volume's slices depend on it and on the volume's name only.

    Returns:
        Each training case's slices, counted from 0 along z.
    """
    dataset = read_dataset(source)
    if dataset.layout == "preprocessed" or dataset.dimensions == 2:
        raise UserError(f"{source}: name a raw folder of volumes; this one has no slices to choose from.")
    if slices < 1:
        raise UserError(f"--slices: {slices} leaves nothing annotated. Keep at least 1.")
    if target.exists():
        raise UserError(f"{target}: exists already. Name a new folder.")
    labels = {}
    for case in dataset.training:
        assert case.label is not None
        if not case.label.is_relative_to(source):
            raise UserError(f"{case.label}: lies outside of {source}, and would not be copied with it.")
        labels[case.id] = case.label
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    kept = {}
    for name, path in labels.items():
        label, geometry = read_label(path, dataset)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        chosen = np.sort(rng.permutation(len(label))[:slices])
        annotated = np.full_like(label, IGNORE)
        annotated[chosen] = label[chosen]
        write_label(target / path.relative_to(source), annotated, geometry)
        kept[name] = chosen.tolist()
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="raw nnU-Net folder with full annotations")
    parser.add_argument("target", type=Path, help="new folder")
    parser.add_argument("--slices", type=int, default=3, help="axial slices that keep their labels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        kept = annotate_slices(arguments.source, arguments.target, arguments.slices, arguments.seed)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{arguments.target}: {len(kept)} training volumes with {arguments.slices} annotated slices each")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
