"""Write the models of a version, which later versions must read: `python -m tests.compatibility.make 0.1`.

A folder is written once, by the version that it is called by, and never again: docs/compatibility.md. Each
task has a model file, a bundle of it, an image, and the prediction of the model.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from lannunet_core import api
from tests.fixtures.projects import draw_project, draw_segmentation_project

HERE = Path(__file__).parent
SOLVER = {"max_epochs": 30, "mini_batch_size": 10, "base_lr": 0.01}


def main(version: str) -> None:
    folder = HERE / version
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        landmarks = draw_project(Path(temporary) / "landmarks")
        landmarks.set(solver=SOLVER, trainer={"validate_every": 10})
        image = landmarks.folder / landmarks.annotations["testing"][0]["image"]
        found = keep(landmarks, image, folder / "landmarks")
        answer = {"points": found.points.tolist(), "names": list(found.names)}
        (folder / "landmarks" / "found.json").write_text(json.dumps(answer, indent=1) + "\n")

        segmentation = draw_segmentation_project(
            Path(temporary) / "segmentation", size=(48, 40), patch=(32, 32), ending=".png"
        )
        segmentation.set(solver=SOLVER)
        image = segmentation.raw / "imagesTs" / "Ts0_0000.png"
        found = keep(segmentation, image, folder / "segmentation")
        Image.fromarray(found.labels.astype(np.uint8)).save(folder / "segmentation" / "found.png")


def keep(project, image: Path, folder: Path):
    """Train, and keep the model, its bundle, the image, and the prediction for it."""
    folder.mkdir()
    assert project.train() == 0
    bundle = folder / "model.lnb"
    assert project.lannunet("bundle", "create", project.out, "-o", bundle) == 0
    shutil.copyfile(project.out / "checkpoints" / "best.safetensors", folder / "model.safetensors")
    shutil.copyfile(image, folder / "image.png")
    return api.load(project.out).predict(folder / "image.png")


if __name__ == "__main__":
    main(sys.argv[1])
