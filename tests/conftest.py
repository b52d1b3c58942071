"""What tests of several parts share."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lannunet_core import cli
from lannunet_core.plugins import discovery

REPOSITORY = Path(__file__).parents[1]
SPLITS = {"training": 4, "validation": 2, "testing": 2}


def write_distribution_to(
    folder,
    name,
    plugins,
    files=None,
    *,
    version="1.0",
    requires=(),
    summary="",
    commands=None,
    entry_points="",
    extra=None,
) -> Path:
    """Writes a distribution's metadata and modules into a folder, which is for the path.

    Call it with a name and its plugins (entry-point name to `module:Class`), and optionally modules (file
    name to source). It returns the folder of the metadata.
    """
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *([f"Summary: {summary}"] if summary else []),
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    for group, entries in (("lannunet.plugins", plugins), ("lannunet.commands", commands or {})):
        entry_points += f"\n[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
    (metadata / "entry_points.txt").write_text(entry_points)
    for file, text in (extra or {}).items():
        (metadata / file).write_text(text)
    for file, text in (files or {}).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return metadata


@pytest.fixture(scope="session")
def write_distribution():
    """`write_distribution_to`, for distributions that several tests share."""
    return write_distribution_to


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs a distribution for the length of a test: `write_distribution_to` without a folder."""
    discovery.scan.cache_clear()
    before = set(sys.modules)

    def install(name, plugins, files=None, **options) -> Path:
        metadata = write_distribution_to(tmp_path / "installed" / name, name, plugins, files, **options)
        monkeypatch.syspath_prepend(metadata.parent)
        discovery.scan.cache_clear()
        return metadata

    yield install
    discovery.scan.cache_clear()
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[module]


