"""`lannunet weightmaps`, and the script with DIAG's name, on nnU-Net folders."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from importlib import metadata

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_weighted.command import script
from lannunet_weighted.maps import weight_map
from PIL import Image

from lannunet_core import cli


def lannunet(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["weightmaps", *map(str, arguments)])
    return end.value.code or 0


def draw_label(seed: int, shape=(9, 20, 22)) -> np.ndarray:
    label = np.zeros(shape, np.int16)
    rng = np.random.default_rng(seed)
    for number in range(4):
        corner = [rng.integers(0, side - 5) for side in shape]
        label[tuple(slice(c, c + 5) for c in corner)] = 1 + number % 2
    return label


@pytest.fixture
def raw(tmp_path):
    """A raw folder of version 2 with three volumes."""
    folder = tmp_path / "Dataset007_Shapes"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for n in range(3):
        for path, array in (
            (f"imagesTr/case_{n}_0000.nii.gz", np.zeros((9, 20, 22), np.float32)),
            (f"labelsTr/case_{n}.nii.gz", draw_label(n)),
        ):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((0.5, 0.75, 2.0))
            sitk.WriteImage(image, str(folder / path))
    declare(folder, {"channel_names": {"0": "CT"}, "numTraining": 3, "file_ending": ".nii.gz"})
    return folder


@pytest.fixture
def stage(tmp_path):
    """A folder that nnU-Net version 1 preprocessed: arrays of two channels and the segmentation."""
    stage = tmp_path / "Task007_Shapes" / "nnUNetData_plans_v2.1_stage0"
    stage.mkdir(parents=True)
    for n in range(3):
        image = np.zeros((2, 9, 20, 22), np.float32)
        np.savez_compressed(stage / f"case_{n}.npz", data=np.concatenate([image, draw_label(n)[None]]))
        properties = OrderedDict(spacing_after_resampling=np.array([2.0, 0.75, 0.5]), classes=[0, 1, 2])
        (stage / f"case_{n}.pkl").write_bytes(pickle.dumps(properties))
    declare(stage.parent, {"modality": {"0": "CT"}}, {"0": "background", "1": "a", "2": "b"})
    return stage


def declare(folder, content, labels=None) -> None:
    labels = labels or {"background": 0, "a": 1, "b": 2}
    (folder / "dataset.json").write_text(json.dumps(content | {"labels": labels}))


def test_maps_of_a_raw_folder(raw, capsys):
    assert lannunet(raw, "--jobs", 1) == 0

    for n in range(3):
        weights = np.load(raw / "weightmapsTr" / f"case_{n}_weightmap.npy")
        assert (weights.dtype, weights.shape) == (np.float32, (1, 9, 20, 22))
        np.testing.assert_array_equal(weights[0], weight_map(draw_label(n), [1, 2], "unet"))
    assert "3 weight maps computed" in capsys.readouterr().out


def test_maps_lie_beside_preprocessed_cases_as_nnunet_has_them(stage):
    assert lannunet(stage, "--jobs", 1, "--half", "--mode", "nearest") == 0

    maps = sorted(path.name for path in stage.glob("*.npy"))
    assert maps == [f"case_{n}_weightmap.npy" for n in range(3)]
    weights = np.load(stage / maps[1])
    assert weights.dtype == np.float16
    np.testing.assert_allclose(weights[0], weight_map(draw_label(1), [1, 2], "nearest"), rtol=1e-3)


def test_processes_give_the_same(stage, tmp_path):
    assert lannunet(stage, "--jobs", 2, "-o", tmp_path / "two") == 0
    assert lannunet(stage.parent, "--jobs", 1, "-o", tmp_path / "one") == 0  # the folder above finds it

    for path in (tmp_path / "one").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert len(list((tmp_path / "two").glob("*.npy"))) == 3


def test_distances_in_mm(raw, stage, tmp_path):
    expected = weight_map(draw_label(0), [1, 2], "unet", sigma=3, spacing=(0.5, 0.75, 2.0))

    for folder, out in ((raw, tmp_path / "raw"), (stage, tmp_path / "stage")):
        assert lannunet(folder, "--mm", "--sigma", 3, "--jobs", 1, "-o", out) == 0
        np.testing.assert_array_equal(np.load(out / "case_0_weightmap.npy")[0], expected)


def test_options_reach_the_formula(stage):
    arguments = ("--w0", 3, "--sigma", 2, "-c", "2", "--matching-pattern", "*_1.npz", "--jobs", 1)
    assert lannunet(stage, *arguments) == 0

    (path,) = stage.glob("*_weightmap.npy")
    expected = weight_map(draw_label(1), [2], "unet", w0=3, sigma=2)
    np.testing.assert_array_equal(np.load(path)[0], expected)


def test_maps_that_are_there_are_kept_unless_told(raw, capsys):
    kept = raw / "weightmapsTr" / "case_1_weightmap.npy"
    kept.parent.mkdir()
    np.save(kept, np.zeros(1))

    assert lannunet(raw, "--jobs", 1) == 0
    assert np.load(kept).shape == (1,)
    assert "2 weight maps computed, 1 kept" in capsys.readouterr().out

    assert lannunet(raw, "--jobs", 1, "--overwrite") == 2  # a third-party map
    assert "case_1_weightmap.npy: lannunet did not write this file" in capsys.readouterr().err
    assert np.load(kept).shape == (1,)

    kept.unlink()
    made = raw / "weightmapsTr" / "case_0_weightmap.npy"
    np.save(made, np.zeros(1))
    assert lannunet(raw, "--jobs", 1, "--overwrite") == 0
    assert np.load(kept).shape == np.load(made).shape == (1, 9, 20, 22)


def test_it_can_be_interrupted_and_goes_on(stage):
    slow = (
        "import signal, sys, time, lannunet_weighted.generate as g; make = g.weight_map\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
        "def slow(*a, **k): time.sleep(1); return make(*a, **k)\n"
        "g.weight_map = slow\n"
        "from lannunet_core.cli import main; main(['weightmaps', sys.argv[1], '--jobs', '1'])"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, str(stage)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(stage.glob("case*_weightmap.npy")):  # not the hidden one that is being written
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, "Interrupted.\n")
    first = {path: path.stat().st_mtime_ns for path in stage.glob("*_weightmap.npy")}
    assert 1 <= len(first) < 3
    assert [path.name for path in stage.glob(".*")] == [".lannunet-files"]
    assert lannunet(stage, "--jobs", 1) == 0
    assert len(list(stage.glob("*_weightmap.npy"))) == 3
    assert all(path.stat().st_mtime_ns == made for path, made in first.items())


def test_pictures_and_instances(tmp_path):
    folder = tmp_path / "Dataset008_Cells"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    label = np.zeros((30, 40), np.uint16)
    label[5:15, 5:15], label[5:15, 15:25] = 3, 300
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "imagesTr" / "cell_0000.png")
    Image.fromarray(label).save(folder / "labelsTr" / "cell.png")
    declare(folder, {"channel_names": {"0": "x"}, "file_ending": ".png"}, {"background": 0, "cell": 1})

    assert lannunet(folder, "--objects", "instances") == 0

    weights = np.load(folder / "weightmapsTr" / "cell_weightmap.npy")
    expected = weight_map(label.astype(np.int32), (), "unet", objects="instances")
    np.testing.assert_array_equal(weights[0], expected)
    assert lannunet(folder, "--overwrite") == 2  # 300 is no class


def test_preprocessed_pictures_keep_their_axis_of_one(stage):
    label = draw_label(5, (20, 22))
    np.savez(stage / "flat.npz", data=np.stack([np.zeros((1, 20, 22)), label[None]]))

    assert lannunet(stage, "--mode", "nearest", "--matching-pattern", "flat.npz") == 0

    weights = np.load(stage / "flat_weightmap.npy")
    assert weights.shape == (1, 1, 20, 22)
    np.testing.assert_allclose(weights[0, 0], weight_map(label, [1, 2], "nearest"), rtol=1e-6)


def test_the_script_takes_the_arguments_of_the_original(stage, tmp_path, capsys):
    words = "--matching-pattern *_2.npz --sigma 4 --w0 8 -c 1 2"
    script([str(stage), "--output-dir", str(tmp_path), *words.split()])

    (path,) = tmp_path.glob("*.npy")
    assert path.name == "case_2_weightmap.npy"
    expected = weight_map(draw_label(2), [1, 2], "nearest", w0=8, sigma=4)
    np.testing.assert_array_equal(np.load(path)[0], expected)
    with pytest.raises(SystemExit, match="0"):
        script(["--help"])
    assert "--matching-pattern" in capsys.readouterr().out


def test_the_script_is_installed_and_needs_no_pickles(stage):
    (entry,) = metadata.entry_points(group="console_scripts", name="nnUNet_diag_generate_unet_weightmaps")
    assert entry.load() is script
    for path in stage.glob("*.pkl"):
        path.unlink()

    script([str(stage)])
    script([str(stage), "--w0", "0"])  # replaces what is there

    weights = np.load(stage / "case_0_weightmap.npy")
    np.testing.assert_array_equal(weights[0], weight_map(draw_label(0), [1, 2], "nearest", w0=0))


def test_the_script_ends_as_every_command_does(stage, capfd, monkeypatch):
    def ended(*arguments):
        with pytest.raises(SystemExit) as end:
            script([str(stage), *arguments])
        return end.value.code, capfd.readouterr().err

    assert ended("--w0", "-1") == (2, "Error: --w0: -1 is not a weight. Give 0 or a positive number.\n")
    (stage / "file").write_text("")
    code, said = ended("--output-dir", str(stage / "file" / "maps"))  # the user's mistake: 2, as elsewhere
    assert code == 2
    assert said.startswith(f"Error: {stage / 'file'}")
    monkeypatch.setattr("lannunet_weighted.command._make", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert ended() == (143, "Interrupted.\n")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--sigma", "0"], "--sigma: 0 is not a width"),
        (["--sigma", "nan"], "--sigma: nan is not a width"),
        (["--w0", "-1"], "--w0: -1 is not a weight"),
        (["--w0", "1e6", "--half"], "--half: float16 cannot store a weight of 1e+06"),
        (["-c", "1,x"], "--classes: 'x' is not a class"),
        (["-c", "0"], "--classes: '0' is not a class"),
        (["-c", "1,7"], "--classes: 7 is not a class of"),
        (["--objects", "instances", "-c", "1"], "works with --mode unet and without --classes"),
        (["--matching-pattern", "liver*"], "has no case with a name like liver*"),
    ],
)
def test_bad_options_are_refused(stage, arguments, said, capsys):
    assert lannunet(stage, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(stage.glob("*_weightmap.npy"))


def test_bad_folders_are_refused(stage, tmp_path, capsys):
    def refused(folder, said) -> None:
        assert lannunet(folder, "--jobs", 1) == 2
        assert said in capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "absent", "is not a folder")
    refused(tmp_path / "empty", "has no case")
    (stage.parent / "dataset.json").rename(tmp_path / "dataset.json")
    refused(stage, "or give the classes: --classes 1,2")
    (tmp_path / "dataset.json").rename(stage.parent / "dataset.json")
    np.savez(stage / "case_0.npz", data=np.full((2, 4, 4, 4), 0.5))
    refused(stage, "case_0.npz: its labels are not whole numbers")
    np.savez(stage / "case_0.npz", data=np.full((2, 4, 4, 4), np.nan))
    refused(stage, "case_0.npz: its labels are nan")
    np.savez(stage / "case_0.npz", data=np.zeros((4, 4)))
    refused(stage, "case_0.npz: has the shape (4, 4)")
    (stage / "case_0.npz").write_bytes(b"damaged")
    refused(stage, "case_0.npz: damaged")


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom lannunet_core.cli import main\n"
        "try: main(['weightmaps', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'scipy', 'SimpleITK', 'torch') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "--matching-pattern" in ended.stdout


def test_distances_in_mm_of_flat_arrays(stage, tmp_path):
    """A preprocessed image may be (C, y, x), its spacing that of a volume."""
    for mode in ("unet", "nearest"):
        for path in stage.glob("*.npz"):
            label = draw_label(int(path.stem[-1]), (20, 22))
            np.savez_compressed(path, data=np.stack([np.zeros((20, 22)), label]).astype(np.float32))
        out = tmp_path / mode
        assert lannunet(stage, "--mm", "--sigma", 3, "--mode", mode, "--jobs", 1, "-o", out) == 0
        expected = weight_map(draw_label(1, (20, 22)), [1, 2], mode, sigma=3, spacing=(0.5, 0.75))
        np.testing.assert_array_equal(np.load(out / "case_1_weightmap.npy")[0], expected)


@pytest.mark.parametrize("name", ["../../victim", "..", "a/b"])
def test_a_case_never_leads_out_of_the_folder_of_maps(segmentation, capsys, name):
    path = segmentation.raw / "dataset.json"
    declared = json.loads(path.read_text())
    declared["dataset"] = {name: {"images": ["imagesTr/Tr0_0000.nii.gz"], "label": "labelsTr/Tr0.nii.gz"}}
    path.write_text(json.dumps({**declared, "numTraining": 1}))
    before = sorted(segmentation.folder.rglob("*"))
    assert segmentation.lannunet("weightmaps", segmentation.raw) == 2
    assert "cannot name a file" in capsys.readouterr().err
    assert sorted(segmentation.folder.rglob("*")) == before
