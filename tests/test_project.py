"""Files around the code: metadata of the distributions, workflows, recipes, pages of the repository."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib")  # new in Python 3.11

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
PIP_ALONE = {"lannunet-imgaug", "lannunet-monai", "lannunet-resenc"}  # they require third-party libraries
EXTRAS = {"lannunet-observer", "lannunet-serve", *PIP_ALONE}  # of the distribution that a user installs
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # their names there
LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)")


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def required(folder):
    return {found.name: found for found in map(Requirement, project(folder)["dependencies"])}


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_what_an_index_shows_of_a_distribution(folder):
    about = project(folder)
    for key in ("description", "keywords", "classifiers", "urls", "requires-python", "license"):
        assert about[key], key
    assert about["authors"] == [{"name": "LannU-Net developers"}]
    assert {"Homepage", "Documentation", "Changelog"} <= set(about["urls"])
    page = (folder / about["readme"]).read_text()
    assert [link for link in LINK.findall(page) if not link.startswith("https://")] == []


def test_all_distributions_are_of_one_version(release):
    assert release.problems() == []
    assert len(release.rewritten("1.0.0", "https://lannunet.example")) == 2 * len(DISTRIBUTIONS) + 2


def test_one_command_sets_the_version_everywhere(release, tmp_path):
    for path in release.rewritten("0.1.0", "https://lannunet.example"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    before = (tmp_path / "pyproject.toml").read_text()
    assert release.main(["version", "1.2.0"], tmp_path) == 0
    assert release.main(["address", "https://somewhere.example.org/"], tmp_path) == 0
    assert release.main(["check", "--public", "--tag", "v1.2.0"], tmp_path) == 0
    assert "site_url: https://somewhere.example.org/docs/" in (tmp_path / "mkdocs.yml").read_text()
    assert not any("lannunet.example" in path.read_text() for path in tmp_path.rglob("*.*") if path.is_file())
    assert release.problems(tag="v1.2.1", root=tmp_path) == ["the tag is v1.2.1 and the version 1.2.0"]
    for path in tmp_path.rglob("*.toml"):
        assert project(path.parent)["version"] == "1.2.0"
        ours = [one for one in required(path.parent).values() if one.name.startswith("lannunet")]
        assert {str(one.specifier) for one in ours} <= {"<2,>=1.2"}
        assert "0.1,<0.2" not in path.read_text()
    (tmp_path / "CITATION.cff").write_text('version: "1.1.0"\n')
    assert [problem.partition(":")[0] for problem in release.problems(root=tmp_path)] == ["CITATION.cff"]
    (tmp_path / "pyproject.toml").write_text(before)
    assert "is a placeholder" in release.problems(public=True, root=tmp_path)[-1]


def test_what_a_user_installs_brings_every_plugin_but_its_extras():
    ours = {project(folder)["name"] for folder in DISTRIBUTIONS}
    user = required(ROOT / "plugins" / "lannunet")
    assert {name for name in user if name.startswith("lannunet")} == ours - EXTRAS - {"lannunet"}
    every = {Requirement(text).name for text in project(ROOT)["optional-dependencies"]["all"]}
    assert every == ours - {"lannunet", "lannunet-core"}


def test_the_core_knows_who_brings_each_command():
    groups = {project(folder)["name"]: project(folder).get("entry-points", {}) for folder in DISTRIBUTIONS}
    known = groups["lannunet-core"]["lannunet_commands_elsewhere"]
    brought = {name: ours for ours, of in groups.items() for name in of.get("lannunet.commands", {})}
    assert {name: package.replace("_", "-") for name, package in known.items()} == brought


def test_the_conda_recipe_requires_what_the_distributions_do():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    parts = [folder for folder in DISTRIBUTIONS if project(folder)["name"] not in PIP_ALONE]
    wanted = {}
    for folder in parts:
        for name, found in required(folder).items():
            if not name.startswith("lannunet"):
                wanted.setdefault(CONDA.get(name.lower(), name.lower()), set()).add(str(found.specifier))
    highest = {
        name: max(ranges, key=lambda one: [*map(int, re.findall(r"\d+", one))])
        for name, ranges in wanted.items()
    }
    stated = dict(line.split(" ") for line in recipe["requirements"]["run"])
    assert stated.pop("python") == project(ROOT)["requires-python"]
    assert stated == highest
    (script,) = recipe["build"]["script"]
    built = [ROOT / word for word in shlex.split(script) if (ROOT / word).is_dir()]
    assert sorted(built) == sorted(parts)
    scripts = {
        f"{name} = {value}" for folder in parts for name, value in project(folder).get("scripts", {}).items()
    }
    assert set(recipe["build"]["python"]["entry_points"]) == scripts


def test_a_clone_installs_every_distribution():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("-e ")]
    assert sorted((ROOT / line[3:].partition("[")[0]).resolve() for line in lines) == sorted(DISTRIBUTIONS)


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        assert (
            re.fullmatch(r"[\w.-]+(/[\w.-]+)+@(v\d+|release/v\d+)", step["uses"])
            if "uses" in step
            else step["run"]
        )
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            if words[0] == "make":
                assert set(words[1:]) <= targets, line
            for word in words:
                if re.fullmatch(r"[\w./-]+\.py|\.ci/\w+", word):
                    assert (ROOT / word).is_file(), line
    for job in workflow["jobs"].values():
        if str(job.get("uses", "")).startswith("./"):
            assert (ROOT / job["uses"]).is_file()
        assert set([job["needs"]] if "needs" in job else []) <= set(workflow["jobs"])


def test_the_matrix_is_what_the_metadata_promises():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project(ROOT)["classifiers"]))
    assert matrix["python"] == promised
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_only_the_release_may_publish():
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets" not in str(release)
    assert any("--public" in step.get("run", "") for step in release["jobs"]["check"]["steps"])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_links_between_pages_lead_somewhere(name):
    for link in LINK.findall((ROOT / name).read_text()):
        page, _, anchor = link.partition("#")
        if page.startswith("https://"):
            continue
        target = ROOT / page if page else ROOT / name
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


def test_forms_and_citation_are_readable():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(form.read_text())
        if form.name != "config.yml":
            assert {"name", "description", "body"} <= set(content)
            for part in content["body"]:
                assert part["type"] in ("textarea", "checkboxes", "markdown", "input", "dropdown")
                assert part["attributes"]["label"]
