"""pip for the Python that runs lannunet."""

import importlib.util
import subprocess
import sys

from lannunet_core.errors import RunFailed


def pip(*arguments: str) -> None:
    """Run pip, with its output on our stdout and stderr.

    Raises:
        RunFailed: There is no pip, or it fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise RunFailed(
            f"there is no pip in the Python that runs lannunet ({sys.executable}). "
            f"`{sys.executable} -m ensurepip` installs it; with uv: "
            f"uv pip {arguments[0]} --python {sys.executable} …"
        )
    sys.stdout.flush()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command).returncode
    if code:
        raise RunFailed(f"pip {arguments[0]} failed (exit code {code}); its output is above.")
