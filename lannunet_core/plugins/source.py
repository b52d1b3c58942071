"""Read properties of a plugin from its source, without running it."""

import ast
import importlib.util
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path


class SourceError(Exception):
    """The source cannot be found or read; the message has the reason."""


def hooks_in_source(value: str) -> list[str]:
    """The hooks that the class at `module:Class` implements, its base classes included, in source order.

    Raises:
        SourceError: There is no such module or class, or its source does not parse.
    """
    module, _, name = value.partition(":")
    return list(dict.fromkeys(_hooks(*_find_class(module, name))))


def first_line(value: str) -> str:
    """The first line of the docstring of the function at `module:function`; empty if it has none.

    Raises:
        SourceError: There is no such module, or its source does not parse.
    """
    module, _, name = value.partition(":")
    for node in _parse(_locate(module)).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _hooks(module: str, found: ast.ClassDef) -> list[str]:
    hooks = []
    for base in found.bases:
        if isinstance(base, ast.Name):
            try:
                hooks += _hooks(*_find_class(module, base.id))
            except (SourceError, RecursionError):
                continue  # a base without source here (a compiled or built-in class)
    for node in found.body:
        if isinstance(node, ast.FunctionDef):
            hooks += [_hook_name(node, mark) for mark in node.decorator_list if _is_mark(mark)]
    return hooks


def _is_mark(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    return name == "hookimpl"


def _hook_name(function: ast.FunctionDef, mark: ast.expr) -> str:
    for keyword in mark.keywords if isinstance(mark, ast.Call) else []:
        if keyword.arg == "specname" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
            return str(keyword.value.value)
    return function.name


def _find_class(module: str, name: str, followed: int = 0) -> tuple[str, ast.ClassDef]:
    """The module and the class of this name, through up to ten `from … import`s."""
    file = _locate(module)
    for node in _parse(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and followed < 10:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
                    source = "." * node.level + (node.module or "")
                    return _find_class(importlib.util.resolve_name(source, package), alias.name, followed + 1)
    raise SourceError(f"there is no class '{name}' in module '{module}'")


@cache
def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(f"its source cannot be read: {error}") from error


def _locate(module: str) -> Path:
    """The module's source file. `find_spec` imports the parents of a dotted name, so each is searched."""
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        name = top
        for part in parts:
            name = f"{name}.{part}"
            places = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(name, places) if places is not None else None
    except (ImportError, ValueError) as error:
        raise SourceError(f"module '{module}' cannot be found: {error}") from error
    if spec is None:
        raise SourceError(f"there is no module '{module}'")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise SourceError(f"module '{module}' has no Python source")
    return Path(spec.origin)
