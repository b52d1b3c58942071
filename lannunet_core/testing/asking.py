"""Call a plugin's hooks that need no data, for `lannunet plugins list --check`, in the plugin's own
process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pydantic import ValidationError

from lannunet_core.config.loaded import ChosenPlugin
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.plugins import manager, tasks
from lannunet_core.plugins.api import Plugin, RunInfo
from lannunet_core.plugins.hooks import WrongAnswer
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.task import Task


def wrong_answers(plugin: InstalledPlugin, plugin_class: type[Plugin], served: Sequence[Task]) -> list[str]:
    """Errors in the plugin's results for made-up runs of its tasks in 2D and 3D."""
    try:
        chosen = ChosenPlugin(plugin, plugin_class, plugin_class.Config())
    except ValidationError:
        return []  # some setting has no default
    plain_answers = {hook for hook, wrapper in manager.implemented_hooks(plugin_class).items() if not wrapper}
    problems = []
    for task, dimensions in product(served, (2, 3)):
        bench = task.bench()
        if bench is None:
            continue
        size = (64,) * dimensions
        keys = {"model.architecture": plugin.name, "output.output_dir": "run"}
        config = task.config.model_validate(bench.configuration(size, keys))
        run = RunInfo(
            task=task.name,
            dimensions=dimensions,
            in_channels=1,
            outputs=bench.outputs(2),
            input_size=size,
            spacing=None,
            supervised_resolutions=1,
            device="cpu",
            seed=0,
        )
        try:
            hooks = manager.assemble([chosen], run, task.defaults(config, run), task.hooks, task.hookspecs)
            for hook, spec in tasks.specs_asked(task).items():
                if hook in plain_answers and not spec.arguments and spec.asked_in(task.name):
                    getattr(hooks, hook)()  # hooks without arguments
        except (WrongAnswer, RunFailed) as error:
            problems.append(str(error))
        except UserError:
            pass  # it does not support such runs
        else:
            return []
    return problems[:1]
