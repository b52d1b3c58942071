"""One version for all distributions, and checks before they are published.

    python .ci/release.py check [--tag v0.1.0] [--public]
    python .ci/release.py version 0.2.0
    python .ci/release.py address https://…

The version and the address of the project are in the top `pyproject.toml`. Each distribution repeats them,
because its source distribution must build without the others. `version` and `address` write them to all
files, with the ranges in which the distributions require each other. `check` reports files that differ. With
`--public` it also refuses the placeholder for a public address (RFC 2606 reserves .example).
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (
    *("pyproject.toml", "plugins/*/pyproject.toml", "plugins/*/README.md"),
    *("CITATION.cff", "conda/recipe.yaml", "mkdocs.yml"),
)
VERSION = re.compile(r'^( *version(?: =|:) ")([^"]+)', re.MULTILINE)
ADDRESS = re.compile(r'^(Homepage = ")([^"]+)', re.MULTILINE)
RANGE = re.compile(r"(lannunet[\w-]*(?:\[\w+\])?)>=[\d.]+,<[\d.]+")


def stated(pattern: re.Pattern[str], root: Path = ROOT) -> str:
    found = pattern.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert found, "pyproject.toml states no version or address"
    return found[2]


def compatible(version: str) -> str:
    """The range of compatible versions: one major version, or one minor version of 0.x."""
    major, minor = map(int, version.split(".")[:2])
    return f">={major}.{minor},<{f'{major + 1}' if major else f'0.{minor + 1}'}"


def rewritten(version: str, address: str, root: Path = ROOT) -> dict[Path, str]:
    """The expected content of each file."""
    before = stated(ADDRESS, root)
    found = {}
    for path in sorted(path for pattern in FILES for path in root.glob(pattern)):
        text = VERSION.sub(rf"\g<1>{version}", path.read_text(encoding="utf-8"), count=1)
        found[path] = RANGE.sub(rf"\g<1>{compatible(version)}", text).replace(before, address)
    return found


def problems(tag: str | None = None, public: bool = False, root: Path = ROOT) -> list[str]:
    version, address = stated(VERSION, root), stated(ADDRESS, root)
    expected = rewritten(version, address, root)
    found = [
        f"{path.relative_to(root)}: is not of version {version}: python .ci/release.py version {version}"
        for path, text in expected.items()
        if path.read_text(encoding="utf-8") != text or (path.suffix == ".toml" and address not in text)
    ]
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag} and the version {version}")
    if public and address.endswith(".example"):
        found.append(f"{address} is a placeholder: python .ci/release.py address https://…")
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check")
    check.add_argument("--tag")
    check.add_argument("--public", action="store_true")
    commands.add_parser("version").add_argument("new")
    commands.add_parser("address").add_argument("new")
    chosen = parser.parse_args(arguments)
    if chosen.command == "check":
        found = problems(chosen.tag, chosen.public, root)
        print("\n".join(found), file=sys.stderr, end="\n" if found else "")
        return len(found) > 0
    if chosen.command == "version" and not re.fullmatch(r"\d+\.\d+\.\d+", chosen.new):
        parser.error(f"{chosen.new} is no version: give three numbers, as in 0.2.0")
    version = chosen.new if chosen.command == "version" else stated(VERSION, root)
    address = chosen.new if chosen.command == "address" else stated(ADDRESS, root)
    for path, text in rewritten(version, address.rstrip("/"), root).items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
