"""File formats that distributions register, for every run."""

import functools
import warnings
from collections.abc import Sequence
from typing import TypeVar

from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery
from lannunet_core.plugins.installed import PluginWarning

Format = TypeVar("Format")


@functools.cache
def registered(group: str, kind: type[Format]) -> tuple[Format, ...]:
    """The objects that the entry points of a group refer to, single ones or lists.

    A warning names those that cannot be loaded. `registered.cache_clear()` repeats the search.

    Args:
        group: `image_formats` for entry points of the group `lannunet.image_formats`.
        kind: A kind in `lannunet_core`, or in the package of a task.
    """
    formats: list[Format] = []
    for entry in discovery.scan().formats.get(group, ()):
        what = f"The {group.replace('_', ' ')}"
        try:
            loaded = entry.load_as(what)
            found = loaded if isinstance(loaded, Sequence) else [loaded]
            if not all(isinstance(one, kind) for one in found):
                package = kind.__module__.partition(".")[0]
                raise UserError(
                    f"{what} {entry} cannot be used: '{entry.value}' is not a list of "
                    f"{package}.{kind.__name__}. {entry.remedy}"
                )
            formats += found
        except UserError as error:
            warnings.warn(str(error), PluginWarning, 2)
    return tuple(formats)
