"""Folders that nnU-Net version 1 preprocessed: their pickles, plans and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lannunet_core.segmentation.types import Geometry, SegmentationDataset


def find_stage(folder: Path) -> Path | None:
    return None


def geometry(path: Path, dimensions: int) -> Geometry:
    raise NotImplementedError


def check(path: Path, dataset: SegmentationDataset) -> None:
    raise NotImplementedError


def read_pickle(path: Path) -> Any:
    raise NotImplementedError
