"""World coordinates: oblique, mirrored and sheared images, against SimpleITK and against the matrix."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings, strategies as st
from lannunet_images import IMAGE_FILES
from lannunet_landmarks import Prediction, World, load_dataset, radial_errors
from lannunet_landmarks.data.annotations import dataset_section
from lannunet_landmarks.data.world import to_pixels, to_world, world_of
from lannunet_landmarks.evaluation.summary import uncertainties
from scipy.spatial.transform import Rotation

from lannunet_core import Placement, State, UserError
from tests.fixtures.dicom import write_series

SIGNS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACING = st.tuples(*[st.floats(0.1, 5)] * 3)
POINTS = st.lists(st.tuples(*[st.floats(-3, 30)] * 3), min_size=1, max_size=4)


def saved(path, size=(7, 6, 5), spacing=(1, 1, 1), origin=(0, 0, 0), direction=None):
    direction = np.eye(3) if direction is None else direction
    image = sitk.GetImageFromArray(np.zeros(size[::-1], np.uint8))
    image.SetSpacing([float(step) for step in spacing])
    image.SetOrigin([float(value) for value in origin])
    image.SetDirection(np.ravel(direction).tolist())
    sitk.WriteImage(image, str(path))
    return sitk.ReadImage(str(path))


@settings(max_examples=25, deadline=None)
@given(angles=ANGLES, signs=SIGNS, spacing=SPACING, points=POINTS)
def test_voxels_and_points_are_those_of_simpleitk(tmp_path_factory, angles, signs, spacing, points):
    path = tmp_path_factory.getbasetemp() / "oblique.mha"
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * signs
    image = saved(path, spacing=spacing, origin=(-31.5, 12.25, 7), direction=direction)
    voxels = np.array(points)
    lps = np.array([image.TransformContinuousIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()])
    for system, world in (("LPS", lps), ("RAS", lps * [-1, -1, 1])):
        np.testing.assert_allclose(to_world(voxels, system, path, IMAGE_FILES, ""), world, atol=1e-6)
        np.testing.assert_allclose(to_pixels(world, system, path, 3, IMAGE_FILES, ""), voxels, atol=1e-6)


NEGATIVE = (
    "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementSpacing = 2 -3 1\n"
)


def test_a_negative_spacing_is_an_axis_that_runs_the_other_way(tmp_path):
    path = tmp_path / "negative.mhd"
    path.write_text(f"{NEGATIVE}Offset = 10 20 30\nElementDataFile = negative.raw\n")
    (tmp_path / "negative.raw").write_bytes(bytes(64))
    found = to_world(np.array([[1.0, 2.0, 3.0]]), "LPS", path, IMAGE_FILES, "")
    np.testing.assert_allclose(found, [[12, 14, 33]])


SHEARED = np.array([[1.0, 0.4, 0.0, -5.0], [0.0, 1.2, -0.3, 8.0], [0.2, 0.0, 2.0, 1.0]])  # RAS of a NIfTI


@pytest.fixture(scope="module")
def sheared(tmp_path_factory) -> Path:
    """A NIfTI with a sheared sform; SimpleITK does not write one."""
    path = tmp_path_factory.mktemp("sheared") / "case.nii"
    saved(path)
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([0, 1], "<i2").tobytes()
    content[280:328] = SHEARED.astype("<f4").tobytes()
    path.write_bytes(content)
    return path


def test_a_sheared_image_is_placed_by_its_matrix(sheared):
    voxels = np.array([[0.0, 0, 0], [1.5, 2.25, 3]])
    ras = voxels @ SHEARED[:, :3].T + SHEARED[:, 3]
    np.testing.assert_allclose(to_world(voxels, "RAS", sheared, IMAGE_FILES, ""), ras, atol=1e-5)
    np.testing.assert_allclose(to_pixels(ras, "RAS", sheared, 3, IMAGE_FILES, ""), voxels, atol=1e-5)


def test_errors_and_uncertainties_in_mm_are_those_of_the_world(sheared):
    header = IMAGE_FILES.header(sheared, 3)
    offset, covariance = np.array([[1.0, 2.0, -1.0]]), np.array([np.diag([1.0, 4.0, 0.25])])
    covariance[0, 0, 1] = covariance[0, 1, 0] = 0.5
    prediction = Prediction(
        "a",
        sheared,
        coordinates=np.array([[3.0, 3.0, 3.0]]) + offset,
        confidence=np.ones(1),
        covariance=covariance,
        target=np.array([[3.0, 3.0, 3.0]]),
        states=np.array([State.VISIBLE]),
        spacing=header.spacing,
        world=world_of(header),
    )
    matrix = SHEARED[:, :3]
    assert radial_errors(prediction)[1] == pytest.approx(np.linalg.norm(matrix @ offset[0]), abs=1e-5)
    assert uncertainties(prediction)[1] == pytest.approx(
        np.sqrt(np.trace(matrix @ covariance[0] @ matrix.T)), abs=1e-5
    )
    by_axes = replace(prediction, world=None)  # as where annotations declare the spacing
    assert radial_errors(by_axes)[1] == pytest.approx(np.linalg.norm(offset[0] * header.spacing))


def test_a_picture_that_is_one_slice_lies_in_its_plane(tmp_path):
    path = tmp_path / "slice.mha"
    direction = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    saved(path, size=(8, 8, 1), spacing=(0.5, 0.5, 4), origin=(1, 2, 3), direction=direction)
    world = to_world(np.array([[2.0, 4.0]]), "LPS", path, IMAGE_FILES, "")
    np.testing.assert_allclose(world, [[2, 2, 5]], atol=1e-9)
    np.testing.assert_allclose(to_pixels(world, "LPS", path, 2, IMAGE_FILES, ""), [[2, 4]], atol=1e-9)
    with pytest.raises(UserError, match=r"a point lies 0\.75 slices away from the single slice of"):
        to_pixels(world - [[0, 3, 0]], "LPS", path, 2, IMAGE_FILES, "")
    content = {
        "coordinate_system": "LPS",
        "testing": [{"id": "a", "image": "slice.mha", "coordinates": world.tolist()}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = load_dataset(dataset_section(tmp_path / "a.json"), -1)
    assert dataset.dimensions == 2
    np.testing.assert_allclose(dataset.samples["testing"][0].coordinates, [[2, 4]], atol=1e-9)


def test_dicom_slices_lie_in_the_world_too(tmp_path):
    """A folder of them, and a series in it that is named by its UID."""
    write_series(tmp_path / "ct", 4, uid="1.2.3")
    for image in (tmp_path / "ct", tmp_path / "ct/1.2.3"):
        points = to_pixels(np.array([[11.0, -17, 35]]), "LPS", image, 3, IMAGE_FILES, "here")
        np.testing.assert_allclose(points, [[2, 4, 2]], atol=1e-6)


@pytest.mark.parametrize(("system", "image", "said"), [
    ("lps", "slice.mha", '"coordinate_system" is "lps"; it must be one of pixel, LPS, RAS'),
    ("LPS", "a.png", 'a.json, sample "a" of testing: its points are in mm .* image .*a.png states no'),
    ("RAS", "gone.mha", 'a.json, sample "a" of testing: image .*gone.mha does not exist'),
])  # fmt: skip
def test_what_has_no_world_is_said(system, image, said, tmp_path):
    saved(tmp_path / "slice.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8), np.uint8)), str(tmp_path / "a.png"))
    entry = {"id": "a", "image": image, "coordinates": [[1, 2, 3], None]}
    (tmp_path / "a.json").write_text(json.dumps({"coordinate_system": system, "testing": [entry]}))
    with pytest.raises(UserError, match=said):
        load_dataset(dataset_section(tmp_path / "a.json"), -1)


@pytest.mark.parametrize(("written", "said"), [
    ({"at": [1, 2, 3], "occluded": "yes"}, 'landmark 0 is {"at": .* an object must be'),
    ({"at": [1, 2, 3], "hidden": True}, "landmark 0 is .* an object must be"),
    ({"occluded": True}, "landmark 0 is .* must be a list of numbers"),
])  # fmt: skip
def test_an_occluded_point_is_spelt_in_one_way(written, said, tmp_path):
    saved(tmp_path / "a.mha")
    points = [written, {"at": [1, 2, 3], "occluded": True}, [3, 2, 1]]
    content = {"testing": [{"id": "a", "image": "a.mha", "coordinates": points}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        load_dataset(dataset_section(tmp_path / "a.json"), -1)
    points[0] = None
    (tmp_path / "a.json").write_text(json.dumps(content))
    (one,) = load_dataset(dataset_section(tmp_path / "a.json"), -1).samples["testing"]
    assert one.occluded.tolist() == [False, True, False]
    assert one.states.tolist() == [State.UNLABELLED, State.VISIBLE, State.VISIBLE]


def test_millimetres_and_voxels_are_one_data_set_to_the_trainer(make_project, capsys):
    """End to end: the same training, predictions in voxels and in the world, occluded ones separately."""
    project = make_project(sizes=((24, 20, 12),), splits={"training": 2, "validation": 1, "testing": 2})
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1}, sampler={"input_size": [16, 16, 16]})
    direction = Rotation.from_euler("xyz", [20, -35, 110], degrees=True).as_matrix() * [1, 1, -1]
    entries = [one for split in ("training", "validation", "testing") for one in project.annotations[split]]
    for one in entries:
        path = project.folder / one["image"]
        image = sitk.ReadImage(str(path))
        image.SetOrigin((5.0, -40.0, 12.5))
        image.SetDirection(np.ravel(direction).tolist())
        sitk.WriteImage(image, str(path))
    assert project.train() == 0
    in_voxels = project.rows()
    worlds = []
    for one in entries:
        path = project.folder / one["image"]
        world = to_world(np.array(one["coordinates"]), "RAS", path, IMAGE_FILES, "")
        worlds.append(one["coordinates"])
        one["coordinates"] = world.tolist()
    project.annotations["coordinate_system"] = "RAS"
    hidden = project.annotations["testing"][0]["coordinates"]
    hidden[0] = {"at": hidden[0], "occluded": True}
    project.write()
    dataset = load_dataset(dataset_section(project.json), -1)
    samples = [one for split in ("training", "validation", "testing") for one in dataset.samples[split]]
    for sample, voxels in zip(samples, worlds, strict=True):
        np.testing.assert_allclose(sample.coordinates, voxels, atol=1e-6)
    capsys.readouterr()
    assert project.train("--overwrite") == 0
    assert "mean error of occluded landmarks and of the others: " in capsys.readouterr().out
    rows = project.rows()
    assert [row["occluded"] for row in rows] == ["true", "false", "false", "false"]
    summary = json.loads((project.out / "summary.json").read_text())["overall"]["occluded"]
    assert summary["occluded"]["evaluated"] == 1
    assert summary["occluded"]["mean"] == pytest.approx(float(rows[0]["error_mm"]), abs=1e-3)
    page = " ".join((project.out / "report.html").read_text().split())
    told = re.search(
        r"Occluded landmarks: mean ([\d.]+) mm, median [\d.]+ mm, 1 cases\. The others: mean", page
    )
    assert float(told[1]) == pytest.approx(summary["occluded"]["mean"], rel=0.01)
    for row, before in zip(rows, in_voxels, strict=True):
        point = np.array([[float(row[axis]) for axis in "xyz"]])
        assert point[0] == pytest.approx([float(before[axis]) for axis in "xyz"], abs=0.01)
        image = sitk.ReadImage(str(project.folder / "images" / f"{row['id']}.mha"))
        lps = image.TransformContinuousIndexToPhysicalPoint(point[0].tolist())
        assert [float(row[f"{axis}_lps_mm"]) for axis in "xyz"] == pytest.approx(lps, abs=0.01)
    assert (
        project.lannunet(
            "evaluate", project.out / "predictions.csv", project.json, "-o", project.folder / "e"
        )
        == 0
    )
    again = project.rows(project.folder / "e")
    for row, other in zip(rows, again, strict=True):
        assert row["occluded"] == other["occluded"]
        for key in ("x_lps_mm", "error_mm"):
            assert float(other[key]) == pytest.approx(float(row[key]), abs=0.003)  # from rounded voxels


def test_a_world_of_fewer_axes_is_filled_up():
    world = World.of(Placement((2.0, 3.0), (10.0, 20.0), np.eye(2)), 3)
    np.testing.assert_allclose(world.points(np.array([[1.0, 2.0]])), [[12.0, 26.0, 0.0]])
