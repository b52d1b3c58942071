"""Call functions of plugins with those arguments that they take by name."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

R = TypeVar("R")


def call_accepting(function: Callable[..., R], **offered: Any) -> R:
    """Call a function with those of the offered arguments that it takes."""
    wanted = _parameters(getattr(function, "__func__", function))
    return function(**{name: value for name, value in offered.items() if wanted is None or name in wanted})


@lru_cache(maxsize=256)
def _parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names of its arguments; None: it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)
