"""YAML as a list of entries: one per key that holds a value, with the place where it is written."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lannunet_core.config.schema import ESCAPES, KeyPath
from lannunet_core.errors import UserError

Place = tuple[str | int, ...]
"""Keys and list indices that lead to a value."""

MOST_BYTES = 2**18
DEEPEST = 20  # keys in a path
MOST_VALUES = 20_000  # including those repeated by aliases


Repeated = tuple[str, int, int]
"""A repeated upper-case key, its line and that of the repetition; the last one is used, as in LaNNU-Net."""


@dataclass(frozen=True)
class Entry:
    """One value.

    Attributes:
        path: The keys that lead to it, as written.
        value: A scalar, a list, or an empty mapping.
        source: The file's name, or the override.
        folder: Folder that relative paths start at: the file's, for an override the working directory.
        lines: Line of each key and list item, by its path; empty for an override.
        suggested: Whether it is a plugin's suggestion, not the user's value.
    """

    path: KeyPath
    value: Any
    source: str
    folder: Path
    lines: dict[Place, int] = field(repr=False)
    suggested: bool = False

    def where(self, path: Place | None = None) -> str:
        """`file:line` of `path`, or of the key that leads to it; the override itself for an override."""
        path = self.path if path is None else path
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines[path]}" if path else self.source


def read_yaml(path: Path, repeated: list[Repeated] | None = None) -> list[Entry]:
    """Read a YAML file.

    Args:
        path: The file.
        repeated: List to which repeated upper-case keys are added; None: they are ignored.

    Raises:
        UserError: It cannot be read, is not YAML, is not a mapping, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file. Give the path of a configuration (YAML).") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start}).") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: has more than {MOST_BYTES} bytes, more than any configuration.")
    data, lines = parse(text, str(path), repeated)
    if not isinstance(data, dict):
        found = "the file is empty" if data is None else f"found {data!r:.60}"
        raise UserError(f"{path}:1: {found}, should be sections of keys (`dataset:`, `output:` …).")
    return entries(data, str(path), path.parent, lines)


def read_override(text: str) -> list[Entry]:
    """Read one `--set a.b=c`; c is YAML."""
    source = f"--set {text}"
    keys, equals, written = text.partition("=")
    path = tuple(key.strip() for key in keys.split("."))
    if not equals or not all(path) or len(path) > DEEPEST:
        raise UserError(f"{source}: should be KEY=VALUE with a key such as solver.max_epochs.")
    value, _ = parse(written, source)
    for key in reversed(path):
        value = {key: value}
    return entries(value, source, Path(), {})


def entries(data: dict[str, Any], source: str, folder: Path, lines: dict[Place, int]) -> list[Entry]:
    """The values of nested mappings, in order."""

    def walk(value: Any, path: KeyPath) -> Iterator[Entry]:
        if isinstance(value, dict) and (value or not path):
            for key, inner in value.items():
                yield from walk(inner, (*path, key))
        else:
            yield Entry(path, value, source, folder, lines)

    return list(walk(data, ()))


def parse(text: str, source: str, repeated: list[Repeated] | None = None) -> tuple[Any, dict[Place, int]]:
    """YAML to plain data, and the line of every key and list item by its path."""
    lines: dict[Place, int] = {}
    weights: dict[int, int] = {}

    def fail(mark: yaml.Mark | None, problem: str) -> UserError:
        place = f":{mark.line + 1}:{mark.column + 1}" if mark and not source.startswith("--set") else ""
        return UserError(f"{source}{place}: {problem}")

    def weigh(node: yaml.Node) -> int:
        """The number of values in a node, including those repeated by its aliases."""
        if id(node) not in weights:
            inner = [] if isinstance(node, yaml.ScalarNode) else node.value
            parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
            weights[id(node)] = 1 + sum(map(weigh, parts))
            if weights[id(node)] > MOST_VALUES:
                raise fail(node.start_mark, f"holds more than {MOST_VALUES} values, with those of aliases.")
        return weights[id(node)]

    def build(node: yaml.Node, path: Place) -> Any:
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [build(item, (*path, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise fail(node.start_mark, f"the YAML tag {node.tag} is not understood; remove it.")
        try:
            value = loader.construct_object(node)
        except (ValueError, LookupError, AttributeError):
            raise fail(node.start_mark, f"'{node.value:.60}' does not match its form, or its tag.") from None
        if isinstance(value, int) and abs(value) >= 2**63:
            raise fail(node.start_mark, f"'{node.value:.60}' is larger than any allowed number.")
        return legible(value, node) if isinstance(value, str) else value

    def build_mapping(node: yaml.MappingNode, path: Place) -> dict[str, Any]:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            name, line = word(key_node), key_node.start_mark.line + 1
            if name in first:
                if not name.isupper():
                    raise fail(
                        key_node.start_mark,
                        f"'{name}' is given twice, in lines {first[name]} and {line}. Remove one of them.",
                    )
                if repeated is not None:
                    repeated.append((name, first[name], line))
            first[name] = line
        loader.flatten_mapping(node)  # `<<: *defaults`; keys of the mapping itself come last
        data = {}
        for name, (key_node, value_node) in {word(key): (key, value) for key, value in node.value}.items():
            here = (*path, name)
            lines[here] = key_node.start_mark.line + 1
            data[name] = build(value_node, here)
        return data

    def word(node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise fail(node.start_mark, "a key should be a word.")
        return legible(str(node.value), node)

    def legible(value: str, node: yaml.Node) -> str:
        if UNWRITABLE.search(value):
            raise fail(
                node.start_mark, f"{value!r:.60} contains a character that no file can have; {ESCAPES}."
            )
        return value

    if text.count("[") + text.count("{") > MOST_BRACKETS:  # parsing deep nests takes long
        raise UserError(f"{source}: is nested too deeply: it holds over {MOST_BRACKETS} brackets.")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, lines
        weigh(root)
        return build(root, ()), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = error.context
        if context and error.context_mark and mark and error.context_mark.line != mark.line:
            context += f" from line {error.context_mark.line + 1} on"
        problem = ", ".join(filter(None, (context, error.problem)))
        hint = f"; {ESCAPES}" if "escape" in problem else ""
        raise fail(mark, f"this is not YAML: {problem}{hint}.") from None
    except yaml.reader.ReaderError as error:
        raise UserError(
            f"{source}: this is not YAML: {error.reason} at character {error.position}."
        ) from None
    except RecursionError:
        raise UserError(
            f"{source}: is nested too deeply, or a YAML alias (*name) is inside the node that it repeats."
        ) from None
    except (ValueError, OverflowError) as error:  # from escapes and directives, which PyYAML does not check
        raise UserError(f"{source}: this is not YAML: {error}; {ESCAPES}.") from None


def inline_yaml(value: Any) -> str:
    """A value as YAML in one line."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.strip().removesuffix("\n...")


MOST_BRACKETS = 10_000
UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """Follows YAML 1.2 in two points: 1e-3 is a number, 2024-01-31 is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":float"))]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """Quotes the words that `_Loader` would not read as text."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
