"""A plugin in a single file, to try an idea without a package.

Such a file is code that runs: only the user names it, in a YAML or with `--plugin`, never a model.
"""

import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path

from lannunet_core.errors import UserError
from lannunet_core.plugins.api import Plugin
from lannunet_core.plugins.installed import InstalledPlugin, import_object

FILE = "file"
"""Replaces the name of a distribution."""


@dataclass(frozen=True)
class FilePlugin(InstalledPlugin):
    """The only plugin in a file, with the file's name."""

    @property
    def path(self) -> Path:
        return Path(self.value)

    def __str__(self) -> str:
        return f"'{self.name}' ({self.value})"

    def load(self) -> type[Plugin]:
        module, folder = self.path.stem, str(self.path.parent)
        if folder not in sys.path:
            sys.path.append(folder)  # so that a loader's worker can import it
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None or Path(found.origin).resolve() != self.path.resolve():
            raise UserError(
                f"{self.path}: there is another Python module '{module}' "
                f"({found.origin if found else 'which cannot be found'}). Give the file another name."
            )
        import_object(f"Plugin {self}", str(self.path), f"{module}:__name__")
        members = inspect.getmembers(sys.modules[module], inspect.isclass)
        classes = [one for _, one in members if issubclass(one, Plugin) and one.__module__ == module]
        if len(classes) != 1:
            held = f"{len(classes)} classes derived from lannunet_core.Plugin"
            raise UserError(f"{self.path}: holds {held}, should hold one.")
        return classes[0]


def plugin_of(path: Path) -> FilePlugin:
    """The plugin in a file.

    Raises:
        UserError: There is no such file, or its name is not a module name.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    if not path.stem.isidentifier():
        raise UserError(
            f"{path}: the name of a plugin file must be a Python module name, of letters, digits and _."
        )
    return FilePlugin(path.stem, FILE, "0", str(path.absolute()))