@dataclass
class Project:
    """A user's folder: a drawn dataset, a YAML beside it, and the command line called on them.

    Tests change `annotations` and `config`; every call writes them first.
    """

    folder: Path
    annotations: dict[str, Any]
    config: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def yaml(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def json(self) -> Path:
        return self.folder / "points.json"

    def write(self) -> None:
        self.json.write_text(json.dumps(self.annotations, indent=1))
        self.yaml.write_text(yaml.safe_dump(self.config, default_flow_style=None, width=1000))

    def set(self, **sections) -> None:
        """Change keys of the configuration, section by section."""
        for section, keys in sections.items():
            self.config.setdefault(section, {}).update(keys)

    def lannunet(self, *arguments) -> int:
        """The exit code of a command in this process."""
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        return end.value.code or 0

    def train(self, *arguments) -> int:
        self.write()
        return self.lannunet("train", self.yaml, *arguments)

    def start(self, *arguments, **environment) -> subprocess.CompletedProcess[str]:
        """A command in a process (and group) of its own; it finds the test's distributions."""
        self.write()
        paths = [path for path in sys.path if Path(path).is_relative_to(self.folder.parent)]
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        return subprocess.run(
            [sys.executable, "-c", "from lannunet_core.cli import main; main()", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
            capture_output=True,
            text=True,
            start_new_session=True,
        )

    def rows(self, folder: Path | None = None) -> list[dict[str, str]]:
        """The predictions of a run."""
        with ((folder or self.out) / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]


def draw(rng, size, landmarks, channels) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (C, *S) uint8 with noise and N blobs, bright and dark ones by turns, and their centres (N, D).

    The blobs go round the channels, and keep apart from each other and from the border.
    """
    low = np.minimum(8.0, np.array(size) / 6)
    while True:
        points = rng.uniform(low, np.array(size) - 1 - low, (landmarks, len(size)))
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e3 * np.eye(landmarks)
        if apart.min() > min(size) / 4:
            break
    grid = np.stack(np.indices(size[::-1])[::-1], axis=-1)  # (*S, D) of (x, y[, z])
    pixels = rng.normal(110, 6, (channels, *size[::-1]))
    for n, point in enumerate(points):
        blob = np.exp(-((grid - point) ** 2).sum(-1) / (2 * (2 + n // 2) ** 2))
        pixels[n % channels] += (1 - 2 * (n % 2)) * 100 * blob
    return pixels.clip(0, 255).astype(np.uint8), points


def draw_project(
    folder: Path, *, sizes=((64, 64),), splits=SPLITS, landmarks=2, channels=1, input_size=None
) -> Project:
    """Draw a dataset; the `Project` trains a small U-Net on it, two epochs of three batches.

    Sizes (x, y[, z]) are taken by turns. Images are PNG, NumPy arrays where they have two channels, or
    MetaImages (with a spacing) in 3D.
    """
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    annotations: dict[str, Any] = {"name": "blobs", "description": "", "fold": 0}
    number = 0
    for split, count in splits.items():
        annotations[split] = []
        for _ in range(count):
            size = sizes[number % len(sizes)]
            pixels, points = draw(rng, size, landmarks, channels)
            name = write_image(folder / "images", f"{split}{number}", pixels)
            sample = {"id": f"{split}{number}", "image": f"images/{name}", "coordinates": points.tolist()}
            annotations[split].append(sample)
            number += 1
    config = {
        "dataset": {"src_targets": "points.json"},
        "sampler": {"input_size": list(input_size or [32] * len(sizes[0])), "num_workers": 0},
        "solver": {"max_epochs": 2, "mini_batch_size": 3, "data_loader_batch_size_train": 2},
        "trainer": {"validate_every": 1},
        "model": {"architecture": "unet", "unet": {"init_features": 4, "max_features": 8}},
        "output": {"output_dir": "out"},
    }
    return Project(folder, annotations, config)


def write_image(folder: Path, stem: str, pixels: np.ndarray) -> str:
    """Write pixels (C, *S); the file's name."""
    if pixels.ndim == 4:
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(pixels[0])
        image.SetSpacing((0.5, 0.5, 2.0))
        sitk.WriteImage(image, str(folder / f"{stem}.mha"))
        return f"{stem}.mha"
    if len(pixels) == 2:
        np.save(folder / f"{stem}.npy", pixels)
        return f"{stem}.npy"
    from PIL import Image

    Image.fromarray(np.moveaxis(pixels, 0, -1).squeeze()).save(folder / f"{stem}.png")
    return f"{stem}.png"


@pytest.fixture(scope="session")
def project_in():
    """`draw_project`, for projects that several tests share."""
    return draw_project


@pytest.fixture
def make_project(tmp_path):
    """`draw_project` in a folder of the test's."""
    return partial(draw_project, tmp_path / "project")


@pytest.fixture
def project(make_project) -> Project:
    return make_project()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Project:
    """A project that has been trained; tests look at its results and change nothing."""
    project = draw_project(tmp_path_factory.mktemp("trained") / "project")
    assert project.train() == 0
    return project


@dataclass
class Environment:
    """A virtual environment of its own, without anything of this checkout.

    Third-party packages are borrowed from the environment that runs the tests, through a folder of links:
    downloading torch for every test run would take minutes. What is ours comes from wheels alone, or a file
    that is missing from one would go unnoticed.
    """

    programs: Path

    def call(self, program, *arguments, cwd, code=0) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, and see how it ends."""
        return call(self.programs / program, *arguments, cwd=cwd, code=code)


def call(*command, cwd=None, code=0) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LANNUNET"))}
    clean |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory):
    """Builds the wheel of a source folder, from a copy without what earlier builds left."""

    def build(source: Path) -> Path:
        folder = tmp_path_factory.mktemp("wheel")
        ignored = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", ".*")
        shutil.copytree(source, folder / "source", ignore=ignored)
        options = ("--no-deps", "--no-build-isolation", "-w", folder)
        call(sys.executable, "-m", "pip", "wheel", *options, folder / "source")
        (wheel,) = folder.glob("*.whl")
        return wheel

    return build


@pytest.fixture(scope="session")
def core_and_unet(tmp_path_factory, build_wheel) -> list[Path]:
    """Their wheels."""
    core = tmp_path_factory.mktemp("core")
    shutil.copytree(REPOSITORY / "lannunet_core", core / "lannunet_core")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, core / file)
    return [build_wheel(core), build_wheel(REPOSITORY / "plugins" / "unet")]


@pytest.fixture(scope="session")
def fresh_environment(tmp_path_factory):
    """Makes an `Environment` with the given wheels."""

    def make(*wheels: Path) -> Environment:
        folder = tmp_path_factory.mktemp("fresh")
        call(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
        python = folder / "venv" / "bin" / "python"
        call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *wheels)
        borrowed = folder / "borrowed"
        borrowed.mkdir()
        for packages in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(packages).iterdir():
                if not entry.name.startswith(("lannunet", "__editable__")):
                    (borrowed / entry.name).symlink_to(entry)
        (site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
        return Environment(python.parent)

    return make


@dataclass
class SegmentationProject(Project):
    """The same with an nnU-Net folder of bright and dark blobs: background, 1 bright, 2 dark."""

    @property
    def raw(self) -> Path:
        return self.folder / "Dataset001_Blobs"

    def write(self) -> None:
        self.yaml.write_text(yaml.safe_dump(self.config, default_flow_style=None, width=1000))

    def relabel(self, change) -> None:
        """Write each training label anew, as `change` (label (*S), number of the case) answers."""
        import SimpleITK as sitk

        for number, path in enumerate(sorted((self.raw / "labelsTr").iterdir())):
            image = sitk.ReadImage(str(path))
            changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image).astype(np.int16), number))
            changed.CopyInformation(image)
            sitk.WriteImage(changed, str(path))


def draw_segmentation_project(
    folder: Path, *, size=(20, 24, 16), training=5, testing=2, ending=".nii.gz", patch=None, spacing=None
) -> SegmentationProject:
    """Draw an nnU-Net folder of version 2; the project trains a small U-Net on it, two epochs.

    Everything is (x, y[, z]).
    """
    import SimpleITK as sitk

    project = SegmentationProject(folder, {}, {})
    rng = np.random.default_rng(0)
    grid = np.stack(np.indices(size[::-1])[::-1], axis=-1)  # (*S, D) of (x, y[, z])
    for part, count in (("Tr", training), ("Ts", testing)):
        for kind in ("images", "labels"):
            (project.raw / f"{kind}{part}").mkdir(parents=True)
        for number in range(count):
            pixels, label = rng.normal(100, 8, size[::-1]), np.zeros(size[::-1], np.uint8)
            for value, lighter in ((1, 70), (2, -70)):
                centre = rng.uniform(0.3, 0.7, len(size))
                centre[0] = rng.uniform(0.2, 0.3) + (0.5 if value == 2 else 0)  # they do not meet
                centre *= np.array(size) - 1
                inside = (((grid - centre) / (np.array(size) * 0.2)) ** 2).sum(-1) < 1
                pixels[inside] += lighter
                label[inside] = value
            for kind, array, channel in (("images", pixels.clip(0, 255), "_0000"), ("labels", label, "")):
                image = sitk.GetImageFromArray(array.astype(np.uint8))
                if spacing is not None:
                    image.SetSpacing(spacing)
                path = project.raw / f"{kind}{part}" / f"{part}{number}{channel}{ending}"
                sitk.WriteImage(image, str(path))
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "bright": 1, "dark": 2},
        "numTraining": training,
        "file_ending": ending,
    }
    (project.raw / "dataset.json").write_text(json.dumps(description))
    project.config = {
        "task": "segmentation",
        "dataset": {"root": project.raw.name},
        "sampler": {"patch": {"sample_patch_size": list(patch or [16] * len(size))}, "num_workers": 0},
        "solver": {"max_epochs": 2, "mini_batch_size": 3},
        "trainer": {"validate_every": 1, "fold": "all"},
        "model": {"architecture": "unet", "unet": {"init_features": 4, "max_features": 8}},
        "output": {"output_dir": "out"},
    }
    return project


@pytest.fixture
def segmentation_project(tmp_path):
    return lambda name="project", **given: draw_segmentation_project(tmp_path / name, **given)


@pytest.fixture
def segmentation(segmentation_project):
    return segmentation_project()
