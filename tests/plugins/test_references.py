"""Models by address, and bundles: which distribution opens them, and the message if none does."""

import dataclasses
from pathlib import Path

import pytest

from lannunet_core import UserError, api, located
from lannunet_core.plugins import discovery

GROUP = "[lannunet.model_formats]\n"
OPENER = """
from pathlib import Path

def open_it(path):
    return Path("opened") / path.name
"""


@pytest.fixture
def nobody(monkeypatch):
    """No distribution opens anything."""
    alone = dataclasses.replace(discovery.scan(), formats={})
    monkeypatch.setattr(discovery, "scan", lambda: alone)


@pytest.mark.parametrize(
    "name", ["wings.lnb", "https://models.example/wings.lnb#sha256=0", "hf://jo/wings/a.lnb", "WINGS.LNB"]
)
def test_without_a_plugin_the_distribution_is_named(nobody, name, tmp_path, trained, capsys):
    with pytest.raises(UserError, match="to open it, install lannunet-bundles: lannunet plugins install"):
        located(Path(name))
    with pytest.raises(UserError, match="to open it"):
        api.load(name)
    assert trained.lannunet("predict", name, trained.folder, "-o", tmp_path / "out") == 2
    assert "lannunet plugins install lannunet-bundles" in capsys.readouterr().err


def test_other_models_are_where_they_are(tmp_path):
    (tmp_path / "run.lnb").mkdir()
    for path in (tmp_path, tmp_path / "best.safetensors", tmp_path / "run.lnb", Path("a")):
        assert located(path) == path


def test_a_plugin_opens_what_it_registers(distribution):
    entry_points = GROUP + "s3 = opening_s3:open_it\nwng = opening_s3:open_it\n"
    distribution("opens-s3", {}, {"opening_s3.py": OPENER}, entry_points=entry_points)
    assert located(Path("s3://bucket/a.bin")) == Path("opened/a.bin")
    assert located(Path("some/a.wng")) == Path("opened/a.wng")


def test_two_that_open_the_same_are_refused(distribution):
    for name in ("opens-one", "opens-two"):
        module = name.replace("-", "_")
        distribution(name, {}, {f"{module}.py": OPENER}, entry_points=GROUP + f"wng = {module}:open_it\n")
    with pytest.raises(
        UserError, match=r"'wng' is claimed by opens-\w+ .* and by opens-\w+ .* Uninstall one"
    ):
        located(Path("a.wng"))
