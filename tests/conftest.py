"""What tests of several parts share."""

import sys
from pathlib import Path

import pytest

from lannunet_core.plugins import discovery


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs a distribution for the length of a test: its metadata and its modules in a folder on the path.

    Call it with a name and its plugins (entry-point name to `module:Class`), and optionally modules (file
    name to source). It returns the folder of the metadata.
    """
    discovery.scan.cache_clear()
    before = set(sys.modules)

    def install(
        name, plugins, files=None, *, version="1.0", requires=(), commands=None, entry_points="", extra=None
    ) -> Path:
        folder = tmp_path / "installed" / name
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {r}" for r in requires),
        ]
        (metadata / "METADATA").write_text("\n".join(lines) + "\n")
        for group, entries in (("lannunet.plugins", plugins), ("lannunet.commands", commands or {})):
            entry_points += f"\n[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        (metadata / "entry_points.txt").write_text(entry_points)
        for file, text in (extra or {}).items():
            (metadata / file).write_text(text)
        for file, text in (files or {}).items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(folder)
        discovery.scan.cache_clear()
        return metadata

    yield install
    discovery.scan.cache_clear()
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[module]
