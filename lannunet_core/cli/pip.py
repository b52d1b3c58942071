"""pip of the Python that runs lannunet."""

import importlib.util
import subprocess
import sys

from lannunet_core.errors import RunFailed


def pip(*arguments: str) -> None:
    """Run it, with its output where ours goes.

    Raises:
        RunFailed: There is no pip, or it fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise RunFailed(
            f"there is no pip in the Python that runs lannunet ({sys.executable}). "
            f"`{sys.executable} -m ensurepip` puts it there; with uv: "
            f"uv pip {arguments[0]} --python {sys.executable} …"
        )
    sys.stdout.flush()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command).returncode
    if code:
        raise RunFailed(f"pip {arguments[0]} failed (exit code {code}); what it says is above.")
