"""The fingerprint of generated files."""

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data import fingerprint as fingerprints
from lannunet_segmentation.data.fingerprint import alignment_of, fingerprint
from lannunet_segmentation.data.folders import read_dataset

from lannunet_core.errors import UserError
from tests.fixtures.nnunet import folder_of, write_plain


def test_what_is_found_in_files(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for shape, spacing in (((6, 10, 12), (0.5, 0.5, 2.0)), ((8, 9, 11), (0.75, 0.75, 3.0))):
        label = rng.choice([-1, 0, 1, 2], shape, p=[0.5, 0.3, 0.15, 0.05]).astype(np.int16)
        cases.append((rng.normal(40, 100, shape).astype(np.float32), label, spacing))
    found = fingerprint(read_dataset(folder_of(tmp_path / "Dataset001_A", cases)))
    assert found.sizes == ((12, 10, 6), (11, 9, 8))
    np.testing.assert_allclose(found.spacings, [(0.5, 0.5, 2.0), (0.75, 0.75, 3.0)])
    labels = np.concatenate([label.ravel() for _, label, _ in cases])
    known = labels[labels >= 0]
    assert found.annotated == pytest.approx(len(known) / len(labels))
    np.testing.assert_allclose(found.class_shares, [(known == value).mean() for value in range(3)])
    foreground = np.concatenate([image[label > 0] for image, label, _ in cases]).astype(np.float64)
    expected = (*np.percentile(foreground, [0.5, 99.5]), foreground.mean(), foreground.std())
    np.testing.assert_allclose(found.intensities[0], expected, rtol=1e-6)


def test_background_stands_in_where_no_foreground_is_annotated(tmp_path):
    image = np.full((4, 5, 6), 7, np.float32)
    label = np.full(image.shape, -1, np.int16)
    label[0, 0, 0] = 0
    found = fingerprint(read_dataset(folder_of(tmp_path, [(image, label, (1, 1, 1))])))
    assert found.intensities[0] == (7, 7, 7, 0)
    assert found.class_shares == (1, 0, 0)


def test_few_of_many_cases_are_looked_into_but_all_before_nothing_is_said_to_be_annotated(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fingerprints, "CASES_LOOKED_INTO", 3)
    image = np.zeros((3, 4, 5), np.float32)
    nothing, full = np.full(image.shape, -1, np.int16), np.ones(image.shape, np.int16)
    cases = [(image, full, (1, 1, 1))] * 7
    found = fingerprint(read_dataset(folder_of(tmp_path / "a", cases)))
    assert (found.looked_into, len(found.sizes)) == (3, 7)
    cases = [(image, nothing, (1, 1, 1))] * 5 + [(image, full, (1, 1, 1)), (image, nothing, (1, 1, 1))]
    found = fingerprint(read_dataset(folder_of(tmp_path / "b", cases)))
    assert found.looked_into == 7
    assert found.annotated == pytest.approx(1 / 7)
    cases[5] = cases[0]
    with pytest.raises(UserError, match=r"c: no voxel of any training case is annotated\. Annotate"):
        fingerprint(read_dataset(folder_of(tmp_path / "c", cases)))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("degrees", "low", "high"), [(0, 0.99, 1), (30, 0.92, 0.99), (180, 0, 0.7)])
def test_the_orientations_of_images_agree_as_much_as_the_directions_between_their_classes(
    tmp_path, dimensions, degrees, low, high
):
    """Two discs, of which some cases lack one, rotated together within the plane."""
    rng, cases = np.random.default_rng(0), []
    y, x = np.mgrid[:48, :64]
    for case in range(12):
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        label = np.zeros((48, 64), np.int16)
        for value, reach in ((1, -15.0), *([(2, 15.0)] if case % 3 else [])):
            at = np.array([32, 24]) + reach * np.array([np.cos(angle), np.sin(angle)]) + rng.uniform(-1, 1, 2)
            label[np.hypot(x - at[0], y - at[1]) < 4] = value
        label = label if dimensions == 2 else np.repeat(label[None], 3, 0)
        cases.append((np.zeros(label.shape, np.float32), label, (1.0,) * dimensions))
    found = fingerprint(read_dataset(folder_of(tmp_path / "many", cases)))
    assert low <= found.alignment <= high
    few = fingerprint(read_dataset(folder_of(tmp_path / "few", cases[:4])))
    assert few.alignment == 0  # it could be chance


@pytest.mark.parametrize("limit", [30, 45, 120])
def test_the_agreement_of_rotated_vectors_is_that_of_a_uniform_distribution(limit):
    angles = np.radians(np.linspace(-limit, limit, 401))
    centres = np.zeros((len(angles), 2, 2))
    centres[:, 1] = np.stack([np.cos(angles), np.sin(angles)], -1)
    assert alignment_of(centres) == pytest.approx(np.sin(np.radians(limit)) / np.radians(limit), rel=0.01)


def test_directions_are_compared_in_mm(tmp_path):
    cases = []
    for case in range(6):
        x, y = (8, 4) if case % 2 else (4, 8)  # (8, 8) mm
        label = np.zeros((3, 33, 33), np.int16)
        label[:, 16 + y, 16 + x] = 1
        cases.append((np.zeros(label.shape, np.float32), label, (8 / x, 8 / y, 1.0)))
    assert fingerprint(read_dataset(folder_of(tmp_path, cases))).alignment == pytest.approx(1)


@pytest.mark.parametrize(
    ("direction", "same"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), True),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), False),
        ((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1), True),
    ],
)
def test_volumes_have_the_same_axes_if_their_files_state_so(tmp_path, direction, same):
    label = np.ones((4, 5, 6), np.int16)
    folder = folder_of(tmp_path, [(label.astype(np.float32), label, (1, 1, 1))] * 2)
    for file in folder.glob("*Tr/case_1*"):
        image = sitk.ReadImage(str(file))
        image.SetDirection([float(number) for number in direction])
        sitk.WriteImage(image, str(file))
    assert fingerprint(read_dataset(folder)).same_axes is same


def test_files_without_axes_do_not_state_the_same(tmp_path):
    label = np.ones((5, 6), np.int16)
    cases = [(label.astype(np.float32), label, (1, 1))] * 2
    assert not fingerprint(read_dataset(folder_of(tmp_path, cases))).same_axes


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    image = np.zeros((3, 4, 5), np.float32)
    folder = folder_of(tmp_path, [(image, np.ones((3, 4, 5), np.int16), (1, 1, 1))])
    write_plain(folder / "labelsTr/case_0.nii.gz", np.ones((3, 4, 6), np.int16), (1, 1, 1))
    with pytest.raises(UserError, match="size"):
        fingerprint(read_dataset(folder))
