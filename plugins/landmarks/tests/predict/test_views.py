"""Several passes of one network: mirrored, and with dropout."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lannunet_images.geometry import resize_affine
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.maps.labels import gaussian_heatmaps
from lannunet_landmarks.predict.predictor import Located
from lannunet_landmarks.predict.views import mirrored, mirrored_axes, swapped

from lannunet_core.augment.schemes import make_scheme
from lannunet_core.hookspecs import Coordinates

SIGMA = 2.0


@pytest.mark.parametrize(
    ("scheme", "dimensions", "axes"),
    [
        ("AffineSimple", 2, [1]),
        ("AffineComplexElasticBlurSharp", 2, [1]),
        ("AffineComplex", 3, [1]),
        ("thaler21", 2, []),
        ("None", 2, []),
    ],
)
def test_mirrors_are_those_of_training(scheme, dimensions, axes):
    assert mirrored_axes(make_scheme(scheme), dimensions) == axes


@pytest.mark.parametrize("size", [(40, 28), (24, 20, 16)])
@pytest.mark.parametrize("mode", ["scale_heatmap_first", "scale_pred_coords"])
def test_a_mirrored_look_answers_in_the_image(size, mode):
    """The network returns its input; landmarks 0 and 2 are swapped by a mirror."""
    dimensions, order = len(size), torch.tensor([2, 1, 0])
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.uniform(7, np.array(size) - 8, (2, 3, dimensions)), dtype=torch.float32)
    states = torch.zeros(2, 3, dtype=torch.long)
    (maps,) = gaussian_heatmaps(points, states, torch.full((1, 1), SIGMA), size, [size], 1.0)
    original = tuple(3 * side + 1 for side in size)
    affine = torch.from_numpy(resize_affine(original, size, "stretch")).repeat(2, 1, 1)
    batch = {"image": maps, "affine": affine, "original_size": torch.tensor([original] * 2)}
    shape = torch.tensor(rng.normal(size=(3, dimensions, dimensions)))
    shape = shape @ shape.mT

    def locate(batch, mode):
        found = decode_peak(batch["image"], batch["affine"], batch["original_size"], mode)
        covariance = shape.repeat(2, 1, 1, 1)
        present = found.points[..., 0] > 0
        present[:, 0] = False
        methods = {"net": Coordinates(found.points, found.confidence, covariance)}
        return Located(batch["image"], methods, present)

    plain = locate(batch, mode)
    for axis in range(dimensions):
        turned = mirrored(locate, axis, order)(batch, mode)
        assert torch.equal(turned.maps, plain.maps[:, order])
        np.testing.assert_allclose(turned.main.points, plain.main.points[:, order], atol=2e-4)
        np.testing.assert_allclose(turned.main.points[:, order], points, atol=0.01)
        np.testing.assert_allclose(turned.main.confidence, plain.main.confidence[:, order], atol=1e-4)
        reflection = np.eye(dimensions)
        reflection[axis, axis] = -1
        expected = (reflection @ shape.numpy() @ reflection)[order.numpy()]
        np.testing.assert_allclose(turned.main.covariance[0], expected)
        assert turned.present.tolist() == [[True, True, False]] * 2


def test_patches_are_cut_around_the_mirrored_places():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    centres = torch.tensor([[[0.0, 1.0], [3.0, 2.0]]])
    batch = {"image": image, "affine": torch.eye(3)[None], "centres": centres}

    def locate(batch, mode):
        x, y = batch["centres"].long().unbind(-1)
        return Located([], {"net": Coordinates(batch["centres"], batch["image"][0, 0, y, x])})

    found = mirrored(locate, 0, torch.tensor([1, 0]))(batch, "use_input_size")
    assert found.main.points.tolist() == centres.tolist()
    assert found.main.confidence.tolist() == [[4.0, 11.0]]  # the pixels at the centres
    assert found.maps == []


def test_pairs_count_within_the_selection():
    dataset = SimpleNamespace(landmarks=[5, 3, 2], flip_pairs=[(2, 5), (0, 1)])
    session = SimpleNamespace(
        config=SimpleNamespace(dataset=dataset), run=SimpleNamespace(outputs=("a", "b", "c"))
    )
    assert swapped(session).tolist() == [2, 1, 0]


def points(rows):
    return np.array([[float(row["x"]), float(row["y"])] for row in rows])


@pytest.mark.parametrize(
    ("unet", "inference"),
    [({}, {"tta": True}), ({"dropout": 0.3}, {"mc_dropout": 4})],
    ids=["mirrored", "dropout"],
)
def test_in_a_run_and_with_its_model(project, unet, inference):
    project.config["model"]["unet"].update(unet)
    project.set(dataset={"flip_pairs": [[0, 1]]}, inference=inference, output={"xlsx": True})
    project.set(sampler={"data_aug": "AffineComplex"})
    assert project.train() == 0
    rows = project.rows()
    assert all(float(row["uncertainty_px"]) > 0 and row["uncertainty_mm"] == "" for row in rows)
    assert {path.name for path in (project.out / "methods").iterdir()} == {"most-confident.csv", "E-MHA.csv"}

    images = [project.folder / sample["image"] for sample in project.annotations["testing"]]
    found = project.folder / "found"
    assert project.lannunet("predict", project.out, *images, "-o", found) == 0
    assert points(project.rows(found)).tolist() == points(rows).tolist()
    assert project.train("--overwrite") == 0
    assert project.rows() == rows


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"inference": {"tta": True}, "sampler": {"data_aug": "thaler21"}},
            "inference.tta: sampler.data_aug thaler21 never mirrors",
        ),
        ({"inference": {"mc_dropout": 5}}, "inference.mc_dropout: the network of unet has no dropout"),
    ],
)
def test_what_the_network_does_not_know_is_refused_before_training(project, capsys, sections, message):
    project.set(**sections)
    assert project.train() == 2
    assert message in capsys.readouterr().err
    assert not project.out.exists()
