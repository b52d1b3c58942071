import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.preprocess import (
    cache_folder,
    prepare_cases,
)
from lannunet_segmentation.data.regrid import resample, resample_nearest
from lannunet_segmentation.types import IGNORE, Settings
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import ExtraMap
from tests.fixtures.nnunet import PLAIN_SPACING, blocks, write_plain

REPOSITORY = Path(__file__).parents[4]
HIPPOCAMPUS = REPOSITORY / "../shared/data/hippocampus/Dataset004_Hippocampus"
OWN = Settings(None, ("zscore",), (None,))
FINER = Settings((0.75, 0.75, 1.0), ("zscore",), (None,))


@pytest.fixture
def dataset(tmp_path):
    return blocks(tmp_path / "Dataset001_blocks")


def prepare(dataset, tmp_path, settings=OWN, maps=(), jobs=1):
    return prepare_cases(dataset.training, dataset, settings, tmp_path / "cache", maps, jobs)


def content(folder):
    """All arrays of a cache, as bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.npy"))}


def mean_map(dataset, folder, make):
    """An extra map; `make(case's image (*S))` gives the values of each case."""
    folder.mkdir(exist_ok=True)
    for case in dataset.training:
        np.save(folder / f"{case.id}.npy", make(read_case(case, dataset).pixels[0]))
    paths = {case.id: folder / f"{case.id}.npy" for case in dataset.training}
    return ExtraMap("trust", "weight", "linear", 0.0, paths)


# The prepared cases


def test_at_its_own_spacing_a_case_is_normalised_only(dataset, tmp_path):
    for case, prepared in zip(dataset.training, prepare(dataset, tmp_path), strict=True):
        stored = read_case(case, dataset)
        pixels = stored.pixels.astype(np.float64)
        expected = (pixels - pixels.mean()) / pixels.std()
        assert isinstance(prepared.image(), np.memmap)
        assert prepared.image().dtype == np.float32
        np.testing.assert_allclose(prepared.image(), expected, atol=1e-5)
        assert prepared.label().dtype == np.int16
        np.testing.assert_array_equal(prepared.label(), stored.label)
        np.testing.assert_array_equal(prepared.affine, np.eye(4))
        assert (prepared.id, prepared.size, prepared.spacing) == (case.id, (18, 16, 6), PLAIN_SPACING)
        assert prepared.geometry == stored.geometry


def test_the_index_is_that_of_the_prepared_label(dataset, tmp_path):
    for prepared in prepare(dataset, tmp_path, FINER):
        label = prepared.label()
        masks = {0: label == 0, 1: label == 1, 2: label == 2}
        assert prepared.classes_present == (0, 1, 2)
        assert prepared.annotated_count == len(prepared.annotated()) == (label != IGNORE).sum()
        for runs, mask in [(prepared.annotated(), label != IGNORE)] + [
            (prepared.voxels(value), mask) for value, mask in masks.items()
        ]:
            found = [tuple(runs.voxel(i)[::-1]) for i in range(len(runs))]
            assert found == list(map(tuple, np.argwhere(mask)))
        assert len(prepared.voxels(3)) == 0


def test_no_label_and_no_annotation_leave_an_empty_index(dataset, tmp_path):
    write_plain(dataset.training[0].label, np.full((6, 16, 18), -1, np.int16))
    cases = (dataset.training[0], replace(dataset.training[1], label=None))
    ignored, unlabelled = prepare_cases(cases, dataset, OWN, tmp_path / "cache", jobs=1)
    assert (ignored.label() == IGNORE).all()
    assert unlabelled.label() is None
    for case in (ignored, unlabelled):
        assert case.classes_present == ()
        assert case.annotated_count == len(case.annotated()) == len(case.voxels(0)) == 0


def test_ct_is_clipped_and_scaled_by_the_training_set(tmp_path):
    folder = tmp_path / "Dataset002_ct"
    dataset = blocks(folder, 1)
    settings = Settings(None, ("ct",), ((40.0, 160.0, 90.0, 30.0),))
    (prepared,) = prepare(dataset, tmp_path, settings)
    stored = read_case(dataset.training[0], dataset).pixels
    np.testing.assert_allclose(prepared.image(), (stored.clip(40, 160) - 90) / 30, atol=1e-5)


def test_pictures_are_prepared_the_same_way(tmp_path):
    folder = tmp_path / "Dataset003_pictures"
    rng = np.random.default_rng(0)
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    label = rng.integers(0, 4, (20, 30)).astype(np.uint8)
    pillow.fromarray(rng.integers(0, 255, (20, 30)).astype(np.uint8)).save(folder / "imagesTr/p_0000.png")
    pillow.fromarray(label).save(folder / "labelsTr/p.png")
    declared = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "cell": 1, "border": 2, "ignore": 3},
        "numTraining": 1,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(declared))
    dataset = read_dataset(folder)
    (prepared,) = prepare(dataset, tmp_path)
    assert prepared.image().shape == (1, 20, 30)
    np.testing.assert_array_equal(prepared.label(), np.where(label == 3, IGNORE, label.astype(np.int16)))
    x, y = prepared.voxels(2).draw(rng)
    assert label[y, x] == 2


@pytest.mark.skipif(not HIPPOCAMPUS.exists(), reason="needs the hippocampus data")
@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (1.3, 1.1, 1.2)])
def test_structures_keep_their_volume_at_another_spacing(tmp_path, spacing):
    dataset = read_dataset(HIPPOCAMPUS)
    settings = Settings(spacing, ("zscore",), (None,))
    prepared = prepare_cases(dataset.training[:3], dataset, settings, tmp_path, jobs=1)
    for case, known in zip(dataset.training[:3], prepared, strict=True):
        label = read_case(case, dataset).label
        assert known.annotated_count == np.prod(known.size)
        for value in (1, 2):
            volume = len(known.voxels(value)) * np.prod(known.spacing)
            before = (label == value).sum() * np.prod(known.geometry.spacing)
            assert volume == pytest.approx(before, rel=0.06)  # corners of small voxels are cut


# Many cases, again and again


def test_processes_prepare_the_same_as_one(dataset, tmp_path):
    prepare_cases(dataset.training, dataset, FINER, tmp_path / "one", jobs=1)
    prepared = prepare_cases(dataset.training, dataset, FINER, tmp_path / "two", jobs=2)
    assert [case.id for case in prepared] == [case.id for case in dataset.training]
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_mistake_in_one_process_is_said_once(dataset, tmp_path):
    write_plain(dataset.training[1].label, np.full((6, 16, 18), 7, np.int16))
    with pytest.raises(UserError, match=r"c1\.nii\.gz.*7"):
        prepare(dataset, tmp_path, jobs=2)


def test_what_is_prepared_is_not_prepared_again(dataset, tmp_path):
    first = prepare(dataset, tmp_path)
    before = times(tmp_path / "cache")
    again = prepare(dataset, tmp_path)
    assert times(tmp_path / "cache") == before
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.affine, b.affine)
        assert replace(a, affine=None).__dict__ == replace(b, affine=None).__dict__


def test_a_changed_file_is_prepared_again_and_the_others_stay(dataset, tmp_path):
    prepare(dataset, tmp_path)
    before = times(tmp_path / "cache")
    label = np.zeros((6, 16, 18), np.int16)
    label[3, 3, 3] = 2
    write_plain(dataset.training[1].label, label)
    prepared = prepare(dataset, tmp_path)
    np.testing.assert_array_equal(prepared[1].label(), label)
    assert prepared[1].classes_present == (0, 2)
    assert len(prepared[1].voxels(1)) == 0
    changed = {path.parent.name for path, stamp in times(tmp_path / "cache").items() if before[path] != stamp}
    assert changed == {"c1"}


def test_a_file_of_the_same_size_and_other_content_is_seen(dataset, tmp_path):
    path = tmp_path / "w" / "c0.npy"
    weights = mean_map(dataset, tmp_path / "w", lambda image: np.ones(image.shape, np.float32))
    prepare(dataset, tmp_path, maps=[weights])
    np.save(path, np.full((6, 16, 18), 2, np.float32))
    prepared = prepare(dataset, tmp_path, maps=[weights])
    assert [case.extra("trust").max() for case in prepared] == [2, 1, 1]


def test_a_copied_file_of_the_same_content_is_not_prepared_again(dataset, tmp_path):
    prepare(dataset, tmp_path)
    before = times(tmp_path / "cache")
    for path in dataset.training[0].images:
        os.utime(path, (1, 1))
    prepare(dataset, tmp_path)
    assert times(tmp_path / "cache") == before


@pytest.mark.parametrize(
    "other",
    [
        Settings((1.0, 1.0, 1.0), ("zscore",), (None,)),
        Settings(None, ("none",), (None,)),
        Settings(None, ("ct",), ((0.0, 100.0, 50.0, 20.0),)),
    ],
)
def test_other_settings_are_another_cache_and_never_mixed(dataset, tmp_path, other):
    prepare(dataset, tmp_path)
    assert cache_folder(dataset, OWN, (), tmp_path) != cache_folder(dataset, other, (), tmp_path)
    mixed = prepare(dataset, tmp_path, other)  # into the same folder
    fresh = prepare_cases(dataset.training, dataset, other, tmp_path / "fresh", jobs=1)
    for a, b in zip(mixed, fresh, strict=True):
        np.testing.assert_array_equal(a.image(), b.image())
        assert a.size == b.size


def test_the_ignore_label_belongs_to_the_recipe(dataset, tmp_path):
    """dataset.json now says that 2 is "not annotated"; the files are as before."""
    prepare(dataset, tmp_path)
    (prepared, *_) = prepare(replace(dataset, ignore=2, class_names=("background", "left")), tmp_path)
    assert prepared.classes_present == (0, 1)


def test_cases_of_one_name_in_two_data_sets_have_two_folders(tmp_path):
    one, other = (blocks(tmp_path / place / "Dataset001_blocks", 1) for place in "ab")
    folders = {cache_folder(dataset, OWN, (), tmp_path) for dataset in (one, other)}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "preprocessed"}
    assert all(folder.name.startswith("Dataset001_blocks-") for folder in folders)
    named = cache_folder(replace(one, name="CT/MR of the liver"), OWN, (), tmp_path)
    assert named.parent == tmp_path / "preprocessed"


PREPARE = """
import sys
from pathlib import Path
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.preprocess import prepare_cases
from lannunet_segmentation.types import Settings

