"""SLEAP's `.slp` and `.pkg.slp`, which are HDF5, read with h5py.

The origin is the first pixel's centre since version 1.1 of the format; before, it was the pixel's corner.
Frames that are not image files (those of a video, or embedded in a package) are written as PNG to the folder
of the images, if the user names one. Videos are read by sleap-io, which the extra `sleap` provides.
https://io.sleap.ai/latest/formats/slp
"""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark
from numpy.typing import NDArray

from lannunet_core import UserError, atomic_path, inside, terminal_text
from lannunet_formats.common import HALF, names_of
from lannunet_formats.hdf5 import as_text, is_hdf5, opened

GROUP = "video"  # images of one video are similar
CENTRED = 1.1  # the format's first version whose origin is the first pixel's centre
RGB = 1.4  # the format's first version in which embedded colours are RGB by default
BY_USER = 0  # the type of an instance


class Frame(NamedTuple):
    """One frame of a video of the file.

    Attributes:
        backend: The file's description of the video.
        video: Name of the video.
        number: Number of the frame.
        where: Name of the frame in messages.
    """

    backend: dict[str, Any]
    video: str
    number: int
    where: str


def matches(path: Path) -> bool:
    return is_hdf5(path, ".slp")


def read(path: Path, images: Path | None) -> Annotations:
    with opened(path, "sleap") as file:
        metadata = json.loads(as_text(file["metadata"].attrs["json"]))
        version = float(file["metadata"].attrs.get("format_id", 1.0))
        skeletons = _skeletons(metadata)
        backends = [json.loads(as_text(one))["backend"] for one in file["videos_json"][...]]
        places, names = _places(backends), _video_names(backends, file)
        instances, points = file["instances"][...], file["points"][...]
        finder = ImageFinder(images, path.parent)
        videos = ImageFinder(None, *([images] if images else []), path.parent)
        found, guessed = [], 0
        for frame in file["frames"][...]:
            number = int(frame["frame_idx"])
            where = f"{path}, frame {number}"
            every = instances[int(frame["instance_id_start"]) : int(frame["instance_id_end"])]
            placed = [one for one in every if one["instance_type"] == BY_USER]
            guessed += not placed and bool(len(every))
            if len(placed) > 1:
                raise UserError(
                    f"{where}: has {len(placed)} instances, but an image may have only one. Crop one image "
                    "per instance."
                )
            if not placed:
                continue
            nodes = skeletons[int(placed[0]["skeleton"])]
            of_instance = points[int(placed[0]["point_id_start"]) : int(placed[0]["point_id_end"])]
            if len(of_instance) != len(nodes):
                raise UserError(
                    f"{where}: has {len(of_instance)} points, but its skeleton has {len(nodes)} nodes."
                )
            marks = _marks(nodes, of_instance, 0.0 if version >= CENTRED else HALF)
            video = places.get(int(frame["video"]), int(frame["video"]))
            shown = Frame(backends[video], names[video], number, where)
            image, source = _image(shown, file, finder if "filenames" in shown.backend else videos, images)
            found.append(Annotated(image, marks, extra={GROUP: source}, source=where))
    if guessed and not found:
        raise UserError(
            f"{path}: its {guessed} frames have only predictions, which are not annotations. Correct them in "
            "SLEAP first."
        )
    notes = (f"{path}: {guessed} frames with only predictions are left out.",) if guessed else ()
    order = skeletons[0] if skeletons else ()
    return Annotations(names_of(found, order), tuple(found), name=path.stem, group_by=GROUP, notes=notes)


def _skeletons(metadata: dict[str, Any]) -> list[tuple[str, ...]]:
    """The nodes of each skeleton; SLEAP before 1.3.2 wrote them without `nx_graph`."""
    names = [str(node["name"]) for node in metadata["nodes"]]
    return [
        tuple(names[node["id"]] for node in one.get("nx_graph", one)["nodes"])
        for one in metadata["skeletons"]
    ]


