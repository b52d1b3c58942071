"""Images that count as the same: one file, and files with the same bytes."""

from lannunet_landmarks.data.groups import CHUNK, contents, joined


def test_files_of_the_same_bytes(tmp_path):
    start = bytes(2 * CHUNK)
    for name, content in {
        "a": start + b"1",
        "b": start + b"1",
        "c": start + b"2",
        "d": b"1",
        "e": b"2",
    }.items():
        (tmp_path / name).write_bytes(content)
    for name in ("f.mhd", "g.mhd"):  # their pixels are elsewhere
        (tmp_path / name).write_text("ElementDataFile = pixels.raw")
    (tmp_path / "link").symlink_to(tmp_path / "d")
    (tmp_path / "within").mkdir()
    names = ["a", "b", "c", "d", "e", "f.mhd", "g.mhd", "link", "within/../c", "within", "none"]
    known = contents(tmp_path / name for name in names)
    alike = {
        frozenset(other for other in names if known[tmp_path / other] == known[tmp_path / name])
        for name in names
    }
    assert {group for group in alike if len(group) > 1} == {
        frozenset({"a", "b"}),
        frozenset({"c", "within/../c"}),
        frozenset({"d", "link"}),
    }


def test_what_has_a_key_in_common_is_joined():
    assert joined([[1], [2], [3, 1], [4], [2, 3], [4]]) == [[0, 1, 2, 4], [3, 5]]
    assert joined([]) == []
