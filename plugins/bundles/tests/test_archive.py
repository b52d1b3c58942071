"""Invalid bundles: each is refused with one sentence, before any of its content is used."""

import io
import json
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from lannunet_bundles import opening
from lannunet_bundles.archive import in_order, packed, verified
from lannunet_bundles.manifest import Manifest, StoredFile

from lannunet_core import UserError

FILES = {"README.md": b"# A model\n", "fold0/checkpoints/best.safetensors": bytes(range(256))}


def manifest_of(files, **more):
    described = {
        "format": 1,
        "made_by": "a test",
        "task": "landmarks",
        "architecture": "unet",
        "plugins": [],
        "requires": [],
        "models": ["fold0/checkpoints/best.safetensors"],
        "outputs": ["a"],
        "dimensions": 2,
        "in_channels": 1,
        "input_size": [8, 8],
        "files": {name: StoredFile.of(content) for name, content in sorted(files.items())},
    }
    return Manifest(**described | more).text().encode()


def sound(files=FILES, **more):
    """The bytes of a bundle."""
    whole = {**files, "manifest.json": manifest_of(files, **more)}
    return b"".join(packed((name, whole[name]) for name in in_order(whole)))


def zipped(entries, compression=zipfile.ZIP_STORED, mode=0o100644):
    """Anybody's zip of (name, content) or (ZipInfo, content)."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            info = name
            if isinstance(name, str):
                info = zipfile.ZipInfo(name)
                info.external_attr, info.compress_type = mode << 16, compression
            archive.writestr(info, content)
    return written.getvalue()


@pytest.fixture
def refused(tmp_path):
    """The message for a bundle of these bytes; opening it writes nothing."""

    def refused(content, where=None):
        path = tmp_path / "a.lnb"
        path.write_bytes(content)
        before = set(tmp_path.rglob("*"))
        with pytest.raises(UserError) as error:
            verified(path)
        said = str(error.value)
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
        assert set(tmp_path.rglob("*")) == before
        return said.removeprefix(f"{path}: ")

    return refused


def test_a_sound_one_is_a_zip_like_any_other(tmp_path):
    path = tmp_path / "a.lnb"
    path.write_bytes(sound())
    kept = {}
    manifest, digest = verified(path, kept.__setitem__)
    assert {name: kept[name] for name in FILES} == FILES
    assert len(digest) == 64
    assert manifest.outputs == ["a"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["README.md", "fold0/checkpoints/best.safetensors", "manifest.json"]
        assert archive.read("README.md") == FILES["README.md"]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_each_flipped_byte_is_refused(refused):
    content = sound()
    step = [*range(0, 400, 3), *range(400, len(content) - 400, 37), *range(len(content) - 400, len(content))]
    for place in step:
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        refused(bytes(flipped))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_one_is_refused(refused, share):
    content = sound()
    assert "is damaged" in refused(content[: int(share * len(content))])
    assert "is damaged" in refused(content + b"more")
    assert "is damaged" in refused(b"more" + content)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "a/../../evil.json",
        "/etc/evil.json",
        "C:/evil.json",
        "a\\..\\evil.json",
        "a//b.json",
        "./a.json",
    ],
)
def test_what_leads_out_of_it_is_refused(refused, name):
    said = refused(zipped([(name, b"{}"), ("manifest.json", manifest_of({name: b"{}"}))]))
    assert "a path outside of the bundle" in said


def test_a_link_is_refused(refused):
    link = zipfile.ZipInfo("link.json")
    link.external_attr = 0o120777 << 16
    said = refused(
        zipped([(link, b"/etc/passwd"), ("manifest.json", manifest_of({"link.json": b"/etc/passwd"}))])
    )
    assert "contains 'link.json', which is a link" in said


def test_a_pickle_is_refused(refused):
    evil = pickle.dumps(print)
    for name in ("best.pt", "data.pkl", "plugin.py", "weights.bin"):
        files = {**FILES, name: evil}
        assert f"contains '{name}', which may be code" in refused(sound(files))
    # by a name that may be there
    hidden = {**FILES, "more.json": evil}
    whole = {**hidden, "manifest.json": manifest_of(FILES)}
    content = b"".join(packed((name, whole[name]) for name in in_order(whole)))
    assert "contains 'more.json', which its manifest does not list" in refused(content)


def test_a_file_that_is_not_there_is_named(refused):
    whole = {"manifest.json": manifest_of(FILES), "README.md": FILES["README.md"]}
    said = refused(b"".join(packed((name, whole[name]) for name in in_order(whole))))
    assert "lacks 'fold0/checkpoints/best.safetensors', which its manifest lists" in said


def test_a_file_that_is_there_twice_is_refused(refused):
    entries = [
        ("README.md", b"# A"),
        ("README.md", b"# B"),
        ("manifest.json", manifest_of({"README.md": b"# A"})),
    ]
    assert "contains 'README.md' twice" in refused(zipped(entries))


def test_bombs_are_refused_before_they_grow(refused):
    zeros = bytes(30_000_000)
    files = {**FILES, "fold0/checkpoints/best.safetensors": zeros}
    bomb = zipped([*files.items(), ("manifest.json", manifest_of(files))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "which is compressed" in refused(bomb)
    # stored, and said to be large
    content = bytearray(sound())
    place = content.index(b"PK\1\2")
    struct.pack_into("<2L", content, place + 20, 2**31, 2**31)
    assert "would unpack to more than its size" in refused(bytes(content))
    struct.pack_into("<2L", content, place + 20, 10, 2**31)
    assert "whose sizes differ" in refused(bytes(content))


def test_entries_that_share_their_bytes_are_refused(refused):
    """A bomb without compression: many entries of a directory, one content."""
    content, names = b"", [f"{n}.json" for n in range(200)]
    files = dict.fromkeys(names, b"{" + b" " * 5000 + b"}")
    one, directory = b"".join(packed([("0.json", files["0.json"])])), b""
    entry = one[one.index(b"PK\1\2") : one.index(b"PK\5\6")]
    content = one[: one.index(b"PK\1\2")]
    for _ in names:
        directory += entry
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), len(content), 0)
    assert "'0.json' twice" in refused(content + directory + end)


def test_a_wrong_hash_is_refused(refused):
    other = {**FILES, "README.md": b"# B model\n"}
    whole = {**other, "manifest.json": manifest_of(FILES)}
    said = refused(b"".join(packed((name, whole[name]) for name in in_order(whole))))
    assert "is damaged: 'README.md' differs from its manifest" in said


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (
            {"format": 2},
            r"is a bundle of format 2, and this version of LannU-Net reads format 1. "
            "Update LannU-Net: pip install --upgrade lannunet",
        ),
        ({"format": 1}, r"manifest.json in it is damaged \(made_by\)"),
        ([], r"manifest.json in it is damaged"),
        ({}, r"manifest.json in it is damaged"),
    ],
)
def test_a_manifest_of_another_kind(refused, manifest, said):
    assert re.match(said, refused(zipped([("manifest.json", json.dumps(manifest))])))


def test_what_pip_would_fetch_from_elsewhere_is_refused(refused):
    for requires in ("evil @ https://evil.example/x.whl", "a; import os", "--index-url=x", "a[b]"):
        content = json.loads(manifest_of(FILES)) | {"requires": [requires]}
        assert "damaged (requires.0)" in refused(zipped([("manifest.json", json.dumps(content))]))


def test_what_has_no_manifest_is_no_bundle(refused):
    assert "is not a bundle" in refused(zipped([("README.md", b"# A")]))
    assert "is damaged" in refused(b"PK\3\4")
    assert "is damaged" in refused(b"")


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("LANNUNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "_opened", {})
    path = tmp_path / "a.lnb"
    path.write_bytes(sound())
    return path


def test_it_is_unpacked_once_and_what_was_changed_there_is_unpacked_again(bundle, monkeypatch):
    folder = opening.open_bundle(bundle)
    assert folder.parent == bundle.parent / "cache" / "bundles"
    assert (folder / "README.md").read_bytes() == FILES["README.md"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    made = folder.stat().st_ino
    monkeypatch.setattr(opening, "_opened", {})
    assert opening.open_bundle(bundle) == folder
    assert folder.stat().st_ino == made
    for change in (
        lambda: (folder / "README.md").write_bytes(b"# changed"),
        lambda: (folder / "evil.json").write_bytes(b""),
        lambda: (folder / "README.md").unlink(),
        lambda: ((folder / "README.md").unlink(), (folder / "README.md").symlink_to(bundle)),
    ):
        change()
        monkeypatch.setattr(opening, "_opened", {})
        assert opening.open_bundle(bundle) == folder
        assert {path.name for path in folder.iterdir()} == {"README.md", "fold0", "manifest.json"}
        assert (folder / "README.md").read_bytes() == FILES["README.md"]
        assert not (folder / "README.md").is_symlink()


def test_what_it_needs_is_named_with_the_command(tmp_path, bundle):
    bundle.write_bytes(sound(requires=["lannunet-core>=0.1", "lannunet-wings>=1.2,<2", "torch>=99"]))
    with pytest.raises(UserError) as error:
        opening.open_bundle(bundle)
    assert re.fullmatch(
        r".*a\.lnb: needs lannunet-wings, which is not installed; and torch>=99, and \S+ is installed. "
        r"To continue: lannunet plugins install 'lannunet-wings>=1.2,<2' 'torch>=99'",
        str(error.value),
    )
    assert not (tmp_path / "cache").exists()


def test_an_open_bundle_that_is_gone(tmp_path):
    with pytest.raises(UserError, match="there is no such bundle"):
        opening.open_bundle(Path(tmp_path / "none.lnb"))
