"""Images, and annotations of them, that the tests of all formats share."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_landmarks import Annotated, Annotations, Mark
from PIL import Image

NAMES = ("tip", "left eye", "right eye")
OBLIQUE = (  # a rotation, whose third axis runs the other way
    (0.8, -0.6, 0.0),
    (0.48, 0.64, -0.6),
    (-0.36, -0.48, -0.8),
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of six PNG of 60 × 40 pixels, called a0.png to a5.png."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).save(folder / f"a{n}.png")
    return folder


@pytest.fixture(scope="session")
def volumes(tmp_path_factory) -> Path:
    """A folder of six oblique volumes of 20 × 16 × 12 voxels, v0.nii.gz to v5.nii.gz."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for n in range(6):
        image = sitk.GetImageFromArray(rng.integers(0, 255, (12, 16, 20)).astype(np.int16))
        image.SetSpacing((0.7, 0.9, 2.5))
        image.SetOrigin((-30.0 - n, 12.5, 40.0))
        image.SetDirection(np.ravel(OBLIQUE).tolist())
        sitk.WriteImage(image, str(folder / f"v{n}.nii.gz"))
    return folder


@pytest.fixture
def write_frame():
    """Writes a data frame as pandas' `to_hdf` does, except for what nobody reads.

    Laid out by hand from files that pandas 3.1 and DeepLabCut 2 wrote, as pandas and PyTables take 150 MB.
    """
    h5py = pytest.importorskip("h5py")

    def axis(group, name, labels):
        levels = list(zip(*labels, strict=True))
        group.attrs[f"{name}_variety"] = np.bytes_("multi" if len(levels) > 1 else "regular")
        group.attrs[f"{name}_nlevels"] = len(levels)
        for number, of_level in enumerate(levels):
            known = sorted(set(of_level))
            values = known if len(levels) > 1 else of_level
            place = f"{name}_level{number}" if len(levels) > 1 else name
            level = group.create_dataset(place, data=np.array(values, "S"))
            level.attrs["kind"] = np.bytes_("string")
            if len(levels) > 1:
                group[f"{name}_label{number}"] = np.array([known.index(one) for one in of_level], np.int8)

    def write(path, columns, rows, values, layout="fixed"):
        columns, rows = [tuple(one) for one in columns], [tuple(one) for one in rows]
        with h5py.File(path, "w") as file:
            group = file.create_group("df_with_missing")
            group.attrs["encoding"] = np.bytes_("UTF-8")
            if layout == "fixed":
                group.attrs["pandas_type"], group.attrs["nblocks"] = np.bytes_("frame"), 1
                for name, labels in (("axis0", columns), ("axis1", rows), ("block0_items", columns)):
                    axis(group, name, labels)
                group.create_dataset("block0_values", data=values).attrs["transposed"] = np.uint8(1)
                return
            listed = np.bytes_(pickle.dumps(columns, protocol=0))
            group.attrs["pandas_type"] = np.bytes_("frame_table")
            group.attrs["non_index_axes"] = np.bytes_(pickle.dumps([(1, columns)], protocol=0))
            kind = [("index", "S60"), ("values_block_0", "f8", len(columns))]
            paths = ["/".join(row) for row in rows]
            records = np.array(list(zip(paths, map(tuple, values), strict=True)), kind)
            group.create_dataset("table", data=records).attrs["values_block_0_kind"] = listed

    return write


SLP_FRAME = [
    ("frame_id", "u8"),
    ("video", "u4"),
    ("frame_idx", "u8"),
    ("instance_id_start", "u8"),
    ("instance_id_end", "u8"),
]
SLP_INSTANCE = [
    ("instance_id", "i8"),
    ("instance_type", "u1"),
    ("frame_id", "u8"),
    ("skeleton", "u4"),
    ("track", "i4"),
    ("from_predicted", "i8"),
    ("score", "f4"),
    ("point_id_start", "u8"),
    ("point_id_end", "u8"),
]
SLP_POINT = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]


@pytest.fixture
def write_slp():
    """Writes a file of SLEAP, as sleap-io 0.9 lays it out, except for what nobody reads.

    `frames` are (video, number, type of the instances, their points); `packed` are encoded images, by video
    and number.
    """
    h5py = pytest.importorskip("h5py")

    def write(path, nodes, backends, frames, version=1.3, packed=None):
        with h5py.File(path, "w") as file:
            skeleton = {"links": [], "nodes": [{"id": n} for n in reversed(range(len(nodes)))]}
            named = [{"name": name, "weight": 1.0} for name in reversed(nodes)]
            metadata = file.create_group("metadata")
            metadata.attrs["format_id"] = version
            metadata.attrs["json"] = np.bytes_(json.dumps({"skeletons": [skeleton], "nodes": named}))
            file["videos_json"] = np.array([json.dumps({"backend": one}) for one in backends], "S")
            rows, instances, points = [], [], []
            for video, number, kind, placed in frames:
                start = len(instances)
                for of_instance in placed:
                    first = len(points)
                    points += [(x, y, visible, True) for x, y, visible in of_instance]
                    place = (len(instances), kind, len(rows), 0, -1, -1, 0, first, len(points))
                    instances.append(place)
                rows.append((len(rows), video, number, start, len(instances)))
            file["frames"] = np.array(rows, SLP_FRAME)
            file["instances"] = np.array(instances, SLP_INSTANCE)
            file["points"] = np.array(points, SLP_POINT)
            for video, images in (packed or {}).items():
                group = file.create_group(f"video{video}")
                group["frame_numbers"] = list(images)
                stored = group.create_dataset("video", len(images), h5py.vlen_dtype(np.int8))
                stored.attrs["format"] = "png"
                for place, encoded in enumerate(images.values()):
                    stored[place] = np.frombuffer(encoded, np.int8)
                source = {"backend": {"filename": "C:\\\\clips\\\\fly.mp4"}}
                group.create_group("source_video").attrs["json"] = json.dumps(source)
        return path

    return write


@pytest.fixture
def annotated():
    """Makes annotations of the images of a folder from arrays (images, N, D) in pixels."""

    def make(folder, points, names=NAMES, **more) -> Annotations:
        files = sorted(folder.glob("*.png")) + sorted(folder.glob("*.nii.gz"))
        images = tuple(
            Annotated(
                file,
                {
                    name: Mark(tuple(map(float, point)))
                    for name, point in zip(names, of_image, strict=True)
                    if not np.isnan(point).any()
                },
                id=file.name.partition(".")[0],
            )
            for file, of_image in zip(files, points, strict=False)
        )
        return replace(Annotations(tuple(names), images), **more)

    return make
