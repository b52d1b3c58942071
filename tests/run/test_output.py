import pytest

from lannunet_core.errors import UserError
from lannunet_core.run import output


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "run"
    for name in (*output.RUN_FOLDERS, "mine"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").touch()
    for name in (*output.RUN_FILES, "notes.txt"):
        (folder / name).touch()
    return folder


def everything(folder):
    return sorted(folder.rglob("*"))


def test_claiming_makes_a_folder(tmp_path):
    output.claim_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_claiming_removes_a_run_and_nothing_else(run_folder):
    output.claim_folder(run_folder)
    assert sorted(path.name for path in run_folder.iterdir()) == ["mine", "notes.txt"]


def test_claiming_to_resume_removes_nothing(run_folder):
    before = everything(run_folder)
    output.claim_folder(run_folder, resume=True)
    assert everything(run_folder) == before


def test_what_a_killed_run_left_half_written_goes(run_folder):
    (run_folder / "checkpoints" / ".latest.123.pt").touch()
    output.claim_folder(run_folder, resume=True)
    assert [path.name for path in (run_folder / "checkpoints").iterdir()] == ["file"]


def test_a_folder_with_other_things_is_free(tmp_path):
    (tmp_path / "notes.txt").touch()
    output.refuse_folder(tmp_path, "key", "do this")
    output.refuse_folder(tmp_path / "new" / "folder", "key", "do this")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output.refuse_folder(output.Path("new/folder"), "key", "do this")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", output.RUN_FILES + output.RUN_FOLDERS)
def test_any_part_of_a_run_is_refused(run_folder, name):
    for path in run_folder.iterdir():
        if path.name != name:
            path.rename(run_folder.parent / path.name)
    with pytest.raises(UserError, match=r"key: .*run already holds a run; do this or name another folder"):
        output.refuse_folder(run_folder, "key", "do this")
    output.refuse_folder(run_folder, "key", None)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(UserError, match=r"key: .*file.* cannot be written .*; name another folder"):
            output.refuse_folder(folder, "key", None)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_git_state_outside_of_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert output.git_state() is None


def test_git_state_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert output.git_state() is None