if __name__ == "__main__":
    dataset = read_dataset(Path(sys.argv[1]))
    settings = Settings((0.75, 0.75, 1.0), ("zscore",), (None,))
    prepare_cases(dataset.training, dataset, settings, Path(sys.argv[2]), jobs=int(sys.argv[3]))
"""


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_preparation_goes_on_and_gives_the_same(tmp_path, jobs):
    dataset = blocks(tmp_path / "Dataset001_blocks", 12, (12, 64, 64))
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    command = [sys.executable, str(script), str(dataset.path), str(tmp_path / "cache"), str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "cache").glob("*/case.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.parent.name for path in (tmp_path / "cache").glob("*/case.json")}
    assert 3 <= len(done) < 12
    for worker in workers:  # no process is left that continues to write
        for _ in range(400):
            if not Path(f"/proc/{worker}").exists() or ") Z " in Path(f"/proc/{worker}/stat").read_text():
                break
            time.sleep(0.05)
        else:
            pytest.fail("a process outlives its parent")
    done = {path.parent.name for path in (tmp_path / "cache").glob("*/case.json")}
    half = tmp_path / "cache" / next(case.id for case in dataset.training if case.id not in done)
    half.mkdir(exist_ok=True)
    (half / "image.npy").write_bytes(b"half of one")
    before = times(tmp_path / "cache")
    subprocess.run(command, check=True, capture_output=True)
    kept = {path: stamp for path, stamp in before.items() if path.parent.name in done}
    assert kept.items() <= times(tmp_path / "cache").items()
    prepare_cases(dataset.training, dataset, FINER, tmp_path / "uninterrupted", jobs=1)
    assert content(tmp_path / "cache") == content(tmp_path / "uninterrupted")
    assert not list((tmp_path / "cache").glob("*/.*"))


@pytest.mark.skipif(sys.platform == "win32", reason="locks by POSIX")
def test_two_runs_prepare_the_same_cases_once(dataset, tmp_path, capsys):
    import fcntl

    (tmp_path / "cache").mkdir()
    result = []
    with (tmp_path / "cache" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: result.extend(prepare(dataset, tmp_path)))
        second.start()
        second.join(0.5)
        assert not list((tmp_path / "cache").glob("*/case.json"))
        # Meanwhile the first run prepares.
        prepare_cases(dataset.training, dataset, OWN, tmp_path / "first", jobs=1)
        for case in dataset.training:
            shutil.copytree(tmp_path / "first" / case.id, tmp_path / "cache" / case.id)
        before = times(tmp_path / "cache")
    second.join()
    assert len(result) == 3
    assert times(tmp_path / "cache") == before
    assert "waiting" in capsys.readouterr().out


# Damaged caches

DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "longer": lambda content: content + b"0",
    "a byte": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    "another file": lambda content: b'{"recipe": [[[[' * 50,
    "gone": lambda content: None,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_prepared_again(dataset, tmp_path, damage):
    weights = mean_map(dataset, tmp_path / "w", np.abs)
    prepare(dataset, tmp_path, maps=[weights])
    folder = tmp_path / "cache" / "c1"
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(sound) == [
        "annotated.npy", "case.json", "class_0.npy", "class_1.npy", "class_2.npy",
        "image.npy", "label.npy", "map_trust.npy",
    ]  # fmt: skip
    for name, content in sound.items():
        (folder / name).unlink()
        if (damaged := damage(content)) is not None:
            (folder / name).write_bytes(damaged)
        case = prepare(dataset, tmp_path, maps=[weights])[1]
        after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "case.json"}
        assert after == {name: sound[name] for name in sound if name != "case.json"}
        assert case.label() is not None
        assert len(case.annotated()) == case.annotated_count


def test_a_record_that_was_changed_by_hand_does_not_count(dataset, tmp_path):
    prepare(dataset, tmp_path)
    path = tmp_path / "cache" / "c1" / "case.json"
    for key, value in {
        "size": [99, 99, 99],
        "annotated_count": 10**30,
        "geometry": {},
        "arrays": None,
    }.items():
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        assert prepare(dataset, tmp_path)[1].size == (18, 16, 6)


def test_files_of_others_stay(dataset, tmp_path):
    folder = tmp_path / "cache" / "c1"
    folder.mkdir(parents=True)
    for name in ("notes.txt", "image.nii.gz", ".hidden"):
        (folder / name).write_text("mine")
    (folder / ".lannunet-123-image.npy").write_text("half of one")
    prepare(dataset, tmp_path)
    assert {path.name for path in folder.iterdir() if path.suffix not in (".npy", ".json")} == {
        "notes.txt", "image.nii.gz", ".hidden",
    }  # fmt: skip
    assert not list(folder.glob(".lannunet-*"))


@pytest.mark.parametrize("name", ["../../victim", "/victim", "..", "a/b", "a\\b", "x" * 300])
def test_a_case_never_leads_out_of_the_cache(dataset, tmp_path, name):
    """The format of a plugin may use any names of cases."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "image.npy").write_text("mine")
    with pytest.raises(UserError, match="cannot name a file"):
        prepare_cases([replace(dataset.training[0], id=name)], dataset, OWN, tmp_path / "a" / "cache", jobs=1)
    assert (victim / "image.npy").read_text() == "mine"


