"""The command line: exit codes, messages, lazy imports, third-party commands."""

import os
import re
import subprocess
import sys

import pytest

from lannunet_core import __version__, cli
from lannunet_core.errors import RunFailed, UserError

HEAVY = ("torch", "imgaug", "SimpleITK", "matplotlib", "lightning_fabric", "numpy", "scipy", "cv2")
FUNCTION = """
def greet(name: str, loud: bool = False):
    print(f"hello {name} {loud}")
"""
APP = """
import typer
app = typer.Typer()
@app.command()
def only():
    print("only one")
"""


def run(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return end.value.code or 0


@pytest.fixture
def raising(monkeypatch):
    """Make `lannunet plan` raise the given exception."""

    def make(error):
        def command() -> None:
            raise error

        monkeypatch.setattr(cli, "_core_command", lambda name: command)

    return make


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["--version"], ["plugins", "--help"]])
def test_light_commands_import_nothing_heavy(arguments):
    script = (
        f"import sys\nfrom lannunet_core.cli import main\ntry:\n    main({arguments!r})\n"
        f"finally:\n    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "[]"
    assert ended.returncode == 0


def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys\nfrom lannunet_core.cli import main\ntry:\n    main(['--help'])\n"
        "finally:\n    print([m for m in sys.modules if m.startswith('lannunet_core.cli.')], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "[]"
    for name in ("demo", "train", "predict", "evaluate", "config", "plugins"):
        assert f"\n  {name} " in ended.stdout


def test_every_core_command_can_be_called(capsys):
    for name in cli.COMMANDS:
        assert run(name, "--help") == 0
        assert f"lannunet {name}" in capsys.readouterr().out


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"lannunet-core {__version__}"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("model: what is this?"), 2, "Error: model: what is this?\n"),
        (RunFailed("the loss is NaN"), 1, "Error: the loss is NaN\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (KeyboardInterrupt(15), 143, "Interrupted.\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "Error: /a/b: Permission denied.\n"),
        (OSError(28, "No space left on device"), 1, "Error: a file: No space left on device.\n"),
    ],
)
def test_ends_with_one_plain_message_and_its_exit_code(raising, capsys, error, code, said):
    raising(error)
    assert run("plan") == code
    assert capsys.readouterr().err == said


def test_debug_shows_the_traceback(raising, capsys):
    raising(UserError("wrong key"))
    assert run("--debug", "plan") == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "wrong key" in shown


def test_our_bugs_are_not_hidden(raising):
    raising(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["plan"])


@pytest.mark.parametrize(
    "arguments", [["trian"], ["--nonsense"], ["plugins", "list", "--nonsense"], ["plugins", "lis"]]
)
def test_usage_errors(arguments, capsys):
    assert run(*arguments) == 2
    shown = capsys.readouterr().err
    assert "Error: No such" in shown
    assert "╭" not in shown
    if arguments == ["trian"]:
        assert "train" in shown.splitlines()[-1]


def test_commands_of_others_are_listed_and_imported_only_when_called(distribution, capsys):
    distribution(
        "acme-tools",
        {},
        {
            "acme_tools.py": FUNCTION,
            "acme_app.py": APP,
        },
        version="4.2",
        commands={"greet": "acme_tools:greet", "acme": "acme_app:app"},
    )
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  greet +\(acme-tools 4.2\)$", shown, re.M)
    assert "acme_tools" not in sys.modules
    assert run("greet", "you", "--loud") == 0
    assert capsys.readouterr().out == "hello you True\n"
    assert "acme_app" not in sys.modules
    assert run("acme", "only") == 0
    assert capsys.readouterr().out == "only one\n"


def test_broken_command_of_others_harms_only_itself(distribution, capsys):
    distribution(
        "acme-tools",
        {},
        {"acme_broken.py": "raise SystemExit(0)", "acme_odd.py": "thing = 3"},
        commands={"broken": "acme_broken:main", "odd": "acme_odd:thing"},
    )
    assert run("--help") == 0
    assert run("plugins", "list") == 0
    capsys.readouterr()
    assert run("broken") == 2
    shown = capsys.readouterr().err
    assert "'broken' (acme-tools 1.0) cannot be imported" in shown
    assert "SystemExit" in shown
    assert run("odd") == 2
    assert "not a function or typer app" in capsys.readouterr().err


def test_core_names_cannot_be_taken(distribution, capsys):
    distribution(
        "acme-tools",
        {},
        {"acme_thief.py": "def thief():\n    print('stolen')\n"},
        commands={"plugins": "acme_thief:thief"},
    )
    assert run("plugins", "list") == 0
    shown = capsys.readouterr()
    assert "stolen" not in shown.out
    assert "acme-tools 1.0 provides a command 'plugins'; it is ignored" in shown.err
    assert run("--help") == 0
    assert "acme-tools 1.0" in capsys.readouterr().err


def test_two_distributions_that_claim_one_command(distribution, capsys):
    for name in ("first", "second"):
        distribution(name, {}, commands={"both": f"{name}_module:run"})
    assert run("both") == 2
    shown = capsys.readouterr().err
    assert "first 1.0 (first_module:run)" in shown
    assert "second 1.0 (second_module:run)" in shown


def test_warnings_for_users_are_one_plain_line(distribution):
    metadata = distribution(
        "acme-tools",
        {},
        {"acme_chatty.py": "print('noise')\ndef talk():\n    print('answer')\n"},
        commands={"talk": "acme_chatty:talk"},
    )
    ended = subprocess.run(
        [sys.executable, "-c", "from lannunet_core.cli import main; main(['talk'])"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(metadata.parent)},
    )
    assert ended.stdout == "answer\n"
    noise, warning = ended.stderr.splitlines()
    assert noise == "noise"
    assert warning.startswith("Warning: The command 'talk' (acme-tools 1.0) prints")
