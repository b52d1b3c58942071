"""`lannunet plugins`: its commands exist, and are imported when they are called."""

import subprocess
import sys

import pytest

from lannunet_core import cli
from lannunet_core.cli import plugins


def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys\nfrom lannunet_core.cli import main\ntry:\n    main(['plugins', '--help'])\n"
        "finally:\n    print([m for m in sys.modules if m.startswith('lannunet_core.cli.')], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "['lannunet_core.cli.plugins']"
    for name in ("list", "show", "check", "new", "install", "uninstall"):
        assert f"\n  {name} " in ended.stdout


@pytest.mark.parametrize("name", plugins.COMMANDS)
def test_every_command_can_be_called(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["plugins", name, "--help"])
    assert not end.value.code
    assert f"lannunet plugins {name}" in capsys.readouterr().out