def _places(backends: list[dict[str, Any]]) -> dict[int, int]:
    """The index of a video by its number; embedded videos are numbered by their group, `video15/video`."""
    groups = [str(one.get("dataset") or "").partition("/")[0] for one in backends]
    return {
        int(group.removeprefix("video")): place
        for place, group in enumerate(groups)
        if group.startswith("video") and group.removeprefix("video").isdecimal()
    }


def _marks(names: tuple[str, ...], points: NDArray[Any], corner: float) -> dict[str, Mark]:
    return {
        name: Mark((float(point["x"]) - corner, float(point["y"]) - corner))
        for name, point in zip(names, points, strict=True)
        if point["visible"] and not np.isnan((point["x"], point["y"])).any()
    }


def _image(frame: Frame, file: Any, finder: ImageFinder, images: Path | None) -> tuple[Path, str]:
    """A frame's image file, and the name of its video."""
    backend = frame.backend
    if "filenames" in backend:
        path = finder.named(str(backend["filenames"][frame.number]), frame.where)
        return path, path.parent.name
    dataset = str(backend.get("dataset") or "")
    if images is None:
        raise UserError(
            f"{frame.where}: is not an image file. Name a folder to which frames are written (--images, "
            "dataset.root)."
        )
    image = inside(images, f"{frame.video}_{frame.number:06d}.png", frame.where)
    if not image.exists():
        from PIL import Image

        pixels = _embedded(file, dataset, frame) if backend["filename"] == "." else _decoded(frame, finder)
        with atomic_path(image) as temporary:
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(temporary, format="PNG")
    return image, frame.video


def _video_names(backends: list[dict[str, Any]], file: Any) -> list[str]:
    """The name of each video, with its index if two have the same name."""
    names = []
    for one in backends:
        filename = str(one.get("filename") or "video")
        if filename == "." and "source_video" in (group := file[one["dataset"]].parent):
            source = group["source_video"]
            said = source["json"][()] if "json" in source else source.attrs["json"]
            filename = str(json.loads(as_text(said))["backend"]["filename"])
        elif filename == ".":
            filename = group.name
        names.append(terminal_text(PurePosixPath(filename.replace("\\", "/")).stem))
    return [f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names)]


def _embedded(file: Any, dataset: str, frame: Frame) -> NDArray[Any]:
    """The pixels (y, x, C) of a frame embedded in a package, which are stored encoded or as an array."""
    stored = file[dataset]
    place = frame.number
    if "frame_numbers" in stored.parent:
        held = np.flatnonzero(stored.parent["frame_numbers"][...] == frame.number)
        if not len(held):
            raise UserError(f"{frame.where}: its image is not in the package. Save the package again.")
        place = int(held[0])
    if as_text(stored.attrs.get("format", "hdf5")) == "hdf5":
        pixels = np.asarray(stored[place])
        return pixels.transpose(2, 1, 0) if frame.backend.get("input_format") == "channels_first" else pixels
    from PIL import Image

    with Image.open(io.BytesIO(np.asarray(stored[place], np.int8).tobytes())) as image:
        pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    version = float(file["metadata"].attrs.get("format_id", 1.0))
    order = as_text(stored.attrs.get("channel_order", "RGB" if version >= RGB else "BGR"))
    return pixels[..., ::-1] if order == "BGR" and pixels.shape[-1] == 3 else pixels


def _decoded(frame: Frame, finder: ImageFinder) -> NDArray[Any]:
    """The pixels (y, x, C) of a frame of a video."""
    video = finder.named(str(frame.backend["filename"]), frame.where)
    if find_spec("sleap_io") is None:
        raise UserError(
            f"{frame.where}: is in the video {video.name}. Save a package with images (.pkg.slp) in SLEAP, "
            "or pip install 'lannunet-formats[sleap]', which reads videos."
        )
    import sleap_io

    try:
        return np.asarray(sleap_io.load_video(str(video))[frame.number])
    except Exception as error:  # the readers of sleap-io raise many classes
        cause = terminal_text(" ".join(str(error).split()))
        raise UserError(f"{frame.where}: cannot be read from {video.name} ({cause:.120}).") from None


SLEAP = LandmarkFormat("sleap", "SLEAP", matches, read, dimensions=(2,), file="labels.slp")
