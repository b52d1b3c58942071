"""The reference of the site, generated from the code: commands, the Python API with examples, errors.

An example of a name is the shortest statement that uses it in code that tests run: the documentation, the
plugins of this repository, and the tests themselves.
"""

import ast
import importlib
import inspect
import os
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = {
    "lannunet": "What a program uses: load, predict, train, plan, evaluate.",
    "lannunet_core": "What every plugin and every task may import.",
    "lannunet_core.testing": "The conformance kit for plugins.",
    "lannunet_landmarks": "What plugins of the task `landmarks` may import.",
    "lannunet_landmarks.conformance": "Test classes for plugins of landmarks.",
    "lannunet_segmentation": "What plugins of the task `segmentation` may import.",
    "lannunet_segmentation.conformance": "Test classes for plugins of segmentation.",
    "lannunet_images": "Image formats, resizing, normalisation, augmentation.",
    "lannunet_report": "Pages, charts and intervals of reports.",
}
LONGEST = 12  # lines of an example, at most
WIDTH = 100
Example = tuple[str, str]  # its place, and the code


def pages() -> dict[str, str]:
    """The text of each page by its path in the site."""
    api = {f"reference/{name}.md": module_page(name) for name in MODULES}
    return {"reference/commands.md": commands_page(), "reference/errors.md": errors_page(), **api}


# Commands


