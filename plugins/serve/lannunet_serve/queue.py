"""The queue of images to show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lannunet_images import IMAGE_FILES
from lannunet_landmarks import read_queue

from lannunet_core import UserError


def images_of(given: Sequence[Path]) -> list[tuple[str, Path]]:
    """Names and files of images, of images in folders, and of folders written by `lannunet suggest`.

    Raises:
        UserError: A file is missing, or a folder has no image.
    """
    found: list[tuple[str, Path]] = []
    for path in given:
        if (path / "queue.csv").is_file():
            found += read_queue(path)
        elif path.is_dir():
            inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
            images = [one for one in inside if one.is_file() and IMAGE_FILES.knows(one)]
            if not images:
                raise UserError(f"--queue: {path} has no images. Name a folder with images.")
            found += [(one.name, one) for one in images]
        else:
            found.append((path.name, path))
    if missing := [path for _, path in found if not path.is_file()]:
        raise UserError(f"--queue: there is no image {missing[0]}.")
    return found
