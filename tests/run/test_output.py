import pytest

from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.record import LOCK, RECORD, lock_folder, releasing
from lannunet_core.run import output

OURS = ("run.json", "report.html", "checkpoints/latest.pt", "methods/mean/predictions.csv")


@pytest.fixture(autouse=True)
def _release():
    with releasing():
        yield


def make_run(folder, names=OURS):
    """Outputs of a run, next to third-party files."""
    with releasing():
        lock_folder(folder)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, "{}")
    (folder / "notes.txt").touch()
    (folder / "mine").mkdir()
    (folder / "mine" / "predictions.csv").touch()


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "run"
    make_run(folder)
    make_run(folder / "refine", ("run.json", "checkpoints/latest.pt"))
    return folder


def everything(folder):
    hidden = (LOCK, RECORD)
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in hidden
    }


STRANGERS = {
    "notes.txt",
    "mine/predictions.csv",
    "refine/notes.txt",
    "refine/mine/predictions.csv",
}


def test_claiming_makes_a_folder(tmp_path):
    output.claim_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_claiming_removes_what_the_record_lists_and_nothing_else(run_folder):
    (run_folder / "checkpoints" / "mine.pt").touch()
    output.claim_folder(run_folder)
    assert everything(run_folder) == STRANGERS | {"checkpoints/mine.pt"}
    assert not (run_folder / "methods").exists()


def test_claiming_to_resume_removes_nothing(run_folder):
    before = everything(run_folder)
    output.claim_folder(run_folder, resume=True)
    assert everything(run_folder) == before


@pytest.mark.parametrize("resume", [True, False])
def test_what_a_killed_run_left_half_written_goes(run_folder, resume):
    for place in (run_folder, run_folder / "checkpoints", run_folder / "methods" / "mean"):
        (place / ".lannunet-123-latest.pt").touch()
    output.claim_folder(run_folder, resume=resume)
    assert everything(run_folder) == {
        *STRANGERS,
        *([*OURS, "refine/run.json", "refine/checkpoints/latest.pt"] * resume),
    }


@pytest.mark.parametrize(
    "line", ["../victim", "/etc/victim", "sub/../../victim", "link/victim", "..\\victim", ""]
)
def test_a_record_leads_nowhere_else(tmp_path, line):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "victim").touch()
    (folder / "link").symlink_to(tmp_path)
    (folder / RECORD).write_text(line + "\n")
    output.claim_folder(folder)
    assert (tmp_path / "victim").exists()
    assert tmp_path.is_dir()


def test_a_folder_with_other_things_is_free(tmp_path):
    (tmp_path / "notes.txt").touch()
    with releasing():
        output.refuse_folder(tmp_path, "key", "do this")
        output.refuse_folder(tmp_path / "new" / "folder", "key", "do this")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with releasing():
        output.refuse_folder(output.Path("new/folder"), "key", "do this")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["run.json", "checkpoints/best.pt", "predictions/a.nii.gz", "methods/m/p.csv"]
)
def test_any_part_of_a_run_is_refused(tmp_path, name):
    make_run(tmp_path / "run", [name])
    with pytest.raises(UserError, match=r"key: .*run already holds a run; do this or name another folder"):
        output.refuse_folder(tmp_path / "run", "key", "do this")
    output.refuse_folder(tmp_path / "run", "key", None)


@pytest.mark.parametrize(
    "name", ["run.json", "report.html", "checkpoints/a.pt", "predictions/a.nii.gz", "refine/x"]
)
@pytest.mark.parametrize("ways_out", ["do this", None])
def test_files_of_others_with_names_of_ours_are_refused(tmp_path, name, ways_out):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"key: lannunet did not write .*move it away"):
        output.refuse_folder(tmp_path, "key", ways_out)


def test_a_model_in_a_folder_that_is_emptied(run_folder, tmp_path):
    for model in (run_folder, run_folder / "checkpoints" / "latest.pt", run_folder / "refine"):
        with pytest.raises(UserError, match="which --overwrite empties"):
            output.refuse_to_empty(run_folder, "key", [model])
    output.refuse_to_empty(run_folder, "key", [run_folder / "mine" / "predictions.csv", tmp_path / "other"])


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
