"""Checks hooks against their specifications: a plugin for mypy.

    [tool.mypy]
    plugins = ["lannunet_core.mypy"]

A method with `@hookimpl` takes only the arguments that it needs, in any order, which the signature of a base
class cannot express. This plugin reports hooks that do not exist, arguments that a hook does not have or that
are annotated with another type, and results of another type. Wrappers are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches

from mypy.errorcodes import ErrorCode
from mypy.messages import format_type
from mypy.nodes import ARG_POS, Decorator, Import, ImportFrom, MypyFile
from mypy.plugin import FunctionContext, MethodContext, Plugin
from mypy.subtypes import is_subtype
from mypy.types import CallableType, Type, get_proper_type

from lannunet_core.plugins.manager import SPECS

MODULE = "lannunet_core.hookspecs"
HOOKIMPL = re.compile(r"pluggy\..*\bHookimplMarker\.__call__")  # its module differs between versions
CODE = ErrorCode("hookimpl", "A hook is not implemented as it is specified", "LannU-Net")

Context = FunctionContext | MethodContext


class HookPlugin(Plugin):
    def get_additional_deps(self, file: MypyFile) -> list[tuple[int, str, int]]:
        """Load the specifications wherever the core is imported."""
        imported = [name for node in file.imports for name in _modules(node)]
        ours = any(name.partition(".")[0] == "lannunet_core" for name in imported)
        return [(10, MODULE, -1)] if ours and file.fullname != MODULE else []

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return self._check if HOOKIMPL.fullmatch(fullname) else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return self._check if HOOKIMPL.fullmatch(fullname) else None

    def _check(self, context: Context) -> Type:
        first = context.arg_types[0]  # empty for `@hookimpl(…)`
        marked = get_proper_type(first[0]) if first else None
        if isinstance(marked, CallableType) and marked.definition is not None:
            self._check_hook(context, marked, marked.definition.name)
        return context.default_return_type

    def _check_hook(self, context: Context, marked: CallableType, hook: str) -> None:
        def fail(message: str) -> None:
            context.api.fail(message, context.context, code=CODE)

        def shown(type_: Type) -> str:
            return format_type(type_, self.options)

        spec = self._spec(hook)
        if spec is None:
            fail(f'There is no hook "{hook}"{_hint(hook, list(SPECS))}')
            return
        types = dict(zip(spec.arg_names, spec.arg_types, strict=True))
        arguments = zip(marked.arg_names, marked.arg_kinds, marked.arg_types, strict=True)
        for name, kind, type_ in list(arguments)[1:]:  # without self
            known = name or ""
            if known not in types:
                nearest = _hint(name or "", [argument for argument in types if argument])
                fail(f'The hook "{hook}" has no argument "{name}"{nearest}')
            elif kind is not ARG_POS:
                fail(f'Argument "{name}" of the hook "{hook}" must be a plain one without a default')
            elif not is_subtype(types[known], type_):
                fail(f'Argument "{name}" of the hook "{hook}" is {shown(types[known])}, not {shown(type_)}')
        if not is_subtype(marked.ret_type, spec.ret_type):
            fail(f'The hook "{hook}" returns {shown(spec.ret_type)}, not {shown(marked.ret_type)}')

    def _spec(self, hook: str) -> CallableType | None:
        symbol = self.lookup_fully_qualified(f"{MODULE}.{hook}") if hook in SPECS else None
        function = symbol.node.func if symbol and isinstance(symbol.node, Decorator) else None
        return function.type if function and isinstance(function.type, CallableType) else None


def _hint(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""


def _modules(node: object) -> list[str]:
    if isinstance(node, ImportFrom):
        return [node.id]
    return [name for name, _ in node.ids] if isinstance(node, Import) else []


def plugin(version: str) -> type[Plugin]:
    return HookPlugin
