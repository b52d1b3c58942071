"""From a run to a bundle and back: its predictions, its card, and what it must not contain."""

import getpass
import io
import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml
from lannunet_bundles.archive import verified
from lannunet_bundles.card import figures
from lannunet_bundles.create import create_bundle
from lannunet_landmarks.evaluation.calibration import Calibration, LandmarkCalibration, write_calibration
from PIL import Image

from lannunet_core import UserError, api, load_checkpoint, located
from tests.compatibility.test_compatibility import VERSIONS

KEPT = VERSIONS[0]
CARD = {
    "title": "Wings <b>",
    "data": "300 wings.",
    "intended_use": "Research.",
    "limits": "Dry wings.",
    "license": "CC-BY-4.0",
    "citation": "Jo 2026.",
    "authors": ["Jo"],
}


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "card.yaml").write_text(yaml.safe_dump(CARD))
    path = folder / "wings.lnb"
    arguments = ("--card", folder / "card.yaml", "--thumbnails")
    assert trained.lannunet("bundle", "create", trained.out, "-o", path, *arguments) == 0
    return path


def places(project):
    """Information about the machine that a bundle must not contain."""
    names = {str(project.folder), project.folder.parent.name, str(Path.home()), socket.gethostname()}
    return [name.encode() for name in names | {getpass.getuser()} if len(name) > 4]


ABSOLUTE = re.compile(rb"(?<![\w./<])/(?:home|tmp|root|usr|var|work|mnt|Users)/")


def test_the_same_run_gives_the_same_bytes(trained, bundle, tmp_path):
    again = tmp_path / "other.lnb"
    arguments = ("--card", bundle.with_name("card.yaml"), "--thumbnails")
    assert trained.lannunet("bundle", "create", trained.out, "-o", again, *arguments) == 0
    assert again.read_bytes() == bundle.read_bytes()


