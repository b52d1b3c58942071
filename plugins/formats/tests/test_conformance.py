"""The conformance kit on our own formats, and on a third-party one."""

import json
import sys

import pytest
from lannunet_landmarks.conformance import FormatConformance
from lannunet_landmarks.data.formats import formats

from lannunet_core import cli, registered
from lannunet_core.plugins import discovery
from lannunet_core.testing import Broken

BOTH = sorted(one.name for one in formats() if one.read and one.write)


def checks(name):
    """The result of each check that needs no separate process."""
    suite = type(name, (FormatConformance,), {"format": name})()
    outcomes = {}
    for check in vars(FormatConformance):
        if check.startswith("test_") and check != "test_formats_import_without_torch":
            try:
                getattr(suite, check)()
                outcomes[check] = ""
            except Broken as broken:
                outcomes[check] = str(broken)
    return outcomes


@pytest.mark.parametrize("name", BOTH)
def test_ours_keep_their_contracts(name):
    assert set(checks(name).values()) == {""}


def test_looking_for_formats_imports_no_torch():
    suite = type("Any", (FormatConformance,), {"format": "csv"})()
    suite.test_formats_import_without_torch()


STRANGER = """
from lannunet_core import write_text
from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, mark_of, relative_to


def matches(path):
    return path.suffix == ".pts" and path.read_text().startswith("points of ")


def read(path, images):
    finder, found, names = ImageFinder(images, path.parent), [], {}
    for line in path.read_text().splitlines():
        if line.startswith("points of "):
            image = finder.named(line.removeprefix("points of "), str(path))
            found.append(Annotated(image, {}, source=f"{path}, {image.name}"))
        else:
            name, *numbers = line.split()
            found[-1].marks[name] = mark_of(numbers, f"{path}, {name}")
            names[name] = None
    return Annotations(tuple(names), tuple(found))


def write(annotations, out):
    lines = []
    for one in annotations.images:
        lines.append(f"points of {relative_to(one.image, out.parent)}")
        lines += [" ".join([name, *map(repr, mark.at)]) for name, mark in one.marks.items() if mark.at]
    write_text(out, "\\n".join(lines))


PTS = LandmarkFormat("pts", "points in lines", matches, read, write, file="a.pts")
"""
ENTRY = "[lannunet.landmark_formats]\npts = strange_points:{}\n"


@pytest.fixture
def install(distribution):
    def install(value="PTS", source=STRANGER):
        distribution("strange-points", {}, {"strange_points.py": source}, entry_points=ENTRY.format(value))
        registered.cache_clear()
        discovery.scan.cache_clear()

    yield install
    registered.cache_clear()


def test_a_strangers_format_is_found_listed_used_and_checked(install, make_project, capsys):
    assert len(STRANGER.strip().splitlines()) < 40
    install()
    with pytest.raises(SystemExit):
        cli.main(["plugins", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)["landmark_formats"]
    assert "strange_points" not in sys.modules  # listing imports nothing
    assert [one["distribution"] for one in listed if one["name"] == "pts"] == ["strange-points"]

    project = make_project()
    project.write()
    assert project.lannunet("export", project.json, "--format", "pts", "-o", project.folder / "all.pts") == 0
    assert "points in lines cannot hold which of 8 images" in capsys.readouterr().err
    project.set(dataset={"src_targets": "all.pts"}, solver={"max_epochs": 1, "mini_batch_size": 1})
    assert project.train() == 0
    assert "has no lists, so its images are split by their ids" in capsys.readouterr().err
    assert {row["landmark"] for row in project.rows()} == {"0", "1"}
    project.set(dataset={"format": "PTS"})
    project.write()
    assert project.lannunet("config", "check", project.yaml) == 0
    capsys.readouterr()
    assert project.lannunet("plugins", "check", "PTS") == 0
    said = capsys.readouterr().out
    assert "Format 'pts' (strange-points 1.0)" in said
    assert "6 passed, 0 failed, 0 not claimed" in said


@pytest.mark.parametrize(("right", "wrong", "check", "said"), [
    ("mark_of(numbers,", "mark_of(numbers[::-1],", "test_what_it_writes_it_reads", "pixels off"),
    (" and path.read_text()", " or not path.read_text()", "test_it_knows_its_own_files_alone", "its own"),
    ("tuple(names), tuple(found))", "(), tuple(found))", "test_an_example_is_read", "not among the names"),
])  # fmt: skip
def test_the_kit_finds_a_fault(right, wrong, check, said, install):
    assert right in STRANGER
    install(source=STRANGER.replace(right, wrong))
    suite = type("Wrong", (FormatConformance,), {"format": "pts"})()
    with pytest.raises(Exception, match=said):
        getattr(suite, check)()


def test_a_check_by_command_of_what_writes_no_or_reads_no_or_is_broken(
    install, write_slp, tmp_path, pictures, capsys
):
    """A format that only reads is checked with an example, which is not changed."""

    def check(*words):
        with pytest.raises(SystemExit) as end:
            cli.main(["plugins", "check", *map(str, words)])
        return end.value.code or 0, "".join(capsys.readouterr())

    (tmp_path / "a0.png").write_bytes((pictures / "a0.png").read_bytes())
    backend = {"filename": "a0.png", "filenames": ["a0.png"]}
    path = write_slp(tmp_path / "labels.slp", ["tip"], [backend], [(0, 0, 0, [[(1.0, 2.0, True)]])])
    before = path.read_bytes()
    assert check("sleap", "--set", f"example={path}")[0] == 0
    assert path.read_bytes() == before
    code, said = check("sleap")
    assert code == 0
    assert "set `example` to a file" in said
    assert "2 passed, 0 failed, 4 not claimed" in check("dicom-sr")[1]
    code, said = check("sleap", "--set", "file=a")
    assert (code, "has no setting file, but example." in said) == (2, True)
    code, said = check("images")
    assert (code, "is one of the image formats, for which there are no checks" in said) == (2, True)
    wrong = STRANGER.replace("mark_of(numbers,", "mark_of(numbers[::-1],")
    install("BOTH", f"{wrong}\nBOTH = [PTS]\n")
    code, said = check("pts")
    assert (code, "pixels off" in said) == (1, True)


def test_what_is_no_format_is_named_and_left_out(install):
    install("matches")
    with pytest.warns(UserWarning, match="is not a list of lannunet_landmarks.LandmarkFormat"):
        assert "pts" not in {one.name for one in formats()}
