"""`lannunet plugins install` and `uninstall` with the real pip, in a disposable environment."""

import importlib.util
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from lannunet_core import cli

REPOSITORY = Path(__file__).parents[2]
NET = "from lannunet_core import Plugin\nclass Net(Plugin): pass\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment, with libraries, core and pip of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), REPOSITORY]
    (site_packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(paths)))
    return folder / "bin" / "python"


@pytest.fixture
def lannunet(python, tmp_path):
    """Runs a command in the environment: exit code, stdout and stderr."""

    def run(*arguments, answer=""):
        program = "from lannunet_core.cli import main; main()"
        ended = subprocess.run(
            [python, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            input=answer,
            cwd=tmp_path,
        )
        return ended.returncode, ended.stdout, ended.stderr

    return run


@pytest.fixture
def wheel(tmp_path):
    """Makes a wheel of a distribution with one module."""

    def make(name, source, entry_points, *, version="1.0", requires=()) -> Path:
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        path = tmp_path / f"{module}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{module}.py", source)
            file.writestr(f"{info}/METADATA", metadata + "".join(f"Requires-Dist: {r}\n" for r in requires))
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/entry_points.txt", entry_points)
            file.writestr(
                f"{info}/RECORD", "".join(f"{name},,\n" for name in (*file.namelist(), f"{info}/RECORD"))
            )
        return path

    return make


@pytest.mark.slow
def test_install_says_what_it_brought_and_uninstall_takes_it_away(lannunet, wheel):
    path = wheel(
        "acme-nets",
        NET,
        "[lannunet.plugins]\nAcme = acme_nets:Net\nacme2 = acme_nets:Net\n"
        "[lannunet.commands]\nacme = acme_nets:Net\n"
        "[lannunet.image_formats]\nscans = acme_nets:FORMATS\n",
        version="1.2",
    )
    code, said, errors = lannunet("plugins", "install", path)
    assert code == 0, errors
    assert "Plugin 'Acme' (acme-nets 1.2) is installed: lannunet plugins show Acme\n" in said
    assert "Command 'acme' (acme-nets 1.2) is installed: lannunet acme --help\n" in said
    assert "Image formats 'scans' (acme-nets 1.2) are installed.\n" in said
    assert "acme-nets 1.2" in lannunet("plugins", "list")[1]

    code, said, errors = lannunet("plugins", "install", path)
    assert "No new plugin" in said

    code, said, errors = lannunet("plugins", "uninstall", "ACME-2", answer="n\n")
    assert code == 1
    brought = ", ".join(f"'{name}' (acme-nets 1.2)" for name in ("Acme", "acme", "scans"))
    assert f"Uninstall acme-nets, which provides {brought}?" in said
    assert "acme-nets 1.2" in lannunet("plugins", "list")[1]

    code, said, errors = lannunet("plugins", "uninstall", "ACME-2", answer="y\n")
    assert code == 0, errors
    assert said.endswith("acme-nets is uninstalled.\n")
    assert "acme-nets" not in lannunet("plugins", "list")[1]


@pytest.mark.slow
def test_broken_ones_are_installed_and_uninstalled_like_others(lannunet, wheel):
    entry_points = (
        "[lannunet.plugins]\nbroken = broken_net:Net\n[lannunet.commands]\nbreak = broken_net:gone\n"
    )
    path = wheel("broken-net", "import os\nos._exit(3)", entry_points)
    code, said, _ = lannunet("plugins", "install", path)
    assert code == 0
    assert "Plugin 'broken' (broken-net 1.0) is installed" in said
    claimant = wheel("claimant", "raise ValueError", "[lannunet.plugins]\nBroken = claimant:Net\n")
    assert (
        "problem: the name 'Broken' is also claimed by broken-net"
        in lannunet("plugins", "install", claimant)[1]
    )

    code, _, errors = lannunet("plugins", "uninstall", "broken", "-y")
    assert code == 2
    assert "'broken' is provided by broken-net and by claimant. Name the distribution" in errors
    assert lannunet("plugins", "uninstall", "claimant", "-y")[0] == 0
    code, said, _ = lannunet("plugins", "uninstall", "broken", "-y")
    assert (code, said.splitlines()[-1]) == (0, "broken-net is uninstalled.")


def test_what_pip_refuses_ends_with_its_output(lannunet, wheel, tmp_path):
    code, _, errors = lannunet("plugins", "install", tmp_path / "nothing.whl")
    assert code == 1
    assert "nothing.whl" in errors
    assert errors.splitlines()[-1] == "Error: pip install failed (exit code 1); its output is above."
    entry_points = "[lannunet.plugins]\nahead = ahead:Net\n"
    ahead = wheel("ahead", NET, entry_points, requires=["lannunet-core>=99"])
    code, said, errors = lannunet("plugins", "install", "--", "--no-index", ahead)
    assert code == 1
    assert "lannunet-core>=99" in said + errors


def test_only_what_brings_plugins_is_uninstalled(lannunet):
    for name in ("numpy", "lannunet-core", "nothing"):
        code, _, errors = lannunet("plugins", "uninstall", name, "-y")
        assert code == 2
        assert f"No installed distribution provides a plugin '{name}'. Installed: " in errors


def test_what_pip_has_not_installed_stays_and_is_named(lannunet, python, tmp_path):
    (site_packages,) = python.parents[1].glob("lib/python*/site-packages")
    (site_packages / "further.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    info = tmp_path / "elsewhere" / "far-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lannunet.plugins]\nfar = far:Net\n")
    code, _, errors = lannunet("plugins", "uninstall", "far", "-y")
    assert code == 1
    assert f"far is still in {tmp_path / 'elsewhere'}, where pip has not put it." in errors.replace("\n", " ")


@pytest.mark.parametrize("command", [["install", "acme"], ["uninstall", "unet", "-y"]])
def test_without_pip_it_says_how_to_get_it(command, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pip" else found(name, *more)
    )
    with pytest.raises(SystemExit) as end:
        cli.main(["plugins", *command])
    assert end.value.code == 1
    assert f"there is no pip in the Python that runs lannunet ({sys.executable})" in capsys.readouterr().err