def test_a_long_name_of_a_data_set(dataset, tmp_path):
    folder = cache_folder(replace(dataset, name="ß" * 400), OWN, (), tmp_path)
    assert len(folder.name.encode()) < 100
    prepare_cases(dataset.training[:1], dataset, OWN, folder, jobs=1)


# Extra maps


def test_maps_are_resampled_with_their_case(dataset, tmp_path):
    weights = mean_map(dataset, tmp_path / "w", lambda image: np.abs(image)[None].astype(np.float64))
    nearest = replace(weights, name="zones", role="label", interpolation="nearest")
    for case, prepared in zip(
        dataset.training, prepare(dataset, tmp_path, FINER, [weights, nearest]), strict=True
    ):
        values = np.abs(read_case(case, dataset).pixels[0])
        assert prepared.extra("trust").dtype == np.float16
        np.testing.assert_allclose(prepared.extra("trust"), resample(values, prepared.size), rtol=1e-3)
        np.testing.assert_allclose(
            prepared.extra("zones"), resample_nearest(values, prepared.size), rtol=1e-3
        )
        assert prepared.extra("another") is None


def test_maps_of_every_kind_of_file_are_the_same(dataset, tmp_path):
    weights = mean_map(dataset, tmp_path / "w", np.abs)
    paths = dict(weights.paths)
    values = [np.load(path) for path in paths.values()]
    np.savez_compressed(tmp_path / "w" / "c1.npz", data=values[1][None])
    write_plain(tmp_path / "w" / "c2.nii.gz", values[2])
    paths |= {"c1": tmp_path / "w" / "c1.npz", "c2": tmp_path / "w" / "c2.nii.gz"}
    prepared = prepare(dataset, tmp_path, maps=[replace(weights, paths=paths)])
    for case, expected in zip(prepared, values, strict=True):
        np.testing.assert_array_equal(case.extra("trust"), expected.astype(np.float16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda image: np.ones((6, 16, 17)), r"shape \(6, 16, 17\) where the image .* \(6, 16, 18\)"),
        (lambda image: np.where(image > image.mean(), -1.0, 1.0), "negative"),
        (lambda image: np.where(image > image.mean(), np.nan, 1.0), "not finite"),
        (lambda image: np.full(image.shape, 1e5), "65504"),
        (lambda image: np.zeros(image.shape), "nothing but zeros"),
        (lambda image: np.full(image.shape, "much"), "not an array of numbers"),
    ],
)
def test_maps_that_weigh_nothing_sensible_are_refused(dataset, tmp_path, make, message):
    weights = mean_map(dataset, tmp_path / "w", make)
    with pytest.raises(UserError, match=message) as error:
        prepare(dataset, tmp_path, maps=[weights])
    assert str(tmp_path / "w" / "c0.npy") in str(error.value)


