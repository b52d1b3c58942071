"""Every later version gives the recorded predictions for models and bundles of earlier versions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lannunet_core import api
from lannunet_core.plugins import discovery

VERSIONS = sorted(path for path in Path(__file__).parent.glob("[0-9]*"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LANNUNET_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.lnb"])
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_the_same_landmarks_are_found(folder, name):
    kept = folder / "landmarks"
    assert (kept / name).stat().st_size < 60_000
    found = api.load(kept / name).predict(kept / "image.png")
    then = json.loads((kept / "found.json").read_text())
    np.testing.assert_allclose(found.points, then["points"], atol=1e-3)
    assert list(found.names) == then["names"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.lnb"])
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_the_same_labels_are_given(folder, name):
    kept = folder / "segmentation"
    assert (kept / name).stat().st_size < 60_000
    found = api.load(kept / name).predict(kept / "image.png")
    then = np.asarray(Image.open(kept / "found.png"))
    assert len(np.unique(then)) == 3
    assert (found.labels == then).mean() > 0.998  # other processors round differently


def test_the_next_version_reads_them(monkeypatch):
    """The plugins have a later version than the model, as in a future release."""
    from dataclasses import replace

    scanned = discovery.scan()
    later = tuple(
        replace(one, version="0.2.0") if one.distribution == "lannunet-unet" else one
        for one in scanned.plugins
    )
    monkeypatch.setattr(discovery, "scan", lambda: replace(scanned, plugins=later))
    kept = VERSIONS[0] / "landmarks"
    assert np.isfinite(api.load(kept / "model.safetensors").predict(kept / "image.png").points).all()
