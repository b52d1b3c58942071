"""Inspect plugins in separate processes, so that they cannot affect this one.

A plugin may raise, hang, end the interpreter or write anywhere: the inspecting process still gets a result.
"""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any

from lannunet_core.errors import RunFailed, UserError
from lannunet_core.names import plain
from lannunet_core.plugins.installed import InstalledPlugin, PluginWarning, cause_and_remedy

TIME_LIMIT = 60.0
"""Seconds for one plugin; the libraries that it imports may be slow to load from a network drive."""

# The process gets our sys.path before anything but the interpreter is imported.
PROGRAM = (
    "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); "
    "from lannunet_core.testing.inspection import answer; answer(sys.argv[2])"
)


@dataclass(frozen=True)
class Look:
    """The result of inspecting a plugin.

    Attributes:
        description: First paragraph of the class's docstring; empty if it has none.
        schema: JSON schema of its Config, with references into `#/$defs/<folded name>.…`; None: it was not
            reached.
        tasks: Tasks that it supports.
        hooks: Hooks that it implements, under their current names.
        problems: Why it cannot be used.
        warnings: Other messages for users and authors.
    """

    description: str = ""
    schema: dict[str, Any] | None = None
    tasks: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look(plugins: Sequence[InstalledPlugin], *, further: str | None = None) -> list[Look]:
    """Inspect each plugin, several at a time.

    Args:
        plugins: Plugins to inspect.
        further: Path of a function (`module:function`) that finds additional problems, given the plugin,
            its class, and the tasks that it supports.
    """
    seen: list[Look] = []
    running: deque[_Process] = deque()
    with ExitStack() as stack:
        for plugin in _progress(plugins):
            if len(running) >= (os.cpu_count() or 1):
                seen.append(running.popleft().result())
            running.append(stack.enter_context(_Process(plugin, further)))
        seen += [process.result() for process in running]
    return seen


def _progress(plugins: Sequence[InstalledPlugin]) -> Iterable[InstalledPlugin]:
    if len(plugins) < 5 or not sys.stderr.isatty():
        return plugins
    from rich.console import Console
    from rich.progress import track

    return track(plugins, "inspecting plugins", transient=True, console=Console(stderr=True))


class _Process:
    def __init__(self, plugin: InstalledPlugin, further: str | None) -> None:
        self.plugin = plugin
        # Not pipes, which processes of the plugin may hold open.
        self.answer: IO[bytes] = TemporaryFile()  # noqa: SIM115
        self.said: IO[bytes] = TemporaryFile()  # noqa: SIM115
        self.started = time.monotonic()
        request = json.dumps({"plugin": asdict(plugin), "further": further})
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, os.pathsep.join(sys.path), request],
            stdin=subprocess.DEVNULL,
            stdout=self.answer,
            stderr=self.said,
            start_new_session=True,
        )

    def result(self) -> Look:
        plugin = self.plugin
        remedy = f"Update or reinstall {plugin.distribution}, or report it to its author."
        try:
            code = self.process.wait(max(0.0, self.started + TIME_LIMIT - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Look(problems=[f"Plugin {plugin} did not respond within {TIME_LIMIT:g} s. {remedy}"])
        self.answer.seek(0)
        try:
            return Look(**json.load(self.answer))
        except ValueError:
            self.said.seek(0)
            said = self.said.read().decode(errors="replace").strip().splitlines()[-1:]
            last = "".join(f", after writing: {line}" for line in said)
            return Look(
                problems=[f"Plugin {plugin} ended the interpreter (exit code {code}){last}. {remedy}"]
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, and its children."""
        try:
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        except (ProcessLookupError, PermissionError):
            pass  # it has ended without children
        self.process.wait()
        self.answer.close()
        self.said.close()


def answer(request: str) -> None:
    """Main function of the process."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # a plugin's output goes to stderr
    asked = json.loads(request)
    plugin = InstalledPlugin(**{**asked["plugin"], "aliases": tuple(asked["plugin"]["aliases"])})
    seen = look_here(plugin, asked["further"])
    with open(stdout, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(asdict(seen), file)
    os._exit(0)  # without the plugin's threads and exit handlers


def look_here(plugin: InstalledPlugin, further: str | None) -> Look:
    """Inspect a plugin in this process."""
    from lannunet_core.config.compose import composed
    from lannunet_core.plugins import manager, tasks

    seen = Look()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PluginWarning)
        try:
            plugin_class = plugin.load()
            names = plugin_class.tasks
            served = [task for task in tasks.every() if names is None or task.name in names]
            specs = dict(manager.SPECS)
            for task in served:
                specs |= tasks.specs_asked(task)
            manager.check_class(plugin, plugin_class, specs)
            implemented = manager.implemented_hooks(plugin_class)
            hooks = [hook for hook in specs if hook in implemented]
            section = [(plugin, plugin_class.Config)]
            for task in served:
                composed(*((section, []) if "network" in hooks else ([], section)), task.config)
            template = f"#/$defs/{plain(plugin.name)}.{{model}}"
            schema = plugin_class.Config.model_json_schema(ref_template=template)
            description = inspect.cleandoc(vars(plugin_class).get("__doc__") or "").partition("\n\n")[0]
            seen = Look(" ".join(description.split()), schema, [task.name for task in served], hooks)
            if further:
                seen.problems.extend(pkgutil.resolve_name(further)(plugin, plugin_class, served))
        except (UserError, RunFailed) as error:
            seen.problems.append(str(error))
        except Exception as error:
            cause, remedy = cause_and_remedy(error, plugin.distribution, plugin.value.partition(":")[0])
            seen.problems.append(
                f"Plugin {plugin}: its Config cannot be described: {cause}. To continue, {remedy}."
            )
    seen.warnings.extend(dict.fromkeys(str(warning.message) for warning in caught))
    return seen
