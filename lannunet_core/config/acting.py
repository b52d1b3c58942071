"""Keys without effect: each key acts, or is refused where a user sets it."""

from collections.abc import Mapping, Sequence
from functools import reduce

from lannunet_core.config.loaded import ChosenPlugin
from lannunet_core.config.problems import Value
from lannunet_core.config.schema import KeyPath, RunConfig
from lannunet_core.config.yaml import inline_yaml
from lannunet_core.errors import UserError
from lannunet_core.plugins import manager

Idle = Mapping[str, tuple[str, str]]
"""Keys without effect in a run, each with the reason, and the key whose value causes it (empty: a plugin)."""
Replaced = Mapping[str, str | tuple[str, ...]]


def replaced_keys(plugin: type, replaced: Replaced) -> dict[str, str]:
    """The keys without a meaning once this plugin is chosen, each with the hook that replaces it.

    A plugin may still use a key if the object of its hook takes an argument with the key's name.
    """
    found = {}
    for hook, taken in manager.plain_arguments(plugin).items():
        keys = replaced.get(hook, ())
        for key in (keys,) if isinstance(keys, str) else keys:
            if not taken & {key.split(".")[0], key.split(".")[-1]}:
                found[key] = hook
    return found


def idle_keys(run: RunConfig, plugins: Sequence[ChosenPlugin], replaced: Replaced) -> Idle:
    """The keys without effect in a run, whether they are set or not. The architecture comes first."""
    answered = {
        key: f"the plugin {plugin.installed} replaces its default (hook '{hook}')"
        for plugin in plugins
        for key, hook in replaced_keys(plugin.plugin_class, replaced).items()
    }
    because = dict(run.idle_keys(answered))
    for number, plugin in enumerate(plugins):
        own = f"{'trainer' if number else 'model'}.{plugin.installed.name}."
        for pair in plugin.config.idle_keys(run.task).items():
            key, cause = (one if one.split(".")[0] in type(run).model_fields else own + one for one in pair)
            because[key] = cause
    values = run.model_dump(mode="json", by_alias=True)
    idle = {}
    for key, cause in because.items():
        value = reduce(lambda inner, part: inner[part], cause.split("."), values)
        idle[key] = (f"it has no effect with {cause}: {inline_yaml(value)}", cause)
    return idle | {key: (why, "") for key, why in answered.items()}


def acting(
    values: Mapping[KeyPath, Value],
    idle: Idle,
    later: Mapping[str, str],
    warnings: list[str],
    *,
    recorded: bool,
) -> dict[KeyPath, Value]:
    """The values without those that have no effect.

    Such a value is an error, but it is left out if a plugin suggests it, a run recorded it (`recorded`), the
    command line overrides it, or a second stage uses it (`later`); and if it is LaNNU-Net's, with a warning.
    """
    wrong, kept = [], {}
    for path, value in values.items():
        # A plugin may suggest a key that its own hook replaces: other parts of the run read it.
        if value.key not in idle or (value.entry.suggested and not idle[value.key][1]):
            kept[path] = value
            continue
        (why, cause), entry = idle[value.key], value.entry
        by = values.get(tuple(cause.split(".")))
        overruled = by and entry.lines and not by.entry.lines and not by.entry.suggested
        is_free = not cause and value.value == "auto"
        if entry.suggested or recorded or overruled or is_free or later.get(value.key) == entry.where():
            continue
        if entry.path[-1].isupper():
            warnings.append(f"{entry.where()}: {'.'.join(entry.path)} is ignored: {why}.")
        else:
            wrong.append(f"{value.at}: found {value.value!r:.80}, but {why}. Remove this key.")
    if wrong:
        raise UserError("\n".join(wrong))
    return kept
