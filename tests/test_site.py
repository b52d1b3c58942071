"""The site: each page is in the navigation, no link is dead, and each code block is run or says why not."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import click
import pytest
import typer
import yaml
from lannunet_landmarks import RunConfig

from lannunet_core import cli, is_installed
from lannunet_core.config.compose import load_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^(?:<!-- not run: ([^>]+?) -->\n+)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
RUN = {
    "README.md": "tests/test_install.py",
    "docs/bundles.md": "plugins/bundles/tests/test_docs.py",
    "docs/cvat.md": "plugins/formats/tests/test_pages.py",
    "docs/deeplabcut.md": "plugins/formats/tests/test_pages.py",
    "docs/export.md": "plugins/bundles/tests/test_export.py",
    "docs/from_lannunet.md": "tests/test_followed.py",
    "docs/from_nnunet.md": "tests/test_followed.py",
    "docs/hooks.md": "tests/test_docs.py",
    "docs/nnlandmark.md": "plugins/formats/tests/test_pages.py",
    "docs/plugins.md": "tests/plugins/test_manager.py",
    "docs/python.md": "plugins/lannunet/tests/test_python.py",
    "docs/slicer.md": "plugins/formats/tests/test_pages.py",
    "docs/tutorial.md": "tests/test_tutorial.py",
    "docs/tutorial_images.md": "plugins/formats/tests/test_pages.py",
    "docs/tutorial_partial.md": "tests/test_followed.py",
    "docs/tutorial_task.md": "tests/test_site.py",
    "docs/tutorial_volumes.md": "plugins/formats/tests/test_pages.py",
}
"""Pages whose code a test takes from the page and runs; blocks that it leaves out are marked."""


@pytest.fixture(scope="module")
def elsewhere():
    """The pages of the site that are not in docs/, by their path in the repository."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / ".ci" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]


def named(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in named(one)]


def test_every_page_is_in_the_navigation(elsewhere):
    listed = named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | {*elsewhere.values()}
    missing = sorted(there - {*listed})
    assert missing == [], "add these to `nav` in mkdocs.yml"
    unknown = [page for page in listed if page not in there and not page.startswith("reference/")]
    assert unknown == []
    assert len(listed) == len({*listed})


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_test_that_a_page_names_is_there():
    texts = [reason for page in pages() for reason, _, _ in BLOCK.findall(page.read_text())]
    texts.append((DOCS / "reliability.md").read_text())
    named = {path for text in texts for path in re.findall(r"\b(?:tests|plugins|docs)/[\w./-]*\w", text)}
    assert len(named) > 20
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(page, tmp_path):
    name = str(page.relative_to(ROOT))
    if name in RUN:
        assert page.name in (ROOT / RUN[name]).read_text() or page.stem in (ROOT / RUN[name]).read_text()
    for reason, language, code in BLOCK.findall(page.read_text()):
        if language in ("", "bash"):
            check_commands(code)
            assert name in RUN or reason, f"no test runs:\n{code}"
        elif reason or language in ("text", "json", "toml"):
            continue
        elif language == "yaml" and name not in RUN:
            check_yaml(code, tmp_path)
        elif language == "python" and name not in RUN:
            exec(compile(ast.parse(code), name, "exec"), {})


def check_commands(code: str) -> None:
    """Each `lannunet …` names a command, and options that it has."""
    for line in re.sub(r"\\\n", " ", code).splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["lannunet"] and "…" not in part:
                check_words(words[1:])


@cache
def root_command():
    return typer.main.get_command(cli.app)


def check_words(words: list[str]) -> None:
    command = root_command()
    context = click.Context(command, info_name="lannunet")
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):
        _, command, words = command.resolve_command(context, words)
        assert command is not None
        context = click.Context(command, parent=context, info_name=words[0] if words else "")
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        if re.match(r"-{1,2}[a-z]", word):
            assert word.partition("=")[0] in known, f"{words}: no option {word}"


SECTIONS = {"task", "preprocess", "refine", *RunConfig.model_fields}
LEAST = {
    "landmarks": {"dataset": {"src_targets": "annotations.json"}, "output": {"output_dir": "out"}},
    "segmentation": {
        "dataset": {"root": "Dataset001"},
        "sampler": {"patch": {"sample_patch_size": [32, 32, 32]}},
        "output": {"output_dir": "out"},
    },
}


def check_yaml(code: str, folder: Path) -> None:
    """A part of a configuration is valid together with the keys that have no default."""
    given = yaml.safe_load(code) or {}
    if not {*given} <= {
        "task",
        "refine",
        "preprocess",
        *LEAST["landmarks"],
        "sampler",
        "solver",
        "trainer",
    } | {*("model", "inference")}:
        return  # a card, a workflow
    named = [(given.get("model") or {}).get("architecture"), *(given.get("trainer") or {}).get("plugins", [])]
    if not all(is_installed(name) for name in named if name):
        pytest.skip(f"one of {named} is not installed")
    for section, keys in LEAST[given.get("task", "landmarks")].items():
        given[section] = {**keys, **(given.get(section) or {})}
    (folder / "part.yaml").write_text(json.dumps(given))
    load_config(folder / "part.yaml")


def test_the_tutorial_of_a_task_shows_the_code_that_is_tested():
    code = "".join(path.read_text() for path in (ROOT / "tests" / "classification").glob("*.py"))
    text = (DOCS / "tutorial_task.md").read_text()
    blocks = [block for _, language, block in BLOCK.findall(text) if language == "python"]
    assert len(blocks) == 4
    for block in blocks:
        assert block.strip("\n") in code


def test_every_benchmark_has_its_command():
    text = (DOCS / "benchmarks.md").read_text()
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert path.stem.startswith("__") or path.stem in text, path.stem


def test_the_readme_fits_two_screens_and_shows_a_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    assert re.search(r"!\[[^\]]+\]\(docs/pictures/", text)


@pytest.mark.slow
def test_the_notebook_ends_in_predictions(tmp_path):
    cells = json.loads((DOCS / "demo.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    code = code.replace("minutes = 1", "minutes = 0.2")
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("{'px'") or "'mm'" in ended.stdout.splitlines()[-1]
