"""Open the data set of a run, in the task's own format or in that of a plugin."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from lannunet_core.calling import call_accepting
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.names import choose
from lannunet_core.plugins.hooks import ask_class

AUTO = "auto"
"""Value of `dataset.format` for the task's own format."""


def open_in_format(loaded: LoadedConfig, own: Callable[..., Any], names: Iterable[str] = ()) -> Any:
    """Open the data set of a configuration; `own` opens the task's format, as `Plugin.data_formats` do.

    `names` are those of additional formats that `own` opens.

    Raises:
        UserError: No plugin of the run provides the format, or the data are wrong.
    """
    run = loaded.run
    openers = dict.fromkeys((AUTO, *names), own)
    for plugin in loaded.plugins:
        found = ask_class(plugin.installed, plugin.plugin_class.data_formats, run.task)
        for name, opener in found.items():
            openers[name] = partial(call_accepting, opener, settings=plugin.config)
    opener = choose("dataset.format", run.dataset.format, openers)
    return call_accepting(opener, config=run.dataset, fold=getattr(run.trainer, "fold", None))
