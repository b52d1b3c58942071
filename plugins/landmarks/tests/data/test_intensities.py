"""Normalisation by the intensities of the training images around the landmarks."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from lannunet_images import IMAGE_FILES, prepare_image
from lannunet_landmarks.data.intensities import measured_clips
from lannunet_landmarks.predict.models import open_model
from lannunet_landmarks.session import normalisations
from lannunet_landmarks.types import Sample

from lannunet_core import State
from tests.fixtures.projects import draw_project

TISSUE, METAL, PADDING = 300.0, 30_000.0, -3024.0


def ct(rng, size=(40, 40, 16)):
    """Tissue with 0.5 % of metal, in a tube of which 30 % of the volume is outside."""
    pixels = rng.normal(40, TISSUE, size[::-1]).astype(np.float32)
    pixels.reshape(-1)[rng.choice(pixels.size, pixels.size // 200, replace=False)] = METAL
    pixels[:, : int(0.3 * size[1])] = PADDING
    return pixels


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder, rng, made = tmp_path_factory.mktemp("ct"), np.random.default_rng(0), []
    for number in range(4):
        np.save(folder / f"{number}.npy", ct(rng)[None])
        points = np.array([[20.0, 28.0, 8.0], [10.0, 33.0, 4.0], [5.0, 2.0, 2.0]])
        states = np.array([State.VISIBLE, State.VISIBLE, State.UNLABELLED], np.int64)
        made.append(Sample(f"{number}", folder / f"{number}.npy", points, states))
    return made


def test_tissue_keeps_its_contrast_and_the_order_of_images_says_nothing(samples):
    (clip,) = measured_clips(samples, 1, IMAGE_FILES)
    low, high, mean, deviation = clip
    assert (low, high) == (
        pytest.approx(40 - 2.33 * TISSUE, abs=90),
        pytest.approx(40 + 2.33 * TISSUE, abs=150),
    )
    assert (mean, deviation) == (pytest.approx(40, abs=15), pytest.approx(TISSUE, rel=0.05))
    assert measured_clips(samples[::-1], 1, IMAGE_FILES) == [clip]
    moved = [replace(one, states=one.states[[2, 2, 2]]) for one in samples]
    with pytest.raises(Exception, match="no landmark is annotated"):
        measured_clips(moved, 1, IMAGE_FILES)


def test_a_run_measures_and_records_them(tmp_path):
    project = draw_project(tmp_path / "project", sizes=((40, 40, 16),), input_size=(40, 40, 16))
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    for path in (project.folder / "images").iterdir():
        sitk.WriteImage(sitk.GetImageFromArray(ct(rng)), str(path))
    for split in ("training", "validation", "testing"):
        for sample in project.annotations[split]:
            sample["coordinates"] = [[20.0, 28.0, 8.0], [10.0, 33.0, 4.0]]
    project.set(
        sampler={"normalisation": "CT"}, solver={"max_epochs": 1}, model={"unet": {"init_features": 2}}
    )
    assert project.train() == 0
    recorded = yaml.safe_load((project.out / "config.yaml").read_text())["sampler"]["clip"]
    session = open_model(project.out)
    assert [list(clip) for clip in session.config.sampler.clip] == recorded
    pixels = ct(rng)
    found, _ = prepare_image(pixels[None], None, "letterbox", normalisations(session))
    tissue = (pixels != METAL) & (pixels != PADDING)
    assert found[0][tissue].std() == pytest.approx(1, abs=0.05)
    assert np.abs(found).max() < 4
    assert project.train("--resume") == 0  # the same numbers again


def test_its_numbers_are_one_a_channel(tmp_path, capsys):
    project = draw_project(tmp_path / "project")
    project.set(sampler={"normalisation": "ct", "clip": [[0.0, 255.0, 110.0, 30.0]] * 2})
    assert project.train() == 2
    assert "sampler.clip: has 2 entries" in capsys.readouterr().err
    project.set(sampler={"normalisation": "zscore"})
    assert project.train() == 2
    assert "it has no effect with sampler.normalisation" in capsys.readouterr().err
