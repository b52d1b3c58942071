"""All distributions are built, and installed as in the README, into environments without our packages.

Third-party packages are those of the environment that runs the tests; no package index is used.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fixtures.projects import REPOSITORY, borrow

pytestmark = pytest.mark.slow

README = (REPOSITORY / "README.md").read_text()
PLUGINS = sorted(path.parent for path in REPOSITORY.glob("plugins/*/pyproject.toml"))
SHORTER = {"lannunet demo": "--minutes 0.1", "lannunet plan": "--minutes 0.1"}  # than the README's, to train


@pytest.fixture(scope="module")
def wheels(tmp_path_factory, build_wheel, core_source):
    """A folder with the wheel of each distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in (core_source, *PLUGINS):
        shutil.move(build_wheel(source), folder)
    return folder


def shell(line, cwd, path, **variables):
    """Run a shell command, with these programs first on PATH."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LANNUNET"))}
    clean |= {
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
    }
    clean |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    ended = subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=clean | variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def make_venv(folder, name):
    """The installation of the README, except for third-party packages (setuptools is newer than Python's)."""
    shell(f"python -m venv {name}", folder, Path(sys.executable).parent)
    shell("pip uninstall -y setuptools", folder, folder / name / "bin")
    borrow(folder / "borrowed", folder / name)


def test_the_index_will_show_them(wheels, tmp_path):
    assert len(list(wheels.iterdir())) == len(PLUGINS) + 1
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, wheels.iterdir())]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["core", "landmarks", "lannunet"])
def test_a_source_distribution_builds_by_itself(core_source, wheels, tmp_path, name):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    shutil.copytree(core_source if name == "core" else REPOSITORY / "plugins" / name, source, ignore=ignored)
    python = Path(sys.executable).parent
    shell(f"{sys.executable} -m build --no-isolation --sdist --outdir {tmp_path} {source}", tmp_path, python)
    (packed,) = tmp_path.glob("*.tar.gz")
    shell(f"{sys.executable} -m pip wheel --no-deps --wheel-dir out {packed}", tmp_path, python)
    (wheel,) = (tmp_path / "out").iterdir()
    assert wheel.stat().st_size == pytest.approx((wheels / wheel.name).stat().st_size, rel=0.01)


def commands(heading):
    """The commands below a heading, without comments."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)[1]
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        if not language:
            yield from (line.partition("  #")[0].strip() for line in block.splitlines())


# torch and NumPy are left out, as in test_mypy.
SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,numpy.*,scipy.*,lightning_fabric.*,SimpleITK.*]
follow_imports = skip
ignore_missing_imports = true
"""
SCRIPT = """
import lannunet

model = lannunet.load("run", lannunet.Landmarks)
reveal_type(model.predict("a.png"))
"""


def test_the_readmes_commands_in_order(wheels, tmp_path):
    """Installation, demo, your own data, prediction, removal."""
    installing, own = [*commands("Install")], [*commands("Your own images")]
    assert installing[:4] == [
        "python -m venv .venv",
        "source .venv/bin/activate",
        "pip install lannunet",
        "lannunet demo",
    ]
    here = Path(sys.executable).parent

    def run(line):
        more = next((more for start, more in SHORTER.items() if line.startswith(start)), "")
        line = f"source .venv/bin/activate && {line} {more}"
        return shell(line, tmp_path, here, PIP_FIND_LINKS=str(wheels))

    make_venv(tmp_path, ".venv")
    for line in installing[2:4]:
        run(line)
    where = run("python -c 'import lannunet_core; print(lannunet_core.__file__)'").strip()
    assert Path(where).is_relative_to(tmp_path / ".venv")
    assert (tmp_path / "runs" / "demo" / "report.html").exists()
    assert run("python -m lannunet_core --version") == run("lannunet --version")
    assert json.loads(run("lannunet plugins list --check --json"))["problems"] == []

    data = tmp_path / "runs" / "demo" / "data"
    shutil.move(data / "dataset.json", tmp_path / "annotations.json")
    shutil.move(data / "images", tmp_path / "images")
    (tmp_path / "new_images").mkdir()
    for image in sorted((tmp_path / "images").iterdir())[-3:]:
        shutil.copy(image, tmp_path / "new_images")
    (tmp_path / "first.yaml").write_text(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    run("lannunet config check first.yaml")
    assert [line.split()[:2] for line in own[:3]] == [
        ["lannunet", word] for word in ("plan", "train", "predict")
    ]
    for line in own[:3]:
        run(line)
    assert len((tmp_path / "predictions" / "predictions.csv").read_text().splitlines()) == 1 + 3 * 8
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    assert "Landmarks" in run("python -m mypy script.py")

    run(" ".join(re.search(r"`(pip uninstall -y [^`]*)`", README)[1].split()))
    (site_packages,) = (tmp_path / ".venv" / "lib").glob("python*/site-packages")
    assert [
        path for folder in (site_packages, here_of(tmp_path)) for path in folder.glob("[lL]annunet*")
    ] == []


def here_of(folder):
    return folder / ".venv" / "bin"


@dataclass
class Stage:
    """A stage of a Dockerfile as far as it runs without Docker: a folder, and a virtual environment."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    workdir: Path | None = None

    def inside(self, path):
        place = Path(path)
        return self.root / place.relative_to("/") if place.is_absolute() else self.workdir / place

    @property
    def programs(self):
        return self.root / "venv" / "bin"


def test_the_steps_of_the_dockerfile(tmp_path):
    """All commands except for useradd, which would change this machine."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    stages, stage, left_out = {}, Stage(tmp_path), []
    for line in (line for line in text.splitlines() if line.strip() and not line.startswith("#")):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(tmp_path / name)
            stage.root.mkdir()
            make_venv(stage.root, "venv")
        elif word in ("ARG", "ENV"):
            key, _, value = rest.partition("=")
            stage.variables[key] = value
        elif word == "WORKDIR":
            stage.workdir = stage.inside(rest)
            stage.workdir.mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "COPY" and rest.startswith("--from="):
            source, path, target = rest.removeprefix("--from=").split()
            shutil.copytree(stages[source].inside(path), stage.inside(target))
        elif word == "COPY":
            assert rest == ". ."
            ignored = shutil.ignore_patterns(
                *(REPOSITORY / ".dockerignore").read_text().replace("**/", "").split()
            )
            shutil.copytree(REPOSITORY, stage.workdir, ignore=ignored, dirs_exist_ok=True)
        elif word == "RUN" and rest.startswith("useradd"):
            left_out.append(rest)
        elif word == "RUN":
            shell(rest, stage.workdir, stage.programs, **stage.variables)
        else:
            assert word in ("ENTRYPOINT", "CMD"), line
    assert [line.split()[-1] for line in left_out] == [stage.user] != ["root"]
    (entry,) = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    assert "sparse" in shell(f"{stage.programs / entry} plugins list", stage.workdir, stage.programs)
    assert "observer" in shell(f"{stage.programs / entry} plugins list", stage.workdir, stage.programs)