def commands_page() -> str:
    parts = ["# Commands", "The help of every command. `lannunet COMMAND --help` prints the same."]
    for name, text in helps():
        parts += [f"## {name}", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def helps() -> Iterator[tuple[str, str]]:
    """The name of each command, such as `lannunet plugins list`, and its help."""
    import click
    import typer

    from lannunet_core import cli

    os.environ["COLUMNS"] = str(WIDTH)
    group = typer.main.get_command(cli.app)

    def walk(command: Any, context: Any, name: str) -> Iterator[tuple[str, str]]:
        yield name, command.get_help(context).rstrip()
        for inner in getattr(command, "commands", {}):
            resolved = command.resolve_command(context, [inner])[1]
            yield from walk(
                resolved, click.Context(resolved, parent=context, info_name=inner), f"{name} {inner}"
            )

    return walk(group, click.Context(group, info_name="lannunet"), "lannunet")


# Errors


def errors_page() -> str:
    from lannunet_core import LannunetError

    for name in MODULES:
        importlib.import_module(name)
    parts = [
        "# Errors",
        "Every error that LannU-Net raises on purpose is derived from `LannunetError`. Any other exception "
        "is a bug. On the command line the exit code is 0 for success, 1 for a failed run, 2 for wrong "
        "input, and 130 after Ctrl-C.",
    ]

    def walk(kind: type, depth: int) -> Iterator[str]:
        text = " ".join((inspect.getdoc(kind) or "").split())
        yield f"{'    ' * depth}- `{kind.__module__.partition('.')[0]}.{kind.__name__}`: {text}"
        for inner in sorted(kind.__subclasses__(), key=lambda one: one.__name__):
            yield from walk(inner, depth + 1)

    return "\n\n".join([*parts, "\n".join(walk(LannunetError, 0))]) + "\n"


# The Python API


def module_page(name: str) -> str:
    module = importlib.import_module(name)
    parts = [f"# {name}", MODULES[name]]
    for public in sorted(module.__all__, key=str.lower):
        parts += [f"## {public}", *described(module, public)]
        if example := example_of(name, public):
            parts.append(f"Example, from `{example[0]}`:\n\n```python\n{example[1]}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def described(module: ModuleType, public: str) -> Iterator[str]:
    found = getattr(module, public)
    if hasattr(found, "model_fields"):
        yield own_doc(found)
        yield "\n".join(
            f"- `{name}`: {field.description}"
            for name, field in found.model_fields.items()
            if field.description
        )
    elif inspect.isclass(found) or inspect.isfunction(found):
        yield f"```python\n{signature(public, found)}\n```"
        yield rendered(inspect.getdoc(found) or "")
        for name, member in vars(found).items() if inspect.isclass(found) else ():
            if inspect.isfunction(member) and member.__doc__ and not name.startswith("_"):
                yield f"```python\n{signature(f'{public}.{name}', member)}\n```"
                yield rendered(inspect.getdoc(member) or "")
    elif inspect.ismodule(found):
        yield rendered((found.__doc__ or "").partition("\n\n")[0])
    else:
        value = repr(found)
        yield f"```python\n{public} = {value}\n```" if len(value) < WIDTH else f"A `{type(found).__name__}`."


def own_doc(found: type) -> str:
    """A class's docstring, but not one that it inherits."""
    return rendered(inspect.cleandoc(found.__dict__.get("__doc__") or ""))


def signature(name: str, found: Any) -> str:
    try:
        text = str(inspect.signature(found))
    except (TypeError, ValueError):
        return name
    text = re.sub(r"'([\w.\[\], |]+)'", r"\1", text).replace("lannunet_core.", "")
    return name + textwrap.fill(text, WIDTH - len(name), subsequent_indent="    ", break_long_words=False)


def rendered(text: str) -> str:
    """A docstring in Markdown: its sections are lists."""
    parts, section = [], ""
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", line):
            section = line[:-1]
            parts += ["", f"**{section}**", ""]
        elif section and (entry := re.fullmatch(r"    ([\w*, ]+): (.*)", line)):
            parts.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.startswith("        "):
            parts.append(f"  {line.strip()}")
        else:
            section = section if line.startswith(" ") or not line else ""
            parts.append(line.strip() if section else line)
    return re.sub(r"(?<=\*\*)\n+(?=- )", "\n\n", "\n".join(parts)).strip()


def example_of(module: str, public: str) -> Example | None:
    """The shortest use of a public name; a word of documentation before code before tests."""
    own = module.partition(".")[0]
    uses = [use for use in index().get(public, []) if own in use[3] or own == "lannunet_core"]
    uses = uses or index().get(public, [])
    if not uses:
        return None
    _, _, where, _, code = min(uses, key=lambda use: use[:2])
    return where, code


@cache
def index() -> dict[str, list[tuple[int, int, str, str, str]]]:
    """By name: (kind of place, lines, place, whole text of its file, code) of each statement that uses it."""
    names = {public for name in MODULES for public in importlib.import_module(name).__all__}
    found = defaultdict(list)
    for kind, where, text in sources():
        known = imported_names(text) & names
        lines = text.splitlines()
        for name, node in uses(ast.parse(text), known) if known or "lannunet" in text else ():
            start = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            body = getattr(node, "body", None)
            if name not in names:
                continue
            is_long = body and (node.end_lineno or start) - start >= LONGEST
            end = body[0].lineno - 1 if is_long and body[0].lineno > start else node.end_lineno or start
            code = textwrap.dedent("\n".join([*lines[start - 1 : end], *(["    …"] if is_long else [])]))
            if end - start < LONGEST:
                found[name].append((kind, code.count("\n"), where, text, code))
    return found


def uses(tree: ast.AST, known: set[str]) -> Iterator[tuple[str, ast.stmt | ast.Call]]:
    """Names that a module uses, each with its innermost statement, or call if that is too long."""

    def walk(node: ast.AST, statement: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return
        is_long = statement and not getattr(statement, "body", None)
        is_long = is_long and statement.end_lineno - statement.lineno >= LONGEST
        if isinstance(node, ast.stmt) or (isinstance(node, ast.Call | ast.Lambda) and is_long):
            statement = node
        if isinstance(node, ast.Name) and node.id in known and statement:
            yield node.id, statement
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and statement:
            if node.value.id in ("lannunet", "lannunet_core"):
                yield node.attr, statement
            elif node.value.id in known:
                yield node.value.id, statement
        else:
            for inner in ast.iter_child_nodes(node):
                yield from walk(inner, statement)

    return walk(tree, None)


def imported_names(text: str) -> set[str]:
    found = re.findall(r"from lannunet[\w.]* import (?:\(([^)]*)\)|([^\n]*))", text)
    return {name for groups in found for part in groups for name in re.findall(r"\w+", part)}


def sources() -> Iterator[tuple[int, str, str]]:
    """Code that tests run: the kind of its place, where it stands, and its text."""
    for path in sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md"), ROOT / "README.md"]):
        blocks = re.findall(
            r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        for code in blocks:
            yield 0, str(path.relative_to(ROOT)), code
    for kind, pattern in ((0, "docs/*.py"), (1, "plugins/*/lannunet_*/**/*.py"), (2, "tests/**/*.py")):
        for path in sorted(ROOT.glob(pattern)):
            yield kind, str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("plugins/*/tests/**/*.py")):
        yield 2, str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


if __name__ == "__main__":
    for name in MODULES:
        for public in importlib.import_module(name).__all__:
            if example_of(name, public) is None:
                print(name, public)
