"""`lannunet plugins check`: the table, and the exit codes."""

import pytest

from lannunet_core import cli

TINY = """
from pydantic import Field
from lannunet_core import Plugin, PluginConfig, hookimpl
from lannunet_core.errors import UserError

class Tiny(Plugin):
    class Config(PluginConfig):
        features: int = Field(4, ge=1, description="Features of the hidden layer.")

    @hookimpl
    def network(self):
        from torch import nn
        if self.run.dimensions == 3:
            raise UserError("tiny: volumes are not supported; use unet.")
        return nn.Sequential(
            nn.Conv2d(self.run.in_channels, self.config.features, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(self.config.features, len(self.run.outputs), 5, padding=2),
        )
"""


@pytest.fixture
def check(distribution, monkeypatch, capsys):
    """Install a plugin `Tiny-Net`, check a name, and return the exit code and the output."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(name="tinynet", *options, source=TINY, requires=("lannunet-core>=0.1",)):
        distribution("tiny-net", {"Tiny-Net": "tiny:Tiny"}, {"tiny.py": source}, requires=requires)
        with pytest.raises(SystemExit) as end:
            cli.main(["plugins", "check", name, *options])
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_a_sound_plugin(check):
    code, out, _ = check()
    assert code == 0
    assert "Plugin 'Tiny-Net' (tiny-net 1.0)" in out
    row = next(line for line in out.splitlines() if "gradients reach every parameter" in line)
    assert "Every parameter that is to be learned gets a finite gradient" in row
    assert row.startswith("passed ")
    assert (
        "three dimensions, not claimed: 3D is not claimed: in 3D landmarks it refuses: tiny: volumes are "
        "not supported" in out
    )
    assert " 0 failed, " in out


def test_a_broken_plugin(check):
    code, out, _ = check(source=TINY.replace(", padding=2),\n            nn.ReLU", "),\n            nn.ReLU"))
    assert code == 1
    assert "failed       shapes and dtypes: " in out
    assert (
        "shapes and dtypes, failed: for an image (1, 1, 48, 64) and 1 output(s), the first output has" in out
    )


def test_a_plugin_that_cannot_be_imported(check):
    code, _, err = check(source="raise RuntimeError('no licence')")
    assert code == 1
    assert "no licence" in err


def test_a_network_that_cannot_be_built(check):
    code, out, _ = check(source=TINY.replace("from torch import nn", "from torch import no_such_name"))
    assert code == 1
    assert "two dimensions, failed: in 2D landmarks it raises" in out
    assert "no_such_name" in out


def test_an_unknown_plugin(check):
    code, _, err = check("tinyned")
    assert code == 2
    assert "No plugin 'tinyned' is installed. Did you mean 'Tiny-Net'?" in err


def test_settings(check):
    code, out, err = check("tinynet", "--set", "features=0")
    assert (code, out) == (2, "")
    assert "--set: features: Input should be greater than or equal to 1" in err
