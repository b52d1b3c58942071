"""Each check finds the fault that is planted in a plugin's results of the hooks of segmentation.

A sound plugin for each kind of hook stands here in full; a fault is one change of its text.
"""

import pytest
from lannunet_segmentation.conformance import (
    ExtraMapsConformance,
    SegmentationConformance,
    SegmentationLabelConformance,
)

from lannunet_core.testing import LossConformance, SamplingConformance

VOXEL_LABELS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def generate_segmentation_labels(self, level_sizes, sample):
        import torch
        label = sample["label"]
        weight = (label >= 0) * sample.get("weight", torch.ones(label.shape))
        targets, weights = [], []
        for size in level_sizes:
            places = [torch.arange(side) * (full // side) for side, full in zip(size[::-1], label.shape[1:])]
            grid = torch.meshgrid(*places, indexing="ij")
            targets.append(label[(slice(None), *grid)].long())
            weights.append(weight[(slice(None), *grid)].float())
        return {"segmentation": targets, "weight": weights}
"""
VOXEL_LOSS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def loss(self):
        from parts import Loss
        return Loss()
"""
VOXEL_LOSS_PARTS = """
import torch
from torch import nn
from torch.nn import functional

class Loss(nn.Module):
    def forward(self, outputs, labels):
        target, weight = labels["segmentation"][0], labels["weight"][0]
        voxels = functional.cross_entropy(outputs[0], target.clamp(min=0), reduction="none")
        return {"entropy": (weight * voxels).sum() / weight.sum().clamp(min=1)}

    def activation(self, outputs):
        return outputs[0].softmax(1)
"""
VOXEL_SAMPLING = """
from dataclasses import dataclass
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def sampling(self):
        from parts import Patches
        return Patches((24, 16, 8)[:self.run.dimensions])
"""
VOXEL_SAMPLING_PARTS = """
from dataclasses import dataclass
import numpy as np

@dataclass
class Patches:
    output_size: tuple[int, ...]

    def centre(self, rng, transform, sample):
        present = [value for value in sample.classes_present if value > 0]
        voxels = sample.voxels(int(rng.choice(present))) if present else sample.annotated()
        middle = (np.array(self.output_size) - 1) / 2
        voxel = voxels.draw(rng).astype(float)
        return voxel - transform.to_source(middle, np.zeros(len(middle)), self.output_size)
"""
SEGMENTATION = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def get_segmentation(self, maps):
        sure = maps[1:].amax(0) > 0.5
        return maps.argmax(0) * sure
"""
EXTRA_MAPS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def extra_maps(self, dataset, folder):
        import numpy as np
        from lannunet_core import ExtraMap
        from lannunet_segmentation import read_label
        folder.mkdir(exist_ok=True)
        files = {}
        for case in dataset.training:
            label, _ = read_label(case.label, dataset)
            files[case.id] = folder / f"{case.id}.npy"
            np.save(files[case.id], 1.0 + (label == 2))
        return [ExtraMap("rare", "weight", "linear", 0.0, files)]
"""

SOUND = {
    "voxel labels": (SegmentationLabelConformance, VOXEL_LABELS, ""),
    "voxel loss": (LossConformance, VOXEL_LOSS, VOXEL_LOSS_PARTS),
    "voxel sampling": (SamplingConformance, VOXEL_SAMPLING, VOXEL_SAMPLING_PARTS),
    "segmentation": (SegmentationConformance, SEGMENTATION, ""),
    "extra maps": (ExtraMapsConformance, EXTRA_MAPS, ""),
}

# kind: the check that finds it, the text that is changed, into what, and what is said of it.
FAULTS = {
    # labels, loss and sampling of voxels
    "ignored voxels are background": (
        "voxel labels",
        "unlabelled_contributes_nothing",
        "weight = (label >= 0) * ",
        "label = label.clamp(min=0)\n        weight = ",
        "a sample without any label gets a gradient",
    ),
    "weights of extensions forgotten": (
        "voxel labels",
        "weights_count",
        ' * sample.get("weight", torch.ones(label.shape))',
        " * torch.ones(label.shape)",
        "it claims weights, but in 2D segmentation a sample of weight 0 gets a gradient",
    ),
    "weight below zero": (
        "voxel labels",
        "voxel_labels",
        "weight[(slice(None), *grid)].float()",
        "weight[(slice(None), *grid)].float() - 0.1",
        "labels['weight'] has values below 0",
    ),
    "labels transposed by class": (
        "voxel labels",
        "labels_decode_back",
        "label[(slice(None), *grid)].long()",
        "torch.where(label == 2, 1, torch.where(label == 1, 2, label))[(slice(None), *grid)].long()",
        "of the annotated voxels another label",
    ),
    "ignored voxels count": (
        "voxel loss",
        "unlabelled_contributes_nothing",
        "(weight * voxels).sum()",
        "voxels.sum()",
        "a sample without any label gets a gradient",
    ),
    "voxel weights ignored": (
        "voxel loss",
        "weights_count",
        "weight * voxels",
        "(target >= 0) * voxels",
        "it claims weights, but",
    ),
    "empty mean of voxels": (
        "voxel loss",
        "nothing_labelled_is_finite",
        ".clamp(min=1)",
        "",
        "with no voxel annotated the term 'entropy' is nan; an empty target must not make 0/0",
    ),
    "activation of the background": (
        "voxel loss",
        "labels_decode_back",
        "outputs[0].softmax(1)",
        "outputs[0].softmax(1).roll(1, 1)",
        "number the classes in the same way",
    ),
    "no activation of voxels": (
        "voxel loss",
        "labels_decode_back",
        "outputs[0].softmax(1)",
        "outputs[0]",
        "should lie in 0 … 1",
    ),
    "voxel (z, y, x)": (
        "voxel sampling",
        "samples_show_their_image",
        "voxels.draw(rng).astype(float)",
        "voxels.draw(rng)[::-1].astype(float)",
        "is it (y, x)?",
    ),
    "needs a class": (
        "voxel sampling",
        "sampling_does_without_labels",
        " if present else sample.annotated()",
        "",
        "of a case with one voxel annotated it raises ValueError",
    ),
    "needs every class": (
        "voxel sampling",
        "sampling_does_without_labels",
        "sample.voxels(int(rng.choice(present)))",
        "sample.voxels(int(rng.integers(1, 3)))",
        "of a case with one slice annotated and a class absent it raises ValueError",
    ),
    "generator of its own for voxels": (
        "voxel sampling",
        "sampling_draws_from_rng_only",
        "voxels.draw(rng)",
        "voxels.draw(np.random.default_rng())",
        "in 2D segmentation the same rng gave",
    ),
    # get_segmentation and extra_maps
    "maps for labels": (
        "segmentation",
        "labels_are_classes",
        "maps.argmax(0) * sure",
        "maps[1:].amax(0)",
        "must return integer labels of shape",
    ),
    "a class too many": (
        "segmentation",
        "labels_are_classes",
        "maps.argmax(0) * sure",
        "maps.argmax(0) + 1",
        "of 3 classes the labels are 1 … 3",
    ),
    "labels of a whole case": (
        "segmentation",
        "slabs_are_labelled_alone",
        "> 0.5",
        "> maps[1:, :1].amax()",
        "differ where the maps are given in two slabs",
    ),
    "a case without its map": (
        "extra maps",
        "maps_fit_every_case",
        "for case in dataset.training:",
        "for case in dataset.training[:1]:",
        "the map 'rare' has no file for the case",
    ),
    "map transposed": (
        "extra maps",
        "maps_fit_every_case",
        "1.0 + (label == 2))",
        "(1.0 + (label == 2)).T)",
        "Make it in the grid of the image",
    ),
    "weight of NaN": (
        "extra maps",
        "maps_fit_every_case",
        "1.0 + (label == 2)",
        "np.where(label == 2, np.nan, 1)",
        "the task refuses its maps",
    ),
    "name of a path": (
        "extra maps",
        "maps_are_described",
        '"rare"',
        '"maps/rare"',
        "the name 'maps/rare' is no word",
    ),
    "role that there is not": (
        "extra maps",
        "maps_are_described",
        '"weight"',
        '"weights"',
        "the role of 'rare' is 'weights'",
    ),
    "maps of chance": (
        "extra maps",
        "maps_are_the_same_again",
        "1.0 + (label == 2)",
        "1.0 + np.random.default_rng().random(label.shape)",
        "the maps' files have another content",
    ),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_plugin_passes(check_sound, kind):
    check_sound(*SOUND[kind])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(check_found, fault):
    kind, *found = FAULTS[fault]
    check_found(SOUND[kind], found)
