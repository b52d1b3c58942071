"""The installed tasks, by name."""

import functools
import warnings
from collections.abc import Callable

from lannunet_core import hookspecs
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.names import choose, did_you_mean, is_among, plain
from lannunet_core.plugins import discovery, missing
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.installed import Installed, PluginWarning
from lannunet_core.plugins.manager import Specs, answers, assemble, specs_of
from lannunet_core.task import Task


def find(name: str, where: str = "task") -> Task:
    """The task of this name, in any spelling.

    Args:
        name: As in `task:`.
        where: Place of the name, for messages.

    Raises:
        UserError: There is none, several claim the name, or it cannot be imported.
    """
    installed = discovery.scan().tasks
    claims = [task for task in installed if plain(task.name) == plain(name)]
    if not claims:
        known = [task.name for task in installed]
        raise UserError(
            f"{where}: no task '{name}' is installed.{did_you_mean(name, known)} "
            f"Installed: {', '.join(known) or 'none'}. {missing.for_a_run(discovery.installed())}"
        )
    return load(discovery.only(f"{where}: the task '{name}'", claims))


def every() -> list[Task]:
    """All installed tasks, except those that cannot be loaded, which a warning names."""
    loaded = []
    for task in discovery.scan().tasks:
        try:
            loaded.append(load(task))
        except UserError as error:  # noqa: PERF203
            warnings.warn(str(error), PluginWarning, 2)
    return loaded


@functools.cache
def load(installed: Installed) -> Task:
    """Create the object of a task.

    Raises:
        UserError: Its class cannot be imported, or is not a task.
    """
    found = installed.load_as("The task")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(
            f"The task {installed} cannot be used: '{installed.value}' is not a class derived from "
            f"lannunet_core.Task but {found!r}. {installed.remedy}"
        )
    task: Task = found()
    task.name = installed.name
    return task


def specs_asked(task: Task) -> Specs:
    """The specifications of a task's runs: the core's and the task's own."""
    return specs_of(hookspecs, *task.hookspecs)


def foreign_names(loaded: LoadedConfig, task: Task) -> list[tuple[str, str]]:
    """The names that are not the task's own, each after its key; a plugin of the run may provide them."""
    return [
        (key, name)
        for key, (_, known) in task.names.items()
        if key not in loaded.replaced
        for name in loaded.named(key)
        if not is_among(name, known)
    ]


def check_names(loaded: LoadedConfig, describe: Callable[[], RunInfo]) -> None:
    """Raise a UserError for names that neither the task nor a plugin of the run provides.

    The plugins are created only if a name is not the task's own.

    Args:
        loaded: The configuration.
        describe: Returns the description of the run for plugins.

    Raises:
        UserError: There is such a name.
    """
    task = find(loaded.run.task)
    foreign = foreign_names(loaded, task)
    if not foreign:
        return
    run = describe()
    hooks = assemble(loaded.plugins, run, task.defaults(loaded.run, run), task.hooks, task.hookspecs)
    for key, name in foreign:
        hook, known = task.names[key]
        where = f"{loaded.given.get(key, loaded.path)}: {key}"
        choose(where, name, {**dict.fromkeys(known), **getattr(hooks, hook)()})


def asked_of(loaded: LoadedConfig) -> list[tuple[str, list[tuple[str, str]]]]:
    """The plugins that implement each hook of a run, by name and version, in call order."""
    task = find(loaded.run.task)
    return answers(loaded, task.defaults, specs_asked(task))


find_task = find
"""The public name of `find`."""
