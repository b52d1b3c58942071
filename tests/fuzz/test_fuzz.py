"""Mutated inputs of every kind give a result or one sentence: no traceback, no hang, no other file changed.

FUZZ_EXAMPLES sets the number per kind; the slow test runs 100,000 in all, in processes of bounded memory.
"""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st
from lannunet_segmentation.data.preprocess import prepare_cases
from lannunet_segmentation.types import Settings
from PIL import Image

from lannunet_core import UserError, cli
from lannunet_core.images.reader import image_header, read_image
from tests.fixtures.nnunet import blocks, preprocessed
from tests.fixtures.projects import draw_project, draw_segmentation_project
from tests.fuzz.mutations import as_json, damaged, trees

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
IN_ALL = 100_000
LONGEST = timedelta(seconds=10)
MEMORY = 2 << 30  # bytes


@dataclass
class Kind:
    """A kind of file: the valid content that is mutated, and the reader.

    Attributes:
        path: Path of the file that a command reads.
        tree: Content that is mutated; if None, the bytes are mutated.
        dump: Function that writes a tree.
        read: Command, or reader that refuses with a `UserError`.
    """

    path: Path
    read: Callable[[], object]
    tree: object = None
    dump: Callable[[object], bytes] = as_json


def command(*arguments):
    """A call of the command line, with one of three allowed exit codes."""

    def call():
        said = io.StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said):
                cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            assert end.code in (None, 0, 1, 2), end.code
        assert "Traceback" not in said.getvalue()
        assert "\x1b" not in said.getvalue()

    return call


def reader(read):
    def call():
        try:
            read()
        except UserError as refused:
            assert str(refused)
            assert "\x1b" not in str(refused)

    return call


def as_yaml(tree):
    try:
        return yaml.safe_dump(tree).encode()
    except (yaml.YAMLError, ValueError):
        return as_json(tree)  # which YAML holds


class Ground:
    """A folder with valid data of every kind, next to a tree of files that must not change."""

    def __init__(self, folder, trained):
        self.decoy = folder / "victim"
        (self.decoy / "inner").mkdir(parents=True)
        for name in ("a.nii.gz", "run.json", "inner/predictions.csv"):
            (self.decoy / name).write_text(name)
        self.folder, self.trained = folder / "given", trained
        self.kinds = {}
        self.landmarks()
        self.segmentation()
        self.images()

    def hash(self):
        found = hashlib.sha256()
        for path in sorted(self.folder.parent.rglob("*")):
            if path.is_relative_to(self.folder):
                continue
            found.update(str(path).encode())
            found.update(path.read_bytes() if path.is_file() else b"")
        return found.hexdigest()

    def landmarks(self):
        project = draw_project(self.folder / "landmarks")
        project.write()
        check = command("config", "check", project.yaml)
        self.kinds["configuration"] = Kind(project.yaml, check, project.config, as_yaml)

        other = draw_project(self.folder / "annotations")
        other.write()
        check = command("config", "check", other.yaml)
        self.kinds["annotations"] = Kind(other.json, check, other.annotations)

        folded = draw_project(self.folder / "folds")
        folded.config["dataset"] = {"root": ".", "src_targets": "all"}
        folded.config["trainer"]["fold"] = 0
        folded.write()
        (folded.folder / "all").mkdir()
        for n in range(2):
            shutil.copy(folded.json, folded.folder / "all" / f"fold{n}.json")
        check = command("config", "check", folded.yaml)
        self.kinds["folds"] = Kind(folded.folder / "all" / "fold0.json", check, folded.annotations)

        old = self.folder / "old.yaml"
        self.kinds["YAML of LaNNU-Net"] = Kind(old, command("config", "import", old), LANNUNET, as_yaml)

        from lannunet_landmarks.evaluation.calibration import read_calibration
        from lannunet_landmarks.evaluation.predictions import read_predictions

        predictions = self.folder / "predictions.csv"
        shutil.copy(self.trained.out / "predictions.csv", predictions)
        self.kinds["predictions"] = Kind(predictions, reader(lambda: read_predictions(predictions)))

        calibration = self.folder / "calibration.json"
        whole = self.folder / "whole.json"
        made = command("calibrate", self.trained.out / "predictions.csv", "-o", whole)
        made()
        tree = json.loads(whole.read_text())
        self.kinds["calibration"] = Kind(calibration, reader(lambda: read_calibration(calibration)), tree)

        from lannunet_core.run.checkpoint import load_checkpoint

        for name in ("best.safetensors", "latest.pt"):
            model = self.folder / name
            shutil.copy(self.trained.out / "checkpoints" / name, model)
            self.kinds[f"checkpoint {name}"] = Kind(model, reader(lambda path=model: load_checkpoint(path)))

    def segmentation(self):
        raw = draw_segmentation_project(self.folder / "segmentation", size=(8, 8, 6), patch=(8, 8, 6))
        raw.write()
        check = command("config", "check", raw.yaml)
        declared = raw.raw / "dataset.json"
        self.kinds["dataset.json"] = Kind(declared, check, json.loads(declared.read_text()))

        ready = self.folder / "ready" / "Task500_Blobs"
        preprocessed(ready)
        task = self.folder / "ready" / "run.yaml"
        config = {**raw.config, "dataset": {"root": ready.name}, "trainer": {"fold": 0}}
        task.write_text(yaml.safe_dump(config))
        check = command("config", "check", task)
        for path in sorted(ready.rglob("*")):
            if (
                path.is_file()
                and path.suffix in (".pkl", ".json", ".npz", ".npy")
                and "case_1" not in path.name
            ):
                self.kinds[f"preprocessed {path.name}"] = Kind(path, check)

        dataset, cache = blocks(self.folder / "Dataset001_blocks", 2), self.folder / "cache"
        plain = Settings(None, ("zscore",), (None,))

        def prepare():
            for case in prepare_cases(dataset.training, dataset, plain, cache, jobs=1):
                case.image(), case.label(), case.annotated().draw(np.random.default_rng(0))

        prepare()
        for path in sorted((cache / "c0").iterdir()):
            self.kinds[f"cache {path.name}"] = Kind(path, reader(prepare))

    def images(self):
        folder = self.folder / "images"
        folder.mkdir()
        flat = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
        for suffix in (".png", ".jpg", ".tif", ".bmp"):
            Image.fromarray(flat).save(folder / f"a{suffix}")
        np.save(folder / "a.npy", flat)
        np.savez(folder / "a.npz", flat)
        volume = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
        for suffix in (".nii", ".nii.gz", ".mha", ".nrrd"):
            sitk.WriteImage(volume, str(folder / f"v{suffix}"))
        sitk.WriteImage(sitk.Cast(sitk.GetImageFromArray(flat), sitk.sitkUInt16), str(folder / "a.dcm"))
        for path in sorted(folder.iterdir()):
            dimensions = 3 if path.name.startswith("v") else 2

            def look(path=path, dimensions=dimensions):
                image_header(path, dimensions)
                read_image(path, dimensions)

            self.kinds[f"image {''.join(path.suffixes)}"] = Kind(path, reader(look))


