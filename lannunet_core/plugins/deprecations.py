"""Names of hooks and arguments that are on their way out, and still work.

The policy: what a plugin written for one minor version uses goes on working, with a warning that names it,
for that minor version and the next; the one after them no longer knows it. To rename or drop a hook or an
argument, add it here, and take it out again when `until` has come (a test says so).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MINOR_VERSIONS = 2


@dataclass(frozen=True)
class Deprecated:
    """An old name of a hook, or of one of its arguments.

    What is renamed is taken out of `hookspecs` under its old name; what goes without a successor stays there
    as long as it works.

    Attributes:
        hook: The hook: by its old name where the hook is renamed, else by its present one.
        since: The first version that warns, such as `0.4`.
        argument: The argument's old name; None: the hook itself.
        renamed_to: The present name; None: there is none, it goes away.
        instead: What an author does where there is no present name.
    """

    hook: str
    since: str
    argument: str | None = None
    renamed_to: str | None = None
    instead: str = ""

    @property
    def until(self) -> str:
        """The first version that does not know it any more."""
        major, minor = self.since.split(".")[:2]
        return f"{major}.{int(minor) + MINOR_VERSIONS}"

    def __str__(self) -> str:
        what = f"the argument '{self.argument}'" if self.argument else f"the hook '{self.hook}'"
        fate = f"is now called '{self.renamed_to}'" if self.renamed_to else "is going away"
        instead = f" {self.instead}" if self.instead else ""
        return f"{what} {fate}; the old form works until lannunet-core {self.until}.{instead}"


DEPRECATED: tuple[Deprecated, ...] = ()


def of_hook(name: str) -> Deprecated | None:
    """What there is to say of a hook that a plugin implements under this name."""
    return next((d for d in DEPRECATED if d.hook == name and d.argument is None), None)


def of_argument(hook: str, name: str) -> Deprecated | None:
    """What there is to say of an argument that a plugin asks for; `hook` is the present name."""
    return next((d for d in DEPRECATED if d.hook == hook and d.argument == name), None)


def present_hook(name: str) -> str:
    found = of_hook(name)
    return (found and found.renamed_to) or name


def present_argument(hook: str, name: str) -> str:
    found = of_argument(hook, name)
    return (found and found.renamed_to) or name


def under_present_names(method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    """A bound hook method as pluggy can call it today; the method itself where nothing of it is old."""
    options: Mapping[str, Any] = method.lannunet_impl  # type: ignore[attr-defined]
    old_hook = options.get("specname") or attribute
    hook = present_hook(old_hook)
    asked = list(inspect.signature(method).parameters)
    present = [present_argument(hook, name) for name in asked]
    if hook == old_hook and present == asked:
        return method

    # pluggy reads the names of arguments from a function's code, so the adapter has to have real ones.
    names = ", ".join(present)
    call = f"(yield from method({names}))" if inspect.isgeneratorfunction(method) else f"method({names})"
    adapted: Any = eval(f"lambda {names}: {call}", {"method": method})
    adapted.lannunet_impl = {**options, "specname": hook}
    return adapted  # type: ignore[no-any-return]
