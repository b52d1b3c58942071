"""`lannunet config check` refuses what `lannunet train` would before its first image."""

import subprocess
import sys
from pathlib import Path

import pytest

from lannunet_core import make_scheme
from lannunet_core.config.compose import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def volumes(make_project):
    return make_project(sizes=((24, 24, 16),), input_size=[16, 16, 16])


def check(project, *arguments):
    project.write()
    return project.lannunet("config", "check", project.yaml, *arguments)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_our_own_configurations(path, project, segmentation, capsys):
    """Runs on the annotations of another data set."""
    project.write()
    data = f"dataset.src_targets={project.json}"
    if "task: segmentation" in path.read_text():
        data = f"dataset.root={segmentation.raw}"
    assert project.lannunet("config", "check", path, "--set", data) == 0
    assert f"{path}: OK (" in capsys.readouterr().out


def test_a_segmentation(segmentation, capsys):
    assert check(segmentation) == 0
    assert capsys.readouterr().out == f"{segmentation.yaml}: OK ('unet' (lannunet-unet 0.1.0))\n"


WITHOUT_TORCH = """
import sys
from lannunet_core.cli import main
try:
    main()
finally:
    assert not {"torch", "lightning_fabric", "matplotlib"} & set(sys.modules)
"""


@pytest.mark.parametrize("task", ["landmarks", "segmentation"])
def test_it_takes_no_torch(task, project, segmentation):
    run = {"landmarks": project, "segmentation": segmentation}[task]
    run.write()
    command = [sys.executable, "-c", WITHOUT_TORCH, "config", "check", str(run.yaml)]
    assert subprocess.run(command, check=False, capture_output=True, text=True).stderr == ""


def test_a_plan(segmentation, tmp_path):
    planned = tmp_path / "planned.yaml"
    assert segmentation.lannunet("plan", segmentation.raw, "-o", planned) == 0
    assert segmentation.lannunet("config", "check", planned) == 0


