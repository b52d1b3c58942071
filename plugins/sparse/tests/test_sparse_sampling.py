"""Every patch that `sparse` draws contains its voxel, with every augmentation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import shown_box
from lannunet_images.on_device import warp
from lannunet_segmentation import IGNORE, Runs
from lannunet_sparse.plugin import Sparse
from lannunet_sparse.sampling import AnnotatedVoxel
from scipy.stats import chisquare

from lannunet_core import load_config
from lannunet_core.augment.schemes import SCHEMES


@dataclass
class Annotated:
    """The parts of a prepared case that the sampling uses."""

    label: np.ndarray  # (*S)

    def annotated(self):
        return Runs.of(self.label != IGNORE)

    def voxels(self, index):
        return Runs.of(self.label == index)

    @property
    def classes_present(self):
        return tuple(np.unique(self.label[self.label != IGNORE]).tolist())


def patch_of(sampling, drawn, case, rng):
    """The label patch (*S) as training makes it: cut, moved to a batch, augmented there."""
    size = case.label.shape[::-1]
    centre = sampling.centre(rng, size, drawn.spatial, case)
    box = shown_box(drawn.spatial, centre, sampling.output_size, size, "case")
    cut = torch.from_numpy(case.label[box[1:]].copy())[None, None]
    first = [side.start for side in reversed(box[1:])]
    moved = torch.from_numpy(centre - first).float()[None]
    return warp(cut, [drawn], moved, sampling.output_size, "nearest", fill=IGNORE)[0, 0].numpy()


@st.composite
def cases(draw):
    """Volumes and pictures with a single voxel, one slice, a corner or two far islands annotated."""
    dimensions = draw(st.sampled_from([2, 3]))
    size = tuple(draw(st.integers(1, 40)) for _ in range(dimensions))
    label = np.full(size[::-1], IGNORE, np.int16)
    kind = draw(st.sampled_from(["voxel", "slice", "corner", "islands"]))
    if kind == "voxel":
        label[tuple(draw(st.integers(0, side - 1)) for side in label.shape)] = draw(st.integers(0, 2))
    elif kind == "slice":
        label[draw(st.integers(0, label.shape[0] - 1))] = 1
    elif kind == "corner":
        label[tuple(slice(0, 1) if draw(st.booleans()) else slice(-1, None) for _ in label.shape)] = 2
    else:
        label[(0,) * dimensions], label[(-1,) * dimensions] = 1, 2
    patch = tuple(draw(st.integers(1, 32)) for _ in range(dimensions))
    return label, patch


@settings(max_examples=150, deadline=None)
@given(
    cases(),
    st.sampled_from(["AffineComplexElastic", "payer19", "AffineSimple", "None"]),
    st.sampled_from(["voxels", "classes"]),
    st.sampled_from(["random", "centre", "inside"]),
    st.integers(0, 2**32),
)
def test_every_patch_holds_an_annotated_voxel_after_augmentation(case, scheme, balance, offset, seed):
    label, size = case
    rng = np.random.default_rng(seed)
    sampling = AnnotatedVoxel(size, balance, offset)
    patch = patch_of(sampling, SCHEMES[scheme]().draw(rng, size), Annotated(label), rng)
    assert patch.shape == size[::-1]
    assert (patch != IGNORE).any()


@pytest.mark.parametrize("where", [(0, 0, 0), (15, 11, 9), (5, 8, 3)])
def test_the_annotated_voxel_is_anywhere_in_the_patch_as_often(where):
    label = np.full((10, 12, 16), IGNORE, np.int16)
    label[where[::-1]] = 1
    size, case, rng = (6, 5, 4), Annotated(label), np.random.default_rng(3)
    sampling, counts = AnnotatedVoxel(size), np.zeros(size[::-1])
    none = SCHEMES["None"]()
    for _ in range(2400):
        counts += patch_of(sampling, none.draw(rng, size), case, rng) == 1
    assert counts.sum() == 2400
    assert chisquare(counts.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(("balance", "share"), [("voxels", 4 / 204), ("classes", 0.5)])
def test_voxels_or_classes_are_drawn_as_often(balance, share):
    label = np.full((20, 20), IGNORE, np.int16)
    label[:10] = 0
    label[15, :4] = 2
    rng, case = np.random.default_rng(0), Annotated(label)
    sampling = AnnotatedVoxel((1, 1), balance)
    none = SCHEMES["None"]()
    drawn = [int(patch_of(sampling, none.draw(rng, (1, 1)), case, rng).item()) for _ in range(1500)]
    expected = 1500 * share
    assert set(drawn) <= {0, 2}
    assert abs(drawn.count(2) - expected) < 4.5 * np.sqrt(expected * (1 - share))


def test_centre_puts_it_in_the_middle():
    label = np.full((9, 9), IGNORE, np.int16)
    label[2, 7] = 1
    rng = np.random.default_rng(0)
    patch = patch_of(
        AnnotatedVoxel((5, 7), offset="centre"), SCHEMES["None"]().draw(rng, (5, 7)), Annotated(label), rng
    )
    assert np.argwhere(patch == 1).tolist() == [[3, 2]]


@pytest.mark.parametrize(("image", "patch"), [((20, 17), (7, 9)), ((6, 5), (9, 8)), ((20, 5), (8, 8))])
def test_inside_reaches_beyond_the_image_as_little_as_it_can(image, patch):
    case, rng = Annotated(np.zeros(image[::-1], np.int16)), np.random.default_rng(0)
    still, sampling = SCHEMES["None"]().draw(rng, patch), AnnotatedVoxel(patch, offset="inside")
    for _ in range(200):
        shown = patch_of(sampling, still, case, rng) != IGNORE
        assert shown.sum() == np.prod(np.minimum(image, patch))


def test_inside_is_anywhere_inside():
    numbers = np.arange(20 * 17, dtype=np.int16).reshape(17, 20)
    case, rng = Annotated(numbers), np.random.default_rng(0)
    still, sampling = SCHEMES["None"]().draw(rng, (7, 9)), AnnotatedVoxel((7, 9), offset="inside")
    firsts = {int(patch_of(sampling, still, case, rng)[0, 0]) for _ in range(3000)}
    assert len(firsts) == 14 * 9  # every place where the patch fits


def test_a_plan_places_patches_inside_small_images():
    assert Sparse.plan((100.0, 80.0, 90.0), (40, 40, 40)) == {}
    assert Sparse.plan((100.0, 80.0, 60.0), (40, 40, 40))["offset"][0] == "inside"


@pytest.mark.parametrize("share", [0.0, 0.33, 1.0])
def test_normal_sampling_is_the_tasks_own(segmentation_project, share):
    """With the task's share of foreground, the model is the same as without the plugin."""
    found = []
    for plugins in ([], ["sparse-normal-sampling"]):
        project = segmentation_project(name=f"{len(plugins)}-{share}")
        project.set(sampler={"foreground_share": share}, trainer={"plugins": plugins})
        assert project.train() == 0
        found.append([row["loss"] for row in project.metrics()])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "section", "noted"),
    [
        ("nnUNetTrainerV2Sparse", {}, True),
        ("nnUNetTrainerV2Sparse", {"offset": "centre"}, True),
        ("nnUNetTrainerV2Sparse", {"offset": "inside"}, False),
        ("sparse", {}, False),
    ],
)
def test_a_note_tells_what_diags_trainer_does_otherwise(segmentation, name, section, noted):
    segmentation.set(trainer={"plugins": [name], "sparse": section})
    segmentation.write()
    warnings = load_config(segmentation.yaml).warnings
    assert any("trainer.sparse.offset: inside" in warning for warning in warnings) == noted
