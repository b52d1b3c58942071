"""A bundle from one environment predicts the same in another one, which first has only the core."""

import re

import pytest

from tests.fixtures.projects import REPOSITORY

pytestmark = pytest.mark.slow


def points(folder):
    return (folder / "predictions.csv").read_text()


def test_from_one_environment_to_another(wheels_to_train, build_wheel, fresh_environment, project, tmp_path):
    core, architecture, task, images, report = wheels_to_train
    bundles = build_wheel(REPOSITORY / "plugins" / "bundles")
    made = fresh_environment(core, architecture, task, images, report, bundles)
    project.write()
    made.call("lannunet", "train", "run.yaml", cwd=project.folder)
    made.call("lannunet", "bundle", "create", "out", "-o", "wings.lnb", cwd=project.folder)
    made.call("lannunet", "predict", "out", "images", "-o", "there", cwd=project.folder)

    here = tmp_path / "elsewhere"
    here.mkdir()
    (project.folder / "wings.lnb").rename(here / "wings.lnb")
    (project.folder / "images").rename(here / "images")
    predict = ("lannunet", "predict", "wings.lnb", "images", "-o", "found")

    alone = fresh_environment(core)
    said = alone.call(*predict, cwd=here, code=2).stderr
    assert said == (
        "Error: wings.lnb: to open it, install lannunet-bundles: lannunet plugins install lannunet-bundles\n"
    )

    some = fresh_environment(core, report, bundles)
    verified = some.call("lannunet", "bundle", "verify", "wings.lnb", cwd=here).stdout
    assert re.fullmatch(r"wings\.lnb: OK, 3 files, not signed, sha256=[0-9a-f]{64}\n", verified)
    said = some.call(*predict, cwd=here, code=2).stderr
    assert said == (
        "Error: wings.lnb: needs lannunet-landmarks, which is not installed; and lannunet-unet, which is not "
        "installed. To continue: lannunet plugins install 'lannunet-landmarks>=0.1' 'lannunet-unet>=0.1'\n"
    )

    whole = fresh_environment(core, architecture, task, images, report, bundles)
    whole.call(*predict, cwd=here)
    assert points(here / "found") == points(project.folder / "there")
