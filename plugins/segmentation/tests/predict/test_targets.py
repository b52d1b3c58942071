"""Output files: no third-party file is lost, and every image that a model accepts gets its label map."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from tests.fixtures.projects import draw_segmentation_project

pytestmark = pytest.mark.usefixtures("without_charts")

SHORT = {"max_epochs": 1, "mini_batch_size": 1}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("volumes"), size=(20, 24, 16), spacing=(1.0, 0.5, 2.0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pictures"), size=(32, 24), ending=".png")


def trained(folder, **given):
    project = draw_segmentation_project(folder, training=2, testing=1, **given)
    project.set(solver=SHORT)
    assert project.train() == 0
    return project


def scan(project):
    return next((project.raw / "imagesTs").iterdir())


def contents(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".lannunet")
    }


# Third-party files


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_image_is_never_a_target(volumes, tmp_path, options, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(scan(volumes), scans / "x.nii.gz")
    before = contents(scans)
    assert volumes.lannunet("predict", volumes.out, scans, "-o", scans, *options) == 2
    assert f"lannunet did not write {scans / 'x.nii.gz'}" in capsys.readouterr().err
    assert contents(scans) == before


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_a_cases_name_stays(volumes, tmp_path, options, linked, capsys):
    out, mine = tmp_path / "out", tmp_path / "mine.nii.gz"
    out.mkdir()
    mine.write_text("no label map")
    target = out / "Ts0.nii.gz"
    target.symlink_to(mine) if linked else shutil.copy(mine, target)
    assert volumes.lannunet("predict", volumes.out, scan(volumes), "-o", out, *options) == 2
    assert f"lannunet did not write {target}" in capsys.readouterr().err
    assert target.read_text() == mine.read_text() == "no label map"
    assert target.is_symlink() == linked


def test_predicting_again_leaves_no_older_label_maps_and_everything_else(volumes, tmp_path):
    out, images = tmp_path / "out", tmp_path / "images"
    shutil.copytree(volumes.raw / "imagesTr", images)
    assert volumes.lannunet("predict", volumes.out, images, "-o", out) == 0
    assert {"Tr0.nii.gz", "Tr1.nii.gz"} <= set(contents(out))
    for name in ("mine.nii.gz", "notes.txt"):
        (out / name).write_text("mine")
    assert volumes.lannunet("predict", volumes.out, scan(volumes), "-o", out) == 2
    assert volumes.lannunet("predict", volumes.out, scan(volumes), "-o", out, "--overwrite") == 0
    left = contents(out)
    assert {name for name in left if name.endswith((".gz", ".txt"))} == {
        "Ts0.nii.gz",
        "mine.nii.gz",
        "notes.txt",
    }
    assert left["mine.nii.gz"] == left["notes.txt"] == b"mine"


def test_an_earlier_result_is_not_read_and_replaced_at_once(volumes, tmp_path, capsys):
    out = tmp_path / "out"
    assert volumes.lannunet("predict", volumes.out, scan(volumes), "-o", out) == 0
    before = contents(out)
    assert volumes.lannunet("predict", volumes.out, out / "Ts0.nii.gz", "-o", out, "--overwrite") == 2
    assert "Ts0.nii.gz is to be read, but is a result" in capsys.readouterr().err
    assert contents(out) == before


def test_a_stranger_among_the_predictions_of_a_run_is_found_before_it_trains(segmentation_project, capsys):
    project = segmentation_project(training=2, testing=2)
    project.set(solver=SHORT)
    assert project.train() == 0
    target = project.out / "predictions" / "Ts1.nii.gz"
    (project.raw / "imagesTs" / "Ts1_0000.nii.gz").rename(project.folder / "kept.nii.gz")
    (project.raw / "labelsTs" / "Ts1.nii.gz").unlink()
    assert project.train("--overwrite") == 0
    assert not target.exists()
    target.write_text("mine")
    (project.folder / "kept.nii.gz").rename(project.raw / "imagesTs" / "Ts1_0000.nii.gz")
    before = (project.out / "metrics.jsonl").read_bytes()
    assert project.train("--overwrite") == 2
    assert f"lannunet did not write {target}" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert (project.out / "metrics.jsonl").read_bytes() == before


def test_a_name_that_cannot_name_a_label_map_is_found_before_the_work(volumes, tmp_path, capsys):
    image = tmp_path / f"{'x' * 220}.nii"
    sitk.WriteImage(sitk.ReadImage(str(scan(volumes))), str(image))
    assert volumes.lannunet("predict", volumes.out, image, "-o", tmp_path / "out") == 2
    assert "cannot name a file" in capsys.readouterr().err


# Every format


def save(path, array, spacing=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
        return
    if path.suffix == ".jpg":
        Image.fromarray(array).save(path, quality=100, subsampling=0)
        return
    image = sitk.GetImageFromArray(array.astype(np.uint16) if path.suffix == ".dcm" else array)
    if spacing:
        image.SetSpacing(spacing)
    lower = path.with_name(path.name.lower())
    sitk.WriteImage(image, str(lower))
    lower.rename(path)


def test_a_folder_of_all_kinds_is_predicted_as_a_whole(volumes, tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    stored = sitk.ReadImage(str(scan(volumes)))
    pixels, spacing = sitk.GetArrayFromImage(stored), stored.GetSpacing()
    endings = {
        "a_0000.nii": "a.nii",
        "b_0000.nii.gz": "b.nii.gz",
        "c_0000.mha": "c.mha",
        "d.nrrd": "d.nrrd",
        "E_0000.NII.GZ": "E.nii.gz",
        "f.tif": "f.nii.gz",
        "g.npy": "g.nii.gz",
        "h.mhd": "h.nii.gz",
    }
    for name in endings:
        if name == "E_0000.NII.GZ":
            shutil.copy(scan(volumes), images / name)
        else:
            save(images / name, pixels, spacing)
    assert volumes.lannunet("predict", volumes.out, images, "-o", out) == 0
    assert {"config.yaml", "run.json", *endings.values()} == set(contents(out))
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "b.nii.gz")))
    for name, label in endings.items():
        written = sitk.ReadImage(str(out / label))
        assert written.GetSize() == stored.GetSize()
        if name not in ("f.tif", "g.npy"):
            assert written.GetSpacing() == pytest.approx(spacing)
            np.testing.assert_array_equal(sitk.GetArrayFromImage(written), wanted)
    said = capsys.readouterr()
    for ending in (".NII.GZ", ".tif", ".npy", ".mhd"):
        assert f"label maps of {ending} images are written as .nii.gz" in said.out
    assert "left out" not in said.err


def test_pictures_of_all_kinds(pictures, tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    pixels = np.asarray(Image.open(scan(pictures)))
    names = {
        "a.png": "a.png",
        "b.jpg": "b.png",
        "c.tif": "c.tif",
        "d.bmp": "d.bmp",
        "e.dcm": "e.nii.gz",
        "f.npy": "f.nii.gz",
    }
    for name in names:
        save(images / name, pixels)
    assert pictures.lannunet("predict", pictures.out, images, "-o", out) == 0
    assert {"config.yaml", "run.json", *names.values()} == set(contents(out))
    wanted = np.asarray(Image.open(out / "a.png"))
    for label in names.values():
        if label.endswith(".gz"):
            written = sitk.GetArrayFromImage(sitk.ReadImage(str(out / label))).reshape(wanted.shape)
        else:
            written = np.asarray(Image.open(out / label))
        if label != "b.png":
            np.testing.assert_array_equal(written, wanted)
    said = capsys.readouterr().out
    assert "label maps of .jpg images are written as .png" in said
    assert "label maps of .dcm images are written as .nii.gz" in said


@pytest.mark.parametrize(
    ("ending", "written", "size"),
    [
        (".NII.GZ", ".nii.gz", (20, 24, 16)),
        (".tif", ".nii.gz", (20, 24, 16)),
        (".npy", ".nii.gz", (20, 24, 16)),
        (".mhd", ".nii.gz", (20, 24, 16)),
        (".jpg", ".png", (32, 24)),
        (".npy", ".nii.gz", (32, 24)),
    ],
)
def test_what_trains_is_segmented(segmentation_project, ending, written, size, capsys):
    old = ".nii.gz" if len(size) == 3 else ".png"
    project = segmentation_project(training=2, testing=1, size=size, ending=old)
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        for path in list((project.raw / part).iterdir()):
            target = path.with_name(path.name.removesuffix(old) + ending)
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            if ending == ".jpg" and part.startswith("labels"):
                pixels = (np.indices(pixels.shape)[0] > 11).astype(np.uint8)  # as JPEG keeps them
            path.rename(target) if ending == ".NII.GZ" else save(target, pixels)
            path.unlink(missing_ok=True)
    declared = json.loads((project.raw / "dataset.json").read_text()) | {"file_ending": ending}
    (project.raw / "dataset.json").write_text(json.dumps(declared))
    project.set(solver=SHORT)
    assert project.train() == 0
    assert [path.name for path in (project.out / "predictions").iterdir()] == [f"Ts0{written}"]
    assert (project.out / "report.html").exists()
    assert ("are JPEG, which changes values" in capsys.readouterr().err) == (ending == ".jpg")


def test_a_path_that_is_not_there_is_said_to_be_so(volumes, tmp_path, capsys):
    assert volumes.lannunet("predict", volumes.out, tmp_path / "nowhere", "-o", tmp_path / "out") == 2
    assert f"{tmp_path / 'nowhere'}: does not exist" in capsys.readouterr().err
