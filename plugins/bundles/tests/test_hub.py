"""`hf://` through huggingface_hub, from a server on this machine."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lannunet_bundles import hub

from lannunet_core import UserError
from tests.compatibility.test_compatibility import VERSIONS

CONTENT = b"weights" * 1000
REVISION = "0123456789" * 4
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SCRIPT = """
import sys
from pathlib import Path
from lannunet_core import LannunetError, located
for model in sys.argv[1:]:
    try:
        print(located(Path(model)))
    except LannunetError as error:
        print(type(error).__name__, error)
"""


def environment(server, cache):
    settings = {"HF_ENDPOINT": server.address, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    return os.environ | settings | {"LANNUNET_CACHE": str(cache), "HF_HOME": str(cache / "home")}


def fetched(server, cache, *models):
    """Run in a separate process, because the library reads its settings when it is imported."""
    command = [sys.executable, "-c", SCRIPT, *models]
    ended = subprocess.run(command, env=environment(server, cache), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_file_of_a_revision(server, cache):
    pytest.importorskip("huggingface_hub")
    server.headers = {"ETag": f'"{DIGEST}"', "X-Repo-Commit": REVISION}
    server.files[f"/jo/wings/resolve/{REVISION}/best.safetensors"] = CONTENT
    model = f"hf://jo/wings/best.safetensors@{REVISION}#sha256={DIGEST}"
    found, other, missing = fetched(
        server, cache, model, model.replace(DIGEST, "0" * 64), model.replace("best", "none")
    )
    assert Path(found).read_bytes() == CONTENT
    assert f"has the SHA-256 {DIGEST}, not {'0' * 64}" in other
    assert missing.startswith("RunFailed hf://jo/wings/none.safetensors")
    assert "cannot be downloaded" in missing


def test_a_bundle_is_verified_by_its_address(server, cache):
    pytest.importorskip("huggingface_hub")
    content = (VERSIONS[0] / "segmentation" / "model.lnb").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    server.headers = {"ETag": f'"{digest}"', "X-Repo-Commit": REVISION}
    server.files[f"/jo/cells/resolve/{REVISION}/cells.lnb"] = content
    address = f"hf://jo/cells/cells.lnb@{REVISION}#sha256={digest}"
    command = [sys.executable, "-m", "lannunet_core", "bundle", "verify", address]
    ended = subprocess.run(command, env=environment(server, cache), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"sha256={digest}" in ended.stdout


@pytest.mark.parametrize("model", [f"hf://jo/wings#sha256={DIGEST}", f"hf://wings#sha256={DIGEST}"])
def test_an_address_that_is_none(model):
    with pytest.raises(UserError, match="should be hf://owner/name/file@revision"):
        hub.fetch_from_hub(Path(model))
    with pytest.raises(UserError, match="has no hash"):
        hub.fetch_from_hub(Path(model.partition("#")[0]))


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"lannunet plugins install 'lannunet-bundles\[hf\]'"):
        hub.fetch_from_hub(Path(f"hf://jo/wings/a.lnb#sha256={DIGEST}"))
