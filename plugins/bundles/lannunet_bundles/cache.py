"""The cache folders of unpacked bundles and of downloads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "LANNUNET_CACHE"


def cache_folder(kind: str) -> Path:
    """The folder of this kind in the user's cache, created if missing; `LANNUNET_CACHE` moves the cache."""
    if given := os.environ.get(VARIABLE):
        cache = Path(given)
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lannunet"
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches" / "lannunet"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lannunet"
    folder = cache.absolute() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