LANNUNET = {
    "DATASET": {"NAME": "mine", "ROOT": "./", "SRC_TARGETS": "points.json", "LANDMARKS": [0, 1]},
    "SAMPLER": {
        "SAMPLE_MODE": "patch_bias",
        "INPUT_SIZE": [64, 64],
        "DATA_AUG": "AffineComplex",
        "PATCH": {"SAMPLE_PATCH_SIZE": [32, 32], "SAMPLER_BIAS": 0.66},
    },
    "SOLVER": {"BASE_LR": 0.01, "MAX_EPOCHS": 5, "REGRESS_SIGMA": True},
    "TRAINER": {"FOLD": 0},
    "MODEL": {"ARCHITECTURE": "U-Net", "GAUSS_SIGMA": 2},
    "INFERENCE": {"EVALUATION_MODE": "scale_heatmap_first"},
    "OUTPUT": {"OUTPUT_DIR": "out"},
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory, trained):
    return Ground(tmp_path_factory.mktemp("fuzz"), trained)


KINDS = (
    "configuration",
    "annotations",
    "folds",
    "YAML of LaNNU-Net",
    "predictions",
    "calibration",
    "checkpoint",
    "dataset.json",
    "preprocessed",
    "cache",
    "image",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_mutated(kind, ground):
    of_kind = [one for name, one in ground.kinds.items() if name == kind or name.startswith(f"{kind} ")]
    valid = {id(one): one.path.read_bytes() if one.path.exists() else one.dump(one.tree) for one in of_kind}
    before, memory = ground.hash(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=EXAMPLES,
        deadline=LONGEST,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def read(data):
        one = data.draw(st.sampled_from(of_kind))
        content = valid[id(one)]
        if one.tree is not None and data.draw(st.integers(0, 3)):
            content = one.dump(data.draw(trees(one.tree)))
        else:
            content = data.draw(damaged(content))
        one.path.write_bytes(content)
        try:
            one.read()
        finally:
            one.path.write_bytes(valid[id(one)])
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
        assert taken < MEMORY, f"{one.path.name}: took {taken >> 20} MiB"

    for one in of_kind:
        one.path.write_bytes(valid[id(one)])
        one.read()
    read()
    assert ground.hash() == before


def bounded():
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MEMORY, 2 * MEMORY))  # with torch and its threads


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutated(kind):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{__file__}::test_mutated[{kind}]",
    ]
    ended = subprocess.run(
        command,
        env=os.environ | {"FUZZ_EXAMPLES": str(IN_ALL // len(KINDS))},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        preexec_fn=bounded,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
