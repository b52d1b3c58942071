"""A model as ONNX or TorchScript: the page's programs run it without our packages, and find the same."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lannunet
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lannunet_images import Graph

from lannunet_core import UserError, api
from lannunet_core.plugins import discovery
from tests.fixtures.projects import draw, draw_project, draw_segmentation_project, write_image
from tests.test_tutorial import package  # noqa: F401  (the SCN of the tutorial, installed)

PAGE = Path(__file__).parents[3] / "docs" / "export.md"
PROGRAMS = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
ALONE = """
import runpy, sys, warnings

class Refuse:
    def find_spec(self, name, *_):
        if name.startswith("lannunet") or name == "plugins":
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PIXELS = 1e-3
SIZES = {2: [(64, 64), (90, 70), (60, 80), (100, 110)], 3: [(32, 28, 24), (40, 30, 28), (30, 36, 32)]}
NUDGE = 3e-6  # of a pixel; a point that it moves is not defined to PIXELS, as in a map without a peak


def run_alone(folder, program, *arguments) -> str:
    """The output of a program of the page in a process without our packages."""
    (folder / program).write_text(PROGRAMS[program])
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, program, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def images(folder, dimensions, channels, count) -> list[Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    sizes = SIZES[dimensions]
    return [
        folder / write_image(folder, f"image{n}", draw(rng, sizes[n % len(sizes)], 2, channels)[0])
        for n in range(count)
    ]


def located(said) -> np.ndarray:
    """(images · landmarks, D + 1), points and confidences."""
    return np.array([line.split()[2:] for line in said.splitlines()], float)


def compare(said, model, paths) -> None:
    found, loaded = located(said), lannunet.load(model)
    wanted, again = (
        np.concatenate([np.column_stack([one.points, one.confidence]) for one in loaded.predict(given)])
        for given in (list(map(str, paths)), [nudged(path) for path in paths])
    )
    assert len(found) == len(paths) * 2
    settled = np.abs(wanted - again).max(1) < PIXELS / 10
    assert settled.mean() > 0.8
    np.testing.assert_allclose(found[settled, :-1], wanted[settled, :-1], atol=PIXELS)
    np.testing.assert_allclose(found[settled, -1], wanted[settled, -1], atol=1e-2)


def nudged(path) -> sitk.Image:
    picture = sitk.ReadImage(str(path))
    pixels = sitk.GetArrayFromImage(picture).astype(np.float32)
    noise = np.random.default_rng(0).uniform(-NUDGE, NUDGE, pixels.shape).astype(np.float32)
    moved = sitk.GetImageFromArray(pixels * (1 + noise), isVector=picture.GetNumberOfComponentsPerPixel() > 1)
    moved.CopyInformation(picture)
    return moved


def test_the_programs_are_short():
    assert set(PROGRAMS) == {"locate.py", "locate_torch.py", "segment.py"}
    assert all(len(code.strip().splitlines()) <= 30 for code in PROGRAMS.values())


@pytest.mark.slow
def test_torchscript_finds_the_same_landmarks(trained, tmp_path, capsys):
    file = tmp_path / "blobs.pt"
    given = ("bundle", "export", trained.out, "--format", "torchscript", "-o", file)
    assert trained.lannunet(*given) == 0
    said = capsys.readouterr().out
    assert f"{file}: torchscript; inputs: image [1, 'any', 'any']; outputs: points, confidence" in said
    paths = images(tmp_path / "images", 2, 1, 4)
    compare(run_alone(tmp_path, "locate_torch.py", file, *paths), trained.out, paths)
    assert trained.lannunet(*given) == 2
    assert f"{file}" in capsys.readouterr().err


def test_what_has_no_format_is_refused(trained, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert trained.lannunet("bundle", "export", trained.out, "-o", out, "--size", "64x64") == 2
    assert "--size: 64x64 is not a size; give pixels, such as 512,384." in capsys.readouterr().err
    assert trained.lannunet("bundle", "export", trained.out, "-o", tmp_path / "model.pt") == 2
    assert "should end in .onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert trained.lannunet("bundle", "export", trained.out, "-o", tmp_path / "model.onnx") == 2
    assert "pip install 'lannunet-bundles[onnx]'" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def strangers(monkeypatch):
    """Make a task whose models are the network of a method author."""

    def make(network: torch.nn.Module | None, wanted=lambda *given: {}) -> None:
        graph = network and Graph(
            module=network.eval(),
            inputs=("image",),
            outputs=("score",),
            examples=[(np.full((1, 6, 5), value, np.float32),) for value in (1.0, -1.0)],
            free={},
            about={"left_out": []},
            wanted=wanted,
            tolerance={"score": 1e-3},
        )
        model = SimpleNamespace(graph=lambda size: graph) if graph else SimpleNamespace()
        task = SimpleNamespace(name="boxes", load=lambda path, plugins: model)
        monkeypatch.setattr(api, "task_of_model", lambda path: task)

    return make


class Deciding(torch.nn.Module):
    def forward(self, image):
        return image * 2 if image.mean() > 0 else image * 3  # what is refused


class Rare(torch.nn.Module):
    def forward(self, image):
        return torch.linalg.eigvals(image[:, :5, :5]).real


@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_a_network_that_decides_by_values_is_refused_with_its_line(strangers, tmp_path, to):
    from lannunet_bundles.export import export

    strangers(Deciding())
    lines = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.endswith("# what is refused"))
    with pytest.raises(UserError, match=rf"depends on the values of a tensor \(test_export.py:{line}\)"):
        export(Path("model"), tmp_path / "out", to)
    assert not list(tmp_path.iterdir())


def test_what_is_not_the_model_is_not_written(strangers, tmp_path):
    from lannunet_bundles.export import export

    strangers(torch.nn.Identity(), wanted=lambda image: {"score": image + 0.01})
    with pytest.raises(UserError, match=r"score differs by 0.01 for an image of 5×6, more than 0.001"):
        export(Path("model"), tmp_path / "out.pt", "torchscript")
    strangers(None)
    with pytest.raises(UserError, match="task boxes does not support the export of models"):
        export(Path("model"), tmp_path / "out.pt", "torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_named(strangers, tmp_path):
    from lannunet_bundles.export import export

    strangers(Rare())
    with pytest.raises(UserError, match=r"its operation 'linalg_eig.*' does not exist in ONNX"):
        export(Path("model"), tmp_path / "out.onnx", "onnx")
    export(Path("model"), tmp_path / "out.pt", "torchscript")


@pytest.mark.slow
def test_onnx_segments_alike(tmp_path):
    project = draw_segmentation_project(tmp_path / "project", size=(30, 24, 18))
    project.set(solver={"max_epochs": 4, "mini_batch_size": 10}, inference={"tta": True})
    assert project.train() == 0
    file = tmp_path / "blobs.onnx"
    assert project.lannunet("bundle", "export", project.out, "-o", file) == 0
    model = lannunet.load(project.out)
    for number, path in enumerate(sorted((project.raw / "imagesTr").iterdir())):
        run_alone(tmp_path, "segment.py", file, path, tmp_path / f"{number}.mha")
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{number}.mha")))
        wanted = model.predict(str(path)).labels
        assert len(np.unique(wanted)) > 1
        assert (labels != wanted).mean() < 1e-3  # sums in half precision


MODELS = {
    "unet": {"channels": 3, "sizes": SIZES[2], "input_size": [64, 64]},
    "unet in 3D": {"sizes": SIZES[3], "input_size": [32, 32, 32]},
    "phdnet": {"sizes": SIZES[2], "input_size": [64, 64]},
    "scn": {"sizes": SIZES[2], "input_size": [64, 64]},
}
SPLITS = {"training": 8, "validation": 2, "testing": 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_onnx_finds_the_same_landmarks(name, tmp_path, request):
    given = MODELS[name]
    project = draw_project(tmp_path / "project", splits=SPLITS, **given)
    architecture = name.partition(" ")[0]
    settings = {
        "unet": {"unet": {"init_features": 4, "max_features": 8}},
        "phdnet": {"phdnet": {"maxpool_factor": 2}},
        "scn": {"scn": {"features": 8, "kernel": 5}},
    }[architecture]
    project.config["model"] = {"architecture": architecture, **settings}
    project.set(solver={"max_epochs": 5, "mini_batch_size": 50, "data_loader_batch_size_train": 4})
    environment = {}
    if architecture == "phdnet":
        project.set(sampler={"patch": {"sample_patch_size": [32, 32]}})
    if architecture == "scn":
        _, target = request.getfixturevalue("package")
        environment["PYTHONPATH"] = str(target)
        request.getfixturevalue("monkeypatch").syspath_prepend(target)
        discovery.scan.cache_clear()
        request.addfinalizer(discovery.scan.cache_clear)
    ended = project.start("train", project.yaml, **environment)
    assert ended.returncode == 0, ended.stderr
    file = tmp_path / "blobs.onnx"
    ended = project.start("bundle", "export", project.out, "-o", file, **environment)
    assert ended.returncode == 0, ended.stderr
    assert "onnx, opset 18; inputs: image" in ended.stdout
    dimensions = len(given["sizes"][0])
    paths = images(tmp_path / "images", dimensions, given.get("channels", 1), 20)
    said = run_alone(tmp_path, "locate.py", file, *paths)
    compare(said, project.out, paths)
