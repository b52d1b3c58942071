"""`.ci/words.py` refuses the phrases of the word list in prose, but not in code."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def words():
    spec = importlib.util.spec_from_file_location("words", ROOT / ".ci" / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_repository_uses_the_fields_words(words):
    assert words.problems() == []


def test_a_phrase_is_found_across_lines_in_prose_only(words, tmp_path):
    table = tmp_path / words.TABLE
    table.parent.mkdir(parents=True)
    table.write_text("| not | write |\n|---|---|\n| `made anew`, `loose image…` | recomputed |\n")
    (tmp_path / "README.md").write_text("It is made\nanew. A `loose image` is code.\n")
    (tmp_path / "lannunet_core").mkdir()
    (tmp_path / "lannunet_core" / "a.py").write_text(
        '# Loose\n# images\nmade = anew = 1\nx = made\nmessage = (\n    f"{x} is made "\n    "anew"\n)\n'
    )
    assert words.problems(tmp_path) == [
        "README.md:1: 'made anew': write recomputed",
        "lannunet_core/a.py:1: 'Loose # images': write recomputed",
        "lannunet_core/a.py:6: 'made anew': write recomputed",
    ]