REFUSED = {
    "flip pairs": ({"dataset": {"flip_pairs": [[0, 2]]}}, "dataset.flip_pairs: 2 is none of the 2 landmarks"),
    "landmarks": ({"dataset": {"landmarks": [2]}}, "dataset.landmarks: 2 is none of the 2 landmarks"),
    "size": ({"sampler": {"input_size": [32, 32, 32]}}, "sampler.input_size: [32, 32, 32] has 3 numbers"),
    "scheme": ({"sampler": {"data_aug": "AffineSimpel"}}, "Did you mean 'AffineSimple'?"),
    "package": ({"sampler": {"data_aug_package": "torhc"}}, "No plugin 'torhc' is installed."),
    "loss": ({"solver": {"loss_function": "kll"}}, "Did you mean 'kl'?"),
    "decoder": ({"inference": {"decoder": "peek"}}, "Did you mean 'peak'?"),
    "normalisation": ({"sampler": {"normalisation": ["zscor"]}}, "Did you mean 'zscore'?"),
    "format": ({"dataset": {"format": "dicomdir"}}, "dataset.format: 'dicomdir' is not known"),
    "split": ({"inference": {"split": "testing"}}, '"testing" is empty'),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_train_would_refuse(project, mistake, capsys):
    sections, message = REFUSED[mistake]
    if mistake == "split":
        project.annotations["testing"] = []
    project.set(**sections)
    for command in ("check", "train"):
        assert (check(project) if command == "check" else project.train()) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said
    assert not project.out.exists()


NAMED = """
from lannunet_core import Plugin, hookimpl


class Named(Plugin):
    @hookimpl
    def losses(self):
        return {f"mine for {len(self.run.outputs)}": lambda: None}

    @hookimpl
    def normalisations(self):
        return {"window": lambda: None}
"""


@pytest.mark.parametrize("task", ["landmarks", "segmentation"])
def test_names_that_a_plugin_provides(task, project, segmentation, distribution, capsys):
    distribution("named", {"named": "named:Named"}, {"named.py": NAMED})
    run = {"landmarks": project, "segmentation": segmentation}[task]
    section, count = {"landmarks": ("sampler", 2), "segmentation": ("preprocess", 3)}[task]
    names = {"solver": {"loss_function": f"Mine-for-{count}"}, section: {"normalisation": ["Window"]}}
    run.set(trainer={"plugins": ["named"]}, **names)
    assert check(run) == 0
    for part, key, wrong, right in (
        ("solver", "loss_function", "mine for 4", f"mine for {count}"),
        (section, "normalisation", ["windo"], "window"),
    ):
        run.set(**{**names, part: {key: wrong}})
        assert check(run) == 2
        said = capsys.readouterr().err
        assert f"run.yaml:{line_of(run, key)}: {part}.{key}: " in said
        assert f"Did you mean '{right}'?" in said


def line_of(run, key):
    return next(n for n, line in enumerate(run.yaml.read_text().splitlines(), 1) if f"{key}:" in line)


def test_a_flat_size_for_volumes(volumes, capsys):
    volumes.set(sampler={"input_size": [16, 16]})
    assert check(volumes) == 2
    assert "sampler.input_size: [16, 16] has 2 numbers, but the coordinates in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampler": {"patch": {"sample_patch_size": [16, 16]}}}, "has 2 numbers, but the images in"),
        ({"sampler": {"patch": {"sample_patch_size": [16] * 3}, "data_aug": "nnunett"}}, "mean 'nnunet'?"),
        ({"solver": {"loss_function": "ce"}}, "solver.loss_function: found 'ce', should be ce_dice"),
        ({"trainer": {"fold": 7}}, "trainer.fold"),
        ({"dataset": {"root": "nowhere"}}, "nowhere"),
    ],
)
def test_what_train_would_refuse_of_a_segmentation(segmentation, sections, message, capsys):
    segmentation.set(**sections)
    for command in ("check", "train"):
        assert (check(segmentation) if command == "check" else segmentation.train()) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("task", ["landmarks", "Landmarks", "land-marks"]),
        ("sampler.data_aug", ["AffineComplex", "affine-complex", "affine complex", "AFFINE_COMPLEX"]),
        ("sampler.data_aug_package", ["torch", "Torch"]),
        ("sampler.normalisation", ["zscore", "Z-Score"]),
        ("solver.loss_function", ["bce_topk", "BCE-TopK", "bce topk"]),
        ("inference.decoder", ["soft_argmax", "SoftArgmax", "soft argmax"]),
        ("model.architecture", ["unet", "U-Net", "u net"]),
        ("trainer.plugins", ["[observer]", "[OB-server]"]),
        ("dataset.format", ["auto", "Auto"]),
    ],
)
def test_names_in_any_spelling(project, key, spellings):
    for spelling in spellings:
        assert check(project, "--set", f"{key}={spelling}") == 0, spelling


def test_a_name_in_any_spelling_trains_alike(project):
    """The spelling in the YAML does not appear in the results."""
    weird = {"data_aug": "affine simple"}, {"loss_function": "BCE-TopK"}, {"decoder": "Soft Argmax"}
    project.set(sampler=weird[0], solver=weird[1], inference=weird[2])
    assert project.train() == 0
    found = project.rows()
    project.set(
        sampler={"data_aug": "AffineSimple"},
        solver={"loss_function": "bce_topk"},
        inference={"decoder": "soft_argmax"},
    )
    assert project.train("--overwrite") == 0
    assert project.rows() == found


def test_schemes_have_one_rule_in_yaml_and_python(project):
    for spelling in ("affine-complex", "AffineComplex", "affine complex"):
        assert make_scheme(spelling) == make_scheme("AffineComplex")
        project.set(sampler={"data_aug": spelling})
        project.write()
        assert load_config(project.yaml).run.sampler.data_aug == spelling


def test_a_missing_augmentation_package_says_how_to_get_it_and_what_does_the_same(
    project, monkeypatch, capsys
):
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", "imgaug")
    assert check(project, "--set", "sampler.data_aug_package=imgaug") == 2
    said = capsys.readouterr().err
    assert "sampler.data_aug_package: Plugin 'imgaug'" in said
    assert "data_aug_package: torch applies the same schemes without it." in said


@pytest.mark.parametrize(("name", "plugins"), [("unet", ["U-Net"]), ("observer", ["observer", "Observer"])])
def test_a_plugin_that_is_named_twice(name, plugins, project, capsys):
    project.set(trainer={"plugins": plugins})
    assert check(project) == 2
    assert capsys.readouterr().err == (
        f"Error: Plugin '{name}' is named more than once; name it once in model or trainer.plugins.\n"
    )
