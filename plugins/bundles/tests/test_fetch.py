"""Models by address, from a server on this machine: resumed, verified before use, and kept."""

import hashlib
import os
from pathlib import Path

import pytest
from lannunet_bundles.fetch import fetch

from lannunet_core import RunFailed, UserError, load_config, located
from tests.compatibility.test_compatibility import VERSIONS

CONTENT = os.urandom(700_000)


def address(server, content=CONTENT, path="/models/m.safetensors"):
    server.files[path] = content
    return Path(f"{server.address}{path}#sha256={hashlib.sha256(content).hexdigest()}")


def test_it_is_fetched_once(server, cache):
    model = address(server)
    found = fetch(model)
    assert found.read_bytes() == CONTENT
    assert found.is_relative_to(cache)
    assert located(model) == found
    assert server.ranges == [None]


def test_another_process_checks_what_is_kept(server, monkeypatch):
    model = address(server)
    found = fetch(model)
    monkeypatch.setattr("lannunet_bundles.fetch._fetched", {})
    assert fetch(model) == found
    assert len(server.ranges) == 1
    found.write_bytes(CONTENT[:-1] + b"x")
    monkeypatch.setattr("lannunet_bundles.fetch._fetched", {})
    assert fetch(model).read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_another_hash_is_another_model(server):
    """This also holds for an address that this process fetched before."""
    first = address(server)
    assert fetch(first).read_bytes() == CONTENT
    second = address(server, CONTENT[::-1])
    assert fetch(second).read_bytes() == CONTENT[::-1]
    assert fetch(first).read_bytes() == CONTENT


def test_an_interruption_is_gone_on_from(server):
    model = address(server)
    server.cut = [100_000, 250_000]
    assert fetch(model).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=350000-"]


def test_so_it_is_by_the_next_command(server):
    model = address(server)
    server.cut = [100_000, 0, 0]
    with pytest.raises(RunFailed, match=r"was interrupted after 100000 bytes .* Try again to resume it"):
        fetch(model)
    assert fetch(model).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


def test_a_server_that_cannot_resume_gives_all_of_it(server):
    model = address(server)
    server.cut, server.resumes = [100_000], False
    assert fetch(model).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_stays(server, cache):
    model = address(server)
    server.files["/models/m.safetensors"] = CONTENT[::-1]
    with pytest.raises(UserError, match=r"its content has the SHA-256 .*, not .*, and was removed"):
        fetch(model)
    assert not [path for path in (cache / "downloads").iterdir() if path.suffix != ".lock"]
    server.files["/models/m.safetensors"] = CONTENT
    assert fetch(model).read_bytes() == CONTENT


@pytest.mark.parametrize("fragment", ["", "#sha256=abc", "#md5=" + "0" * 64])
def test_an_address_without_a_hash_is_refused(server, fragment):
    with pytest.raises(UserError, match="has no hash, so its content cannot be checked"):
        fetch(Path(f"{server.address}/m.safetensors{fragment}"))


def test_what_is_not_encrypted_is_not_fetched(server):
    digest = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(UserError, match=r"http://models.example/m.lnb: is not downloaded without encryption"):
        fetch(Path(f"http://models.example/m.lnb#sha256={digest}"))
    server.moved["/moved.lnb"] = "http://models.example/m.lnb"
    with pytest.raises(UserError, match=r"redirects to http://models.example/m.lnb, which is not encrypted"):
        fetch(Path(f"{server.address}/moved.lnb#sha256={digest}"))


def test_a_redirection_on_the_way_is_followed(server):
    model = address(server)
    server.moved["/latest.safetensors"] = "/models/m.safetensors"
    moved = str(model).replace("/models/m.safetensors", "/latest.safetensors")
    assert fetch(Path(moved)).read_bytes() == CONTENT


def test_what_is_not_there_is_said(server):
    digest = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(UserError, match=r"none.lnb: cannot be downloaded \(404 Not Found\)"):
        fetch(Path(f"{server.address}/none.lnb#sha256={digest}"))
    with pytest.raises(UserError, match="cannot name a file"):
        fetch(Path(f"{server.address}/a%2F..%2Fb.lnb#sha256={digest}"))


def test_a_bundle_is_opened(server):
    kept = VERSIONS[0] / "landmarks" / "model.lnb"
    model = address(server, kept.read_bytes(), "/wings.lnb")
    folder = located(model)
    assert (folder / "checkpoints" / "best.safetensors").is_file()


def test_a_configuration_names_one(server, project, capsys):
    """The address is not treated as a path, and a run starts from it."""
    kept = VERSIONS[0] / "landmarks" / "model.lnb"
    model = address(server, kept.read_bytes(), "/wings.lnb")
    project.set(model={"checkpoint": str(model)}, trainer={"inference_only": True})
    project.write()
    assert load_config(project.yaml).run.model.checkpoint == model
    assert project.lannunet("config", "check", project.yaml) == 0
    assert project.train() == 0, capsys.readouterr().err
    assert len(project.rows()) == 4
    project.set(model={"checkpoint": str(model).replace("wings", "others")})
    project.write()
    assert project.lannunet("config", "check", project.yaml) == 2
    assert "others.lnb: cannot be downloaded (404 Not Found)" in capsys.readouterr().err
