"""Every command with `-o`: in a folder that does not exist, and with a path that is a folder."""

import pytest

from tests.cli.test_every_command import LANNUNET_YAML, landmarks  # noqa: F401  (a fixture)

COMMANDS = (
    "config import {lannunet} -o {target}",
    "config schema -o {target}",
    "plan {raw} -o {target}",
    "calibrate {results} -o {target}",
    "evaluate {results} {truth} -o {target}",
    "folds {data} -o {target}",
    "predict {run} {image} -o {target}",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("target", ["none/x", "folder", "file", "file/x"])
def test_an_output_that_cannot_be_written(command, target, landmarks, segmentation, tmp_path, capfd):  # noqa: F811
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "theirs").touch()
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "lannunet.yaml").write_text(LANNUNET_YAML)
    words = landmarks.words | {"raw": segmentation.raw, "lannunet": tmp_path / "lannunet.yaml"}
    words["target"] = tmp_path / target
    code = landmarks.project.lannunet(*(word.format(**words) for word in command.split()))
    said = capfd.readouterr().err
    makes_folders = command.startswith(("evaluate", "folds", "predict")) and target in ("none/x", "folder")
    assert code == (0 if makes_folders else 2), said
    assert "Traceback" not in said
    assert code == 0 or (said.startswith("Error: ") and str(tmp_path) in said)
    assert (tmp_path / "file").read_text() == "theirs"
    assert (tmp_path / "folder" / "theirs").exists()