def test_it_predicts_what_the_run_predicts(trained, bundle, tmp_path):
    images = trained.folder / "images"
    assert trained.lannunet("predict", bundle, images, "-o", tmp_path / "a") == 0
    assert trained.lannunet("predict", trained.out, images, "-o", tmp_path / "b") == 0
    tables = [(tmp_path / name / "predictions.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]
    image = np.asarray(Image.open(next(images.iterdir())))
    found, wanted = (api.load(model).predict(image) for model in (str(bundle), trained.out))
    np.testing.assert_array_equal(found.points, wanted.points)


def test_neither_bundle_nor_report_nor_model_tells_of_the_machine(trained, bundle, tmp_path):
    assert trained.lannunet("predict", bundle, trained.folder / "images", "-o", tmp_path / "found") == 0
    out = trained.out
    written = [
        *(bundle, out / "report.html", out / "run.json", out / "summary.json"),
        *(out / "checkpoints").iterdir(),
        *(tmp_path / "found" / name for name in ("report.html", "run.json")),
    ]
    for path in written:
        content = path.read_bytes()
        assert [name for name in places(trained) if name in content] == [], path
        assert ABSOLUTE.findall(content) == [], path
    assert str(trained.folder) in (out / "config.yaml").read_text()  # which the run goes on by
    assert "command" not in json.loads((out / "run.json").read_text())


def test_all_of_it_is_told_where_that_is_wished(trained, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "trainer.inference_only=true",
        f"model.checkpoint={trained.out}",
        f"output.output_dir={out}",
    )
    overrides = [word for given in (*arguments, "output.provenance=full") for word in ("--set", given)]
    assert trained.train(*overrides) == 0
    described = json.loads((out / "run.json").read_text())
    assert described["config"] == str(trained.yaml)
    assert "command" in described
    assert str(trained.folder) in (out / "report.html").read_text()


def test_it_says_what_the_model_is(trained, bundle):
    kept = {}
    manifest, _ = verified(bundle, kept.__setitem__)
    assert (manifest.task, manifest.architecture, manifest.outputs) == ("landmarks", "unet", ["0", "1"])
    assert [(one.name, one.distribution, one.versions) for one in manifest.plugins] == [
        ("unet", "lannunet-unet", ">=0.1")
    ]
    assert manifest.requires == ["lannunet-core>=0.1", "lannunet-landmarks>=0.1", "lannunet-unet>=0.1"]
    assert manifest.intensity["normalisation"] == "zscore"
    assert manifest.input_size == [32, 32]
    summary = json.loads((trained.out / "summary.json").read_text())
    assert manifest.metrics[0]["overall"] == summary["overall"]
    assert "testing0" not in manifest.text()  # the names of cases may be names of patients
    pictures = [name for name in kept if name.endswith(".jpg")]
    assert 0 < len(pictures) <= 6
    assert max(Image.open(io.BytesIO(kept[name])).size[0] for name in pictures) <= 256
    card = kept["README.md"].decode()
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front) == {
        "library_name": "lannunet",
        "license": "CC-BY-4.0",
        "tags": ["medical", "lannunet", "landmarks", "unet"],
    }
    assert "# Wings \\<b\\>" in text
    for said in ("300 wings.", "Research.", "Dry wings.", "Jo 2026.", "| unet | px | "):
        assert said in text
    config = yaml.safe_load(kept["config.yaml"])
    assert config["dataset"]["src_targets"] == "points.json"
    assert config["solver"]["base_lr"] == 2e-3


def test_show_and_verify(bundle, trained, capsys):
    capsys.readouterr()
    assert trained.lannunet("bundle", "show", bundle) == 0
    assert "# Wings" in capsys.readouterr().out
    assert trained.lannunet("bundle", "show", bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out)["card"]["license"] == "CC-BY-4.0"
    assert trained.lannunet("bundle", "verify", bundle) == 0
    assert re.search(r"wings.lnb: OK, \d+ files, not signed, sha256=[0-9a-f]{64}$", capsys.readouterr().out)


def test_the_folds_of_a_cross_validation_predict_together(trained, tmp_path):
    for fold in range(2):
        shutil.copytree(trained.out, tmp_path / "cv" / f"fold{fold}")
    image = trained.folder / trained.annotations["testing"][0]["image"]
    bundle = tmp_path / "cv.lnb"
    assert trained.lannunet("bundle", "create", tmp_path / "cv", "-o", bundle) == 0
    manifest, _ = verified(bundle)
    assert manifest.models == [f"fold{n}/checkpoints/best.safetensors" for n in range(2)]
    assert manifest.card.title == "cv"
    assert sorted({row["model"] for row in figures(manifest)}) == ["fold0", "fold1"]
    for model, out in ((bundle, "a"), (tmp_path / "cv", "b")):
        assert trained.lannunet("predict", model, image, "-o", tmp_path / out) == 0
    assert (tmp_path / "a" / "predictions.csv").read_text() == (
        tmp_path / "b" / "predictions.csv"
    ).read_text()
    assert json.loads((tmp_path / "a" / "run.json").read_text())["also"] == ["fold1"]


def test_models_that_do_not_go_together_are_refused(trained, tmp_path):
    models = [KEPT / task / "model.safetensors" for task in ("landmarks", "segmentation")]
    with pytest.raises(UserError, match=r"its task is segmentation, that of .* is landmarks"):
        create_bundle(models, tmp_path / "a.lnb")
    with pytest.raises(UserError, match=r"the name of a bundle must end in \.lnb"):
        create_bundle(models[:1], tmp_path / "a.zip")
    (tmp_path / "there.lnb").touch()
    with pytest.raises(UserError, match="the file exists already"):
        create_bundle(models[:1], tmp_path / "there.lnb")
    assert [path.name for path in tmp_path.glob("*.lnb")] == ["there.lnb"]


def test_a_model_file_alone_of_the_other_task(tmp_path):
    kept = KEPT / "segmentation"
    create_bundle([kept / "model.safetensors"], tmp_path / "a.lnb")
    found, wanted = (
        api.load(one).predict(kept / "image.png") for one in (tmp_path / "a.lnb", kept / "model.lnb")
    )
    assert (found.labels == wanted.labels).all()


def test_code_is_never_in_it_and_runs_only_where_it_is_named(project, tmp_path, capsys):
    idea = project.folder / "idea.py"
    idea.write_text(
        "from lannunet_core import Plugin, hookimpl\n\n\nclass Idea(Plugin):\n    @hookimpl\n"
        "    def network(self):\n        from torch import nn\n\n"
        "        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 3, padding=1)\n"
    )
    project.config["model"] = {"architecture": "idea.py"}
    project.set(solver={"max_epochs": 1})
    assert project.train() == 0
    bundle = tmp_path / "idea.lnb"
    assert project.lannunet("bundle", "create", project.out, "-o", bundle) == 2
    assert "whose code is not run automatically" in capsys.readouterr().err
    assert not bundle.exists()
    assert project.lannunet("bundle", "create", project.out, "-o", bundle, "--plugin", idea) == 0
    manifest, _ = verified(bundle)
    assert manifest.plugin_files == ["idea.py"]
    assert b"class Idea" not in bundle.read_bytes()
    capsys.readouterr()
    predict = ("predict", bundle, project.folder / "images", "-o")
    assert project.lannunet(*predict, tmp_path / "a") == 2
    said = capsys.readouterr().err
    assert "was made with the file idea.py, whose code is not run automatically" in said
    assert "--plugin idea.py" in said
    assert project.lannunet(*predict, tmp_path / "b", "--plugin", idea) == 0


def test_a_signature_is_its_owners(trained, bundle, tmp_path, capsys):
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for name in ("own", "other"):
        key = Ed25519PrivateKey.generate()
        private = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pem").write_bytes(key.private_bytes(*private))
        (tmp_path / f"{name}.pub").write_bytes(key.public_key().public_bytes(*public))
    signed = [tmp_path / "a.lnb", tmp_path / "b.lnb"]
    for path in signed:
        arguments = ("-o", path, "--key", tmp_path / "own.pem")
        assert trained.lannunet("bundle", "create", trained.out, *arguments) == 0
    assert signed[0].read_bytes() == signed[1].read_bytes()
    verify = ("bundle", "verify", signed[0], "--public-key")
    assert trained.lannunet(*verify, tmp_path / "own.pub") == 0
    capsys.readouterr()
    assert trained.lannunet(*verify, tmp_path / "other.pub") == 2
    assert "was not signed by the owner of" in capsys.readouterr().err
    assert trained.lannunet("bundle", "verify", bundle, "--public-key", tmp_path / "own.pub") == 2
    assert "is not signed" in capsys.readouterr().err
    assert trained.lannunet(*verify, tmp_path / "own.pem") == 2
    assert "is not an Ed25519 public key in PEM" in capsys.readouterr().err
    assert api.load(signed[0]).about.outputs == ("0", "1")


def test_a_calibration_comes_with_it(trained, tmp_path, capsys):
    one = LandmarkCalibration(np.arange(1, 21) / 2, np.array([0.2] * 4), np.array([1.0] * 4))
    known = Calibration("px", {"0": one, "1": one})
    write_calibration(tmp_path / "known.json", known)
    bundle = tmp_path / "a.lnb"
    arguments = ("-o", bundle, "--calibration", tmp_path / "known.json")
    assert trained.lannunet("bundle", "create", trained.out, *arguments) == 0
    image = trained.folder / trained.annotations["testing"][0]["image"]
    capsys.readouterr()
    assert trained.lannunet("predict", bundle, image, "-o", tmp_path / "a") == 0
    assert "calibrated by calibration.json, which came with the model" in capsys.readouterr().out
    given = ("--calibration", tmp_path / "known.json")
    assert trained.lannunet("predict", trained.out, image, "-o", tmp_path / "b", *given) == 0
    tables = [(tmp_path / name / "predictions.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]

    write_calibration(tmp_path / "others.json", Calibration("px", {"tip": one}))
    (tmp_path / "text.json").write_text("[1]")
    for name, reason in (("others", "has no landmark '0'"), ("text", "is not a calibration of this version")):
        arguments = ("-o", tmp_path / f"{name}.lnb", "--calibration", tmp_path / f"{name}.json")
        assert trained.lannunet("bundle", "create", trained.out, *arguments) == 2
        assert reason in capsys.readouterr().err
        assert not (tmp_path / f"{name}.lnb").exists()
    cells = (KEPT / "segmentation" / "model.safetensors", "-o", tmp_path / "cells.lnb")
    assert trained.lannunet("bundle", "create", *cells, "--calibration", tmp_path / "known.json") == 2
    assert "applies to landmark models" in capsys.readouterr().err


def test_a_zoo(trained, bundle, tmp_path, capsys):
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    assert trained.lannunet("bundle", "index", zoo) == 2
    assert "there are no bundles" in capsys.readouterr().err
    shutil.copy(bundle, zoo)
    shutil.copy(KEPT / "segmentation" / "model.lnb", zoo / "cells.lnb")
    (zoo / "broken.lnb").write_bytes(bundle.read_bytes()[:-1])
    for _ in range(2):  # it replaces its own index
        assert trained.lannunet("bundle", "index", zoo) == 0
    assert "warning: left out" in capsys.readouterr().err
    listed = json.loads((zoo / "index.json").read_text())["bundles"]
    assert [(one["file"], one["task"]) for one in listed] == [
        ("cells.lnb", "segmentation"),
        ("wings.lnb", "landmarks"),
    ]
    assert listed[1]["sha256"] == verified(bundle)[1]
    page = (zoo / "index.html").read_text()
    assert "<h2>Wings &lt;b&gt;</h2>" in page
    assert "<b>" not in page.partition("Wings &lt;b&gt;")[2].partition("</section>")[0]
    assert page.count("data:image/jpeg;base64,") == sum(".jpg" in name for name in verified(bundle)[0].files)
    (zoo / "index.json").unlink()
    (zoo / ".lannunet-files").unlink()
    assert trained.lannunet("bundle", "index", zoo) == 2
    assert "lannunet did not write" in capsys.readouterr().err


def test_what_a_card_can_say(trained, tmp_path, capsys):
    (tmp_path / "card.yaml").write_text("licence: MIT\n")
    arguments = ("-o", tmp_path / "a.lnb", "--card", tmp_path / "card.yaml")
    assert trained.lannunet("bundle", "create", trained.out, *arguments) == 2
    assert "card.yaml: licence: " in capsys.readouterr().err
    assert not (tmp_path / "a.lnb").exists()


def test_its_model_holds_nothing_of_training_but_the_weights(bundle):
    model = load_checkpoint(located(bundle))
    assert model.progress == model.optimizer == model.scheduler == {}
    assert {"platform", "device", "cores", "git", "config"}.isdisjoint(model.provenance)
