"""Refuse home-made words in documentation, docstrings, comments and messages.

    python .ci/words.py

The words, and what to write instead, are the table of docs/contributing/words.md.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TABLE = "docs/contributing/words.md"
TEST = "tests/test_words.py"  # which contains the phrases that it tests
PAGES = ("*.md", "docs/**/*.md", "plugins/*/*.md", "lannunet_core/**/*.md", "configs/**/*.md")
CODE = (
    *("lannunet_core/**/*.py", "lannunet_core/**/*.pyi", "plugins/*/lannunet*/**/*.py"),
    *("plugins/*/lannunet*/**/*.pyi", "benchmarks/*.py", "docs/*.py"),
    *("tests/**/*.py", "plugins/*/tests/**/*.py", ".ci/*.py", "conftest.py"),
)
TEMPLATES = ("lannunet_core/scaffold/*.template",)
BETWEEN = r"""(?:\s|["'#>*]|f["'])+"""  # a phrase may continue on the next line, in a comment or a string
SKIPPED = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


class Rule(NamedTuple):
    instead: str
    expression: str
    plain: str


def plain(text: str) -> str:
    """The words of a text without punctuation, which are fast to search."""
    return " ".join(re.findall(r"[\w']+", re.sub(r"\bf(?=[\"'])", "", text.lower())))


def rules(table: str) -> list[Rule]:
    """The rows `| `phrase`, `phrase` | replacement |`. `…` in a phrase is the rest of a word."""
    found = []
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|$", table, re.MULTILINE):
        for phrase in re.findall(r"`([^`]+)`", row[0]):
            words = BETWEEN.join(re.escape(word).replace("…", r"\w*") for word in phrase.split())
            found.append(Rule(row[1], words, plain(phrase.replace("…", ""))))
    return found


def compiled(refused: list[Rule]) -> re.Pattern[str]:
    """An expression that matches any of the rules; the last group that matched has the rule's number."""
    return re.compile(
        rf"(?<![\w`-])(?:{'|'.join(f'({rule.expression})' for rule in refused)})(?![\w`-])", re.IGNORECASE
    )


def texts(path: Path, content: str) -> Iterator[tuple[int, str]]:
    """The prose of a file: a page, or the comments and strings of code, each with its first line."""
    if path.suffix not in (".py", ".pyi"):
        yield 1, content
        return
    start, parts, kind = 1, [], -1
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in SKIPPED:
            continue
        if token.type != kind and parts:
            yield start, "\n".join(parts)
            parts = []
        kind = token.type
        if kind in (tokenize.STRING, tokenize.COMMENT):
            start = start if parts else token.start[0]
            parts.append(token.string.strip("\"'rf"))
        else:
            parts = []


def problems(root: Path = ROOT) -> list[str]:
    """One line for each home-made word, with the place and what to write instead."""
    refused = rules((root / TABLE).read_text(encoding="utf-8"))
    files = {path for files in (*PAGES, *CODE, *TEMPLATES) for path in root.glob(files)}
    found = []
    for path in sorted(files - {root / TABLE, root / TEST}):
        content = path.read_text(encoding="utf-8")
        words = plain(content)
        possible = [rule for rule in refused if rule.plain in words]
        if not possible:
            continue
        pattern = compiled(possible)
        for line, text in texts(path, content):
            for match in pattern.finditer(text):
                assert match.lastindex
                instead = possible[match.lastindex - 1].instead
                place = f"{path.relative_to(root)}:{line + text.count(chr(10), 0, match.start())}"
                found.append(f"{place}: '{' '.join(match[0].split())}': write {instead}")
    return found


if __name__ == "__main__":
    found = problems()
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    raise SystemExit(len(found) > 0)
