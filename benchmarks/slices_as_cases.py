"""Write a 2D data set from a 3D one, in which every axial slice is a case.

    python -m benchmarks.slices_as_cases DatasetXXX_VOLUMES DatasetXXX_SLICES --ending .png

Slices without an annotated class are left out, as are all but the first channel.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from lannunet_segmentation import Geometry, read_case, read_dataset, write_label


def slices_as_cases(source: Path, target: Path, ending: str) -> int:
    """Write a raw folder of version 2, and return the number of its training cases.

    Args:
        source: A raw nnU-Net folder of labelled volumes.
        target: The new folder.
        ending: `.png` (grey values of each volume over 0 … 255) or `.nii.gz` (as they are).
    """
    dataset = read_dataset(source)
    count = 0
    for part, cases in (("Tr", dataset.training), ("Ts", dataset.testing)):
        for kind in ("images", "labels"):
            (target / f"{kind}{part}").mkdir(parents=True)
        for case in cases:
            volume = read_case(case, dataset)
            assert volume.label is not None
            pixels = volume.pixels[0]
            low, high = float(pixels.min()), float(pixels.max())
            for z in np.flatnonzero((volume.label > 0).any(axis=(1, 2))):
                name = f"{case.id}_z{z:03}"
                plane = pixels[z]
                if ending == ".png":
                    plane = ((plane - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8)
                image = sitk.GetImageFromArray(plane)
                if ending != ".png":
                    image.SetSpacing(volume.geometry.spacing[:2])
                sitk.WriteImage(image, str(target / f"images{part}" / f"{name}_0000{ending}"))
                write_label(
                    target / f"labels{part}" / f"{name}{ending}", volume.label[z], in_plane(volume.geometry)
                )
                count += part == "Tr"
    described = {
        "channel_names": {"0": dataset.channel_names[0]},
        "labels": {name: value for value, name in enumerate(dataset.class_names)},
        "numTraining": count,
        "file_ending": ending,
    }
    (target / "dataset.json").write_text(json.dumps(described, indent=1))
    return count


def in_plane(geometry: Geometry) -> Geometry:
    return replace(
        geometry,
        size=geometry.size[:2],
        spacing=geometry.spacing[:2],
        origin=geometry.origin[:2],
        direction=(1.0, 0.0, 0.0, 1.0),
        axes=2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="raw nnU-Net folder of volumes")
    parser.add_argument("target", type=Path, help="new folder")
    parser.add_argument("--ending", choices=(".png", ".nii.gz"), default=".png")
    arguments = parser.parse_args()
    count = slices_as_cases(arguments.source, arguments.target, arguments.ending)
    print(f"{arguments.target}: {count} training cases")


if __name__ == "__main__":
    main()
