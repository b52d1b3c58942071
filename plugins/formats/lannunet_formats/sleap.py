"""SLEAP's `.slp` and `.pkg.slp`, by sleap-io, which is an extra.

sleap-io counts from the first pixel's centre, as we do. Frames that are no image files (those of a video, or
embedded in a package) are written as PNG into the folder of the images, where the user names one.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, mark_of

from lannunet_core import UserError, atomic_path, inside, terminal_text
from lannunet_formats.common import names_of

GROUP = "video"  # pictures of one video are alike
HDF5 = b"\x89HDF\r\n\x1a\n"


def matches(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".slp":
        return False
    with path.open("rb") as file:
        return file.read(8) == HDF5


def read(path: Path, images: Path | None) -> Annotations:
    if find_spec("sleap_io") is None:
        raise UserError(
            f"{path}: reading .slp needs sleap-io. Install it with pip install 'lannunet-formats[sleap]'."
        )
    import sleap_io

    labels = sleap_io.load_slp(str(path))
    finder = ImageFinder(images, path.parent)
    found, guessed = [], 0
    for frame in labels:
        where = f"{path}, frame {frame.frame_idx}"
        instances = frame.user_instances
        guessed += not instances and bool(frame.instances)
        if len(instances) > 1:
            raise UserError(
                f"{where}: shows {len(instances)} instances, and an image of ours shows one. Cut an image of "
                "its own out for each."
            )
        if not instances:
            continue
        (instance,) = instances
        marks = {
            str(name): mark_of(point, where)
            for name, point in zip(instance.skeleton.node_names, instance.numpy().tolist(), strict=True)
            if not np.isnan(point).any()
        }
        image, video = _image(frame, finder, images, where)
        found.append(Annotated(image, marks, extra={GROUP: video}, source=where))
    notes = (f"{path}: {guessed} frames with predictions alone are left out.",) if guessed else ()
    order = tuple(str(name) for name in labels.skeletons[0].node_names) if labels.skeletons else ()
    return Annotations(names_of(found, order), tuple(found), name=path.stem, group_by=GROUP, notes=notes)


def _image(frame: Any, finder: ImageFinder, images: Path | None, where: str) -> tuple[Path, str]:
    """A frame's image file, and which video it is of."""
    video = frame.video
    if isinstance(video.filename, list):
        path = finder.named(str(video.filename[frame.frame_idx]), where)
        return path, path.parent.name
    source = getattr(video, "source_video", None) or video
    name = terminal_text(Path(str(source.filename)).stem)
    if images is None:
        raise UserError(
            f"{where}: is no image file. Name a folder that frames are written to (--images, dataset.root)."
        )
    image = inside(images, f"{name}_{frame.frame_idx:06d}.png", where)
    if not image.exists():
        from PIL import Image

        try:
            pixels = np.asarray(frame.image)
        except Exception as error:  # sleap-io has many readers
            raise UserError(f"{where}: cannot be read from its video ({error}).") from None
        with atomic_path(image) as temporary:
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(temporary)
    return image, name


SLEAP = LandmarkFormat("sleap", "SLEAP", matches, read, dimensions=(2,))
