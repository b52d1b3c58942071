"""The commands of docs/bundles.md, in order, in a folder with a trained run."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "bundles.md"


def test_the_commands_of_the_page(trained, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("the page makes its keys with openssl")
    pytest.importorskip("cryptography")
    page = PAGE.read_text()
    (tmp_path / "card.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    shutil.copytree(trained.out, tmp_path / "runs" / "wings")
    shutil.copytree(trained.folder / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    ran = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines() if language in ("", "bash") else []:
            words = shlex.split(line)
            if words[0] == "openssl":
                subprocess.run(words, check=True, capture_output=True)
            elif language:
                if words[-1] == "models/":
                    (tmp_path / "models").mkdir()
                    shutil.copy("wings-1.0.lnb", "models")
                assert trained.lannunet(*words[1:]) == 0, line
                ran.append(words[2])
    assert {"create", "show", "verify", "index"} <= set(ran)
    assert "Wing landmarks" in (tmp_path / "models" / "index.html").read_text()