def test_a_missing_map_is_named(dataset, tmp_path):
    weights = mean_map(dataset, tmp_path / "w", np.ones_like)
    with pytest.raises(UserError, match=r'"c1".*"trust"'):
        prepare(dataset, tmp_path, maps=[replace(weights, paths={"c0": weights.paths["c0"]})])
    weights.paths["c2"].unlink()
    with pytest.raises(UserError, match=r"c2\.npy"):
        prepare(dataset, tmp_path, maps=[weights])


def test_settings_that_do_not_fit_are_refused(dataset, tmp_path):
    for settings, message in [
        (Settings(None, ("zscore",) * 2, (None,) * 2), "preprocess.normalisation: 2 .* 1 channel"),
        (Settings(None, ("ct",), (None,)), r"preprocess\.clip: channel 0"),
        (Settings((1.0, 1.0), ("zscore",), (None,)), r"preprocess\.spacing: 2"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(dataset, tmp_path, settings)


def test_images_with_nan_are_refused(tmp_path):
    dataset = blocks(tmp_path / "Dataset001_blocks", ending=".mha")
    image = np.ones((6, 16, 18), np.float32)
    image[2, 3, 4] = np.nan
    write_plain(dataset.training[0].images[0], image)
    with pytest.raises(UserError, match=r"c0_0000\.mha: .*NaN"):
        prepare(dataset, tmp_path)


# Folders that nnU-Net preprocessed


def preprocessed(folder, unpacked, shape=(5, 12, 14)):
    """Two cases, images first and the segmentation last, and their properties."""
    stage = folder / "nnUNetData_plans_v2.1_stage0"
    stage.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(2):
        array = rng.normal(size=(3, *shape)).astype(np.float32)
        array[-1] = rng.integers(-1, 3, shape)
        if unpacked:
            np.save(stage / f"p{n}.npy", array)
        np.savez_compressed(stage / f"p{n}.npz", data=array)
        properties = {"spacing_after_resampling": np.array([2.0, 1.0, 1.0]), "classes": np.array([0, 1, 2])}
        (stage / f"p{n}.pkl").write_bytes(pickle.dumps(properties))
    return read_dataset(stage)


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("shape", [(5, 12, 14), (1, 12, 14)])
def test_preprocessed_arrays_are_used_as_they_are(tmp_path, unpacked, shape):
    dataset = preprocessed(tmp_path / "Task007_blocks", unpacked, shape)
    settings = Settings((9.0,) * dataset.dimensions, ("zscore",) * 2, (None,) * 2)
    for case, prepared in zip(dataset.training, prepare(dataset, tmp_path, settings), strict=True):
        with np.load(case.images[0].with_suffix(".npz")) as archive:
            array = archive["data"]
        array = array.reshape(3, *shape[-dataset.dimensions :])
        np.testing.assert_array_equal(prepared.image(), array[:2])
        np.testing.assert_array_equal(prepared.label(), array[2])
        assert isinstance(prepared.image(), np.memmap)
        assert prepared.stored == (case.images[0] if unpacked else prepared.folder / "image.npy")
        assert (prepared.folder / "image.npy").exists() != unpacked
        assert prepared.spacing == (1.0, 1.0, 2.0)[: dataset.dimensions]
        assert len(prepared.annotated()) == (array[2] >= 0).sum()


def test_weight_maps_beside_preprocessed_files(tmp_path):
    dataset = preprocessed(tmp_path / "Task007_blocks", True, (1, 12, 14))
    weights = np.random.default_rng(0).random((1, 1, 12, 14)).astype(np.float32)
    stage = dataset.path if dataset.path.name.endswith("stage0") else dataset.training[0].images[0].parent
    paths = {case.id: stage / f"{case.id}_weightmap.npy" for case in dataset.training}
    for path in paths.values():
        np.save(path, weights)
    for prepared in prepare(dataset, tmp_path, maps=[ExtraMap("weight", "weight", "linear", 0.0, paths)]):
        assert prepared.extra("weight").shape == prepared.label().shape
        np.testing.assert_array_equal(prepared.extra("weight").squeeze(), weights[0, 0].astype(np.float16))
