import os
from pathlib import Path

import pytest

from lannunet_core.errors import UserError
from lannunet_core.files import atomic_path, inside, write_text


def test_a_new_file_replaces_the_old_one_and_nothing_else_stays(tmp_path):
    target = tmp_path / "summary.json"
    write_text(target, "old")
    write_text(target, "new, größer")
    assert target.read_text(encoding="utf-8") == "new, größer"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_half_way_leaves_what_was_there(tmp_path, existed):
    target = tmp_path / "model.safetensors"
    if existed:
        target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_bytes(b"ha")
        raise KeyboardInterrupt
    assert target.exists() == existed
    assert not existed or target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target] * existed


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path):
    with atomic_path(tmp_path / "page.xlsx") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".xlsx"
        assert not (tmp_path / "page.xlsx").exists()
        temporary.write_bytes(b"")


def test_the_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("flush"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to)))
    write_text(tmp_path / "a.txt", "a")
    assert steps == ["flush", "rename"]


@pytest.mark.parametrize("name", ["case_1", "Fall 7 (links)", "größe.nii.gz", "a.b", "...", "-x", "=1+1"])
def test_names_that_can_name_a_file(tmp_path, name):
    assert inside(tmp_path, name, "dataset.json") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../victim",
        "a/b",
        "/etc",
        "a\\b",
        "C:x",
        "a\nb",
        "a\0b",
        "\ud800",
        "\x1b[1m",
        "x" * 300,
    ],
)
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(UserError, match=r"^dataset.json: .* cannot name a file in"):
        inside(tmp_path, name, "dataset.json")
