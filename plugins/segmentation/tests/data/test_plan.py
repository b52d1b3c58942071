"""Plans, with real files if they are read."""

import json
import pickle
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.data import budget
from lannunet_segmentation.data.fingerprint import Fingerprint, fingerprint
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.plan import choose_spacing, make_plan
from lannunet_segmentation.task import SegmentationTask
from lannunet_segmentation.types import Case, SegmentationDataset
from lannunet_unet.plan import Shape
from lannunet_unet.plugin import UNetPlugin

from lannunet_core import NetworkRequest, PlannedNetwork, PlanRequest, Plugin, UserError
from lannunet_core.config.compose import load_config
from lannunet_core.plan import guessed_network
from lannunet_core.plugins.installed import InstalledPlugin
from tests.fixtures.nnunet import folder_of

HIPPOCAMPUS = Path(__file__).parents[4] / "../shared/data/hippocampus/Dataset004_Hippocampus"


def made(name, plugin_class):
    """A plugin without a distribution."""
    return InstalledPlugin(name, "made", "1", f"made:{plugin_class.__name__}"), plugin_class


UNET = made("unet", UNetPlugin)


def planned(found, architecture=UNET, **wanted):
    """The plan for a YAML in the working directory."""
    dataset = found.dataset.path
    return make_plan(found, PlanRequest(dataset, wanted.pop("folder", Path()), architecture, **wanted))


def found_of(sizes, spacings, **changes):
    """A fingerprint without files."""
    dimensions = len(sizes[0])
    dataset = SegmentationDataset(
        path=Path("Dataset007_Made"),
        name="Made",
        layout="raw2",
        dimensions=dimensions,
        channel_names=("T1",),
        class_names=("background", "organ"),
        ignore=None,
        file_ending=".nii.gz",
        training=tuple(Case(f"case_{n}", (Path(f"{n}"),), Path(f"{n}")) for n in range(len(sizes))),
        testing=(),
    )
    found = Fingerprint(
        dataset,
        tuple(sizes),
        tuple(spacings),
        len(sizes),
        ((0.0, 1.0, 0.5, 0.2),),
        (0.9, 0.1),
        1.0,
        same_axes=dimensions == 3,
    )
    more = {key: changes.pop(key) for key in ("class_shares", "annotated", "intensities") if key in changes}
    return replace(found, dataset=replace(dataset, **changes), **more)


# The rules


@pytest.mark.parametrize(
    ("found", "minutes", "scheme"),
    [
        (found_of([(40, 56, 40)] * 9, [(1, 1, 1)] * 9), 6, "nnunet_upright"),
        (found_of([(40, 56, 40)] * 9, [(1, 1, 1)] * 9), 600, "nnunet"),
        (found_of([(96, 96)] * 9, [(1, 1)] * 9), 6, "nnunet"),
        (replace(found_of([(96, 96)] * 9, [(1, 1)] * 9), alignment=0.95), 1, "nnunet_upright"),
        (replace(found_of([(96, 96)] * 9, [(1, 1)] * 9), alignment=0.8), 1, "nnunet"),
        (replace(found_of([(96, 96)] * 9, [(1, 1)] * 9), alignment=0.95), 600, "nnunet"),
        (replace(found_of([(40, 56, 40)] * 9, [(1, 1, 1)] * 9), same_axes=False), 6, "nnunet"),
        (
            replace(found_of([(40, 56, 40)] * 9, [(1, 1, 1)] * 9), same_axes=False, alignment=0.95),
            6,
            "nnunet_upright",
        ),
    ],
)
def test_images_with_the_same_orientation_are_not_mirrored_in_a_short_run(found, minutes, scheme):
    plan = planned(found, minutes=minutes)
    assert plan["sampler.data_aug"] == scheme
    assert ("tta: true" in str(plan)) is (scheme == "nnunet")


@pytest.mark.parametrize(("minutes", "stages"), [(1.9, 1), (2, 2)])
def test_a_cascade_needs_time_for_two_stages(minutes, stages):
    plan = planned(found_of([(128, 128, 96)] * 9, [(1, 1, 1)] * 9), minutes=minutes)
    assert ("refine" in str(plan)) is (stages == 2)


def test_spacing_is_the_median():
    found = found_of([(9, 9, 9)] * 3, [(1, 1, 2), (2, 1, 2.5), (3, 1, 3)])
    spacing, reason = choose_spacing(found)
    assert spacing == (2, 1, 2.5)
    assert "median" in reason


def test_spacing_of_a_coarse_axis_is_the_tenth_percentile():
    found = found_of([(64, 64, 9)] * 11, [(1, 1, 5 + step) for step in range(11)])
    spacing, reason = choose_spacing(found)
    assert spacing == (1, 1, 6)
    assert "for z" in reason
    assert "tenth percentile" in reason


def test_a_coarse_axis_does_not_become_finer_than_the_others():
    found = found_of([(64, 64, 9)] * 4, [(1, 1, 0.5), (1, 1, 5), (1, 1, 5), (1, 1, 5)])
    assert choose_spacing(found)[0] == (1, 1, pytest.approx(1.85))
    found = found_of([(64, 64, 9)] * 20, [(1, 1, 0.5)] * 9 + [(1, 1, 5)] * 11)
    assert choose_spacing(found)[0] == (1, 1, 1)


@pytest.mark.parametrize(
    ("size", "spacings", "target"),
    [
        ((300, 130, 60), [(0.4, 0.96, 1.5), (0.4, 0.96, 1.82), (0.4, 0.96, 1.82)], (0.4, 0.96, 1.82)),
        ((64, 64, 32), [(1, 1, 4), (1, 1, 5), (1, 1, 5)], (1, 1, 5)),  # as many slices as not to be few
    ],
)
def test_only_an_axis_that_is_coarse_beside_the_next_coarsest_and_short_is_made_finer(size, spacings, target):
    assert choose_spacing(found_of([size] * 3, spacings))[0] == target


def test_images_whose_background_was_set_to_zero_are_normalised_by_the_rest():
    found = found_of(
        [(40, 40, 40)] * 2, [(1, 1, 1)] * 2, channel_names=("T1", "CT"), intensities=((0, 1, 2, 3),) * 2
    )
    assert planned(replace(found, nonzero_share=0.76))["preprocess.normalisation"] == ["zscore", "ct"]
    assert planned(replace(found, nonzero_share=0.5))["preprocess.normalisation"] == ["nonzero", "ct"]


def test_the_box_around_what_is_not_zero_is_measured(tmp_path):
    rng = np.random.default_rng(0)
    image, label = np.zeros((10, 20, 20), np.float32), np.zeros((10, 20, 20), np.int16)
    image[:, 5:15, 2:18], label[4:6, 8:12, 8:12] = rng.normal(500, 50, (10, 10, 16)), 1
    folder = tmp_path / "Dataset001_brain"
    folder_of(folder, [(image, label, (1.0, 1.0, 1.0))] * 2, channel="T1")
    found = fingerprint(read_dataset(folder))
    assert found.nonzero_share == pytest.approx(0.4)
    assert planned(found)["preprocess.normalisation"] == ["nonzero"]


def test_two_dimensions_have_no_coarse_axis():
    found = found_of([(64, 64)] * 3, [(1, 4), (1, 5), (1, 9)])
    assert choose_spacing(found)[0] == (1, 5)


def test_what_is_preprocessed_is_used_as_it_is():
    chosen = planned(found_of([(40, 40, 40)] * 3, [(1, 1, 1), (1, 1, 2), (1, 1, 3)], layout="preprocessed"))
    assert chosen["preprocess.spacing"] is None
    assert chosen["preprocess.normalisation"] == ["none"]


def test_a_ct_is_clipped_by_the_foreground_and_other_channels_are_not():
    found = found_of(
        [(40, 40, 40)] * 2,
        [(1, 1, 1)] * 2,
        channel_names=("CT", "PET", "noNorm"),
        intensities=((-100.123456789, 200, 50, 60), (0, 1, 2, 3), (0, 1, 2, 3)),
    )
    chosen = planned(found)
    assert chosen["preprocess.normalisation"] == ["ct", "zscore", "none"]
    assert chosen["preprocess.clip"] == [[-100.123, 200, 50, 60], None, None]


def test_fold_and_split_follow_what_can_be_evaluated():
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4)
    chosen = planned(found)
    assert (chosen["trainer.fold"], chosen["inference.split"]) == (0, "validation")
    tests = found.dataset.training[:1]
    chosen = planned(replace(found, dataset=replace(found.dataset, testing=tests)))
    assert chosen["trainer.fold"] == "all"
    assert "split:" not in str(chosen)
    without = (replace(tests[0], label=None),)
    assert planned(replace(found, dataset=replace(found.dataset, testing=without)))["trainer.fold"] == 0
    single = planned(found_of([(40, 40)], [(1, 1)]))
    assert (single["trainer.fold"], single["inference.split"]) == ("all", "training")


def machine_of(gpu):
    return budget.GPU if gpu else budget.TWO_CORES


@settings(max_examples=40, deadline=None)
@given(
    size=st.one_of(
        st.tuples(*[st.integers(3, 3000)] * 2),
        st.tuples(st.integers(3, 700), st.integers(3, 700), st.integers(3, 500)),
    ),
    coarse=st.sampled_from([1, 3, 8]),
    memory=st.floats(0.5, 24),
    minutes=st.one_of(st.none(), st.floats(0.1, 600)),
    gpu=st.booleans(),
)
def test_every_plan_holds_together(size, coarse, memory, minutes, gpu):
    """In both stages, where there are two."""
    spacing = (*[1.0] * (len(size) - 1), float(coarse))
    chosen = planned(found_of([size] * 3, [spacing] * 3), memory_gb=memory, minutes=minutes, gpu=gpu)
    stages = ["", "refine."] if "refine:" in str(chosen) else [""]
    cost = budget.Budget(memory * 1e9, 60 * chosen["solver.budget_minutes"] / len(stages), machine_of(gpu))
    for channels, stage in enumerate(stages, start=1):  # the second sees the first one's class
        patch, strides = (
            chosen[f"{stage}sampler.patch.sample_patch_size"],
            chosen[f"{stage}model.unet.strides"],
        )
        shape = Shape(tuple(patch), strides, chosen[f"{stage}model.unet.init_features"], channels, 2)
        network = PlannedNetwork(shape.size, {}, *shape.cost())
        steps = chosen[f"{stage}preprocess.spacing"]
        sides = [side * step / own for side, step, own in zip(size, spacing, steps, strict=True)]
        for axis, side in enumerate(patch):
            whole = prod(stride[axis] for stride in strides)
            assert side % whole == 0
            assert side // whole >= min(4, int(sides[axis]))
            assert side < sides[axis] + whole
        batch = chosen[f"{stage}solver.data_loader_batch_size_train"]
        assert 2 <= batch <= 16
        assert cost.bytes_of(network, batch) <= cost.memory
        least = max(patch) <= 32  # smaller ones are of no use
        assert least or cost.seconds_of(network, batch) * budget.LEAST_STEPS <= cost.seconds
        of_stage = yaml.safe_load(str(chosen))
        of_stage = of_stage["refine"] if stage else of_stage
        assert of_stage["sampler"]["patch"]["sample_patch_size"] == patch


def test_more_time_and_memory_make_more():
    found = found_of([(200, 200, 100)] * 20, [(1.0, 1.0, 1.0)] * 20)
    plans = [planned(found, minutes=m, memory_gb=gb) for m, gb in ((2, 1), (30, 1), (30, 8), (600, 8))]
    works = [
        prod(chosen["sampler.patch.sample_patch_size"]) * chosen["model.unet.init_features"] ** 2
        for chosen in plans
    ]
    assert works == sorted(works)
    assert works[0] < works[-1]


def test_larger_data_sets_get_more_minutes():
    few = planned(found_of([(64, 64, 64)] * 4, [(1, 1, 1)] * 4))
    many = planned(found_of([(64, 64, 64)] * 40, [(1, 1, 1)] * 40))
    endless = planned(found_of([(512, 512, 512)] * 40, [(1, 1, 1)] * 40))
    minutes = [chosen["solver.budget_minutes"] for chosen in (few, many, endless)]
    assert minutes == [7.5, 18, 240]


def test_a_batch_of_small_pictures_is_larger():
    found = found_of([(64, 64)] * 500, [(1, 1)] * 500)
    assert planned(found)["solver.data_loader_batch_size_train"] == 16
    assert planned(found_of([(64, 64)] * 4, [(1, 1)] * 4))["solver.data_loader_batch_size_train"] == 2


@pytest.mark.parametrize(
    ("size", "width", "batch", "seconds"),
    [
        ((56, 40), 16, 2, 0.0175),
        ((56, 40), 32, 12, 0.067),
        ((40, 56, 40), 8, 2, 0.109),
        ((40, 56, 40), 16, 2, 0.152),
        ((40, 56, 40), 32, 2, 0.40),
        ((24, 32, 24), 32, 2, 0.087),
    ],
)
def test_the_estimate_is_close_to_what_was_measured(size, width, batch, seconds):
    """Whole steps of training on two idle cores."""
    products, numbers = Shape(size, ((2,) * len(size),) * 3, width, 1, 3).cost()
    network = PlannedNetwork(size, {}, products, numbers)
    estimate = budget.Budget(4e9, 60, budget.TWO_CORES).seconds_of(network, batch)
    assert estimate == pytest.approx(seconds, rel=0.2)


# The text


def test_what_cannot_be_learnt_is_said():
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4, class_shares=(1.0, 0.0))
    assert "No voxel of organ is annotated" in str(planned(found))


@pytest.mark.parametrize(("share", "said"), [(1.0, "100 %"), (0.99999, "over 99.9 %"), (0.0004, "0.04 %")])
def test_only_everything_is_a_hundred_percent(share, said):
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4, annotated=share)
    assert f"Annotated: {said} of the voxels" in str(planned(found))


def test_pictures_have_no_millimetres(tmp_path):
    image = np.full((24, 40), 90, np.uint8)
    dataset = read_dataset(folder_of(tmp_path, [(image, image // 90, (1.0, 1.0))] * 2, "grey", ".png"))
    chosen = planned(fingerprint(dataset))
    text = str(chosen)
    assert "The median image has 40×24 voxels.\n" in text
    assert " mm" not in text
    assert chosen["preprocess.spacing"] is None


@pytest.mark.parametrize("name", ["rescale_to_0_1", "rgb_to_0_1"])
def test_a_normalisation_that_there_is_none_of_is_said(name):
    text = str(
        planned(
            found_of([(40, 40)] * 4, [(1, 1)] * 4, channel_names=(name, "T1"), intensities=((0.0,) * 4,) * 2)
        )
    )
    assert f"nnU-Net would rescale {name} to 0 … 1, which does not exist here" in text


class Silent(Plugin):
    """A plugin without methods for plans."""


class Talking(Plugin):
    """Offers a large network that is far too slow, and a small one that is fast except for large patches."""

    @classmethod
    def networks(cls, request):
        size = tuple(8 * round(side / 8 + 0.499) for side in request.sides)
        return [
            PlannedNetwork(size, {"layers": (layers, "because")}, layers**6 * prod(size), layers * prod(size))
            for layers in (100, 10)
        ]


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((64, 32), [64, 32]),
        ((50, 100), [64, 128]),
        ((20, 7), [32, 8]),
        ((1, 3, 40), [1, 4, 64]),
    ],
)
def test_an_architecture_that_says_nothing_gets_its_defaults_and_sizes_that_most_networks_take(size, patch):
    found = found_of([size] * 3, [(1,) * len(size)] * 3)
    chosen = planned(found, made("silent", Silent))
    assert chosen["sampler.patch.sample_patch_size"] == patch
    text = str(chosen)
    assert yaml.safe_load(text)["model"] == {"architecture": "silent"}
    assert "it does not say what it costs: guessed" in text
    assert "multiples of 32" in text
    assert "strides" not in text


def test_the_guess_is_cautious():
    """An architecture that states no cost gets no larger patches or batches than the widest U-Net."""
    found = found_of([(300, 300, 200)] * 9, [(1, 1, 1)] * 9)
    for wanted in ({}, {"gpu": True, "memory_gb": 16}, {"minutes": 1}):
        chosen = planned(found, made("silent", Silent), **wanted)
        patch = chosen["sampler.patch.sample_patch_size"]
        assert all(side % 32 == 0 or side in (8, 16) for side in patch)
        shape = Shape(tuple(patch), [(2,) * 3] * 3, 32, 1, 2)
        products, numbers = shape.cost()
        guess = guessed_network(NetworkRequest(tuple(patch), (1, 1, 1), 1, 2))
        assert guess.products > products
        assert guess.numbers > numbers


def test_what_another_architecture_offers_is_chosen_by_what_it_costs():
    found = found_of([(64, 48)] * 3, [(1, 1)] * 3)
    chosen = planned(found, made("talking", Talking))
    assert chosen["model.architecture"] == "talking"
    assert chosen["model.talking.layers"] == 10
    assert chosen["sampler.patch.sample_patch_size"] == [64, 48]
    assert planned(found, made("talking", Talking), gpu=True, minutes=1e9)["model.talking.layers"] == 100


def test_an_architecture_that_offers_another_dimension_is_named():
    class Flat(Plugin):
        @classmethod
        def networks(cls, request):
            return [PlannedNetwork((64, 64), {}, 1.0, 1.0)]

    with pytest.raises(UserError, match=r"architecture flat offers a network for 64×64 .* 3 dimensions"):
        planned(found_of([(64, 48, 40)] * 3, [(1, 1, 1)] * 3), made("flat", Flat))


def test_plugins_and_partial_annotations(tmp_path):
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4, annotated=0.07)
    text = str(planned(found))
    assert "plugins: []  # --plugins sparse draws patches where voxels are annotated" in text
    assert "Annotated: 7 % of the voxels" in text
    assert planned(found, extensions=dict([made("sparse", Plugin)]))["trainer.plugins"] == ["sparse"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_text_is_a_configuration_and_every_choice_has_its_reason(tmp_path, dimensions):
    shape, spacing = ((20, 30), (0.5, 0.5)) if dimensions == 2 else ((8, 20, 30), (0.5, 0.5, 3.3))
    label = np.zeros(shape, np.int16)
    label[..., 4:9, 5:9] = 1
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    dataset = read_dataset(folder_of(tmp_path / "Dataset002_B", [(image, label, spacing)] * 2))
    chosen = planned(fingerprint(dataset), folder=tmp_path)
    path = tmp_path / "b.yaml"
    path.write_text(str(chosen))
    loaded = load_config(path)
    assert loaded.run.task == "segmentation"
    assert loaded.run.dataset.root == tmp_path / "Dataset002_B"
    assert loaded.run.sampler.patch.sample_patch_size == tuple(chosen["sampler.patch.sample_patch_size"])
    assert loaded.run.preprocess.spacing == pytest.approx(spacing)
    assert [list(one) for one in loaded.architecture.config.strides] == chosen["model.unet.strides"]
    assert loaded.run.output.output_dir == tmp_path / "runs/Dataset002_B"
    SegmentationTask().check(loaded)
    lines = path.read_text().splitlines()
    assert all(len(line) <= 110 for line in lines)
    plain = {"task", "root", "architecture", "output_dir"}
    for number, line in enumerate(lines):
        key, _, value = line.partition(":")
        if value and not line.strip().startswith("#") and key.strip() not in plain:
            assert "  # " in line or lines[number - 1].strip().startswith("# "), line


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_every_slice_a_case(tmp_path, ending):
    """Pictures, and volumes of one slice."""
    image, label = np.full((24, 40), 90, np.uint8), np.zeros((24, 40), np.uint8)
    label[5:9, 5:30] = 1
    image[label > 0] = 200
    if ending == ".nii.gz":
        image, label = image[None], label[None]
    cases = [(image, label, (1.0,) * image.ndim)] * 3
    found = fingerprint(read_dataset(folder_of(tmp_path, cases, "grey", ending)))
    assert found.sizes == ((40, 24),) * 3
    chosen = planned(found)
    assert chosen["sampler.patch.sample_patch_size"] == [40, 24]
    assert chosen["model.unet.strides"] == [[2, 2], [2, 2], [2, 1]]


def test_a_preprocessed_folder(tmp_path):
    stage = tmp_path / "Task003_C/nnUNetData_plans_v2.1_stage0"
    stage.mkdir(parents=True)
    for number in range(2):
        data = np.zeros((2, 12, 16, 20), np.float32)
        data[1, 3:6] = 1
        data[1, 9:] = -1
        np.savez_compressed(stage / f"case_{number}.npz", data=data)
        properties = {"spacing_after_resampling": (2.0, 1.0, 1.0), "classes": [0, 1]}
        (stage / f"case_{number}.pkl").write_bytes(pickle.dumps(properties))
    declared = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}}
    (stage.parent / "dataset.json").write_text(json.dumps(declared))
    found = fingerprint(read_dataset(stage.parent))
    assert found.sizes == ((20, 16, 12),) * 2
    assert found.spacings == ((1.0, 1.0, 2.0),) * 2
    assert found.annotated == pytest.approx(9 / 12)
    path = tmp_path / "c.yaml"
    path.write_text(str(planned(found)))
    loaded = load_config(path)
    SegmentationTask().check(loaded)
    run = loaded.run
    assert run.preprocess.spacing is None
    assert run.output.output_dir == tmp_path / "runs/Task003_C"


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="no real data")
def test_the_hippocampus_trains_in_minutes_on_two_cores():
    chosen = planned(fingerprint(read_dataset(HIPPOCAMPUS)))
    assert chosen["preprocess.spacing"] == [1, 1, 1]
    assert chosen["preprocess.normalisation"] == ["zscore"]
    assert chosen["sampler.patch.sample_patch_size"] == [40, 56, 40]
    assert chosen["model.unet.strides"] == [[2, 2, 2]] * 3
    assert chosen["model.unet.init_features"] == 16
    assert chosen["solver.budget_minutes"] <= 8
    assert chosen["trainer.fold"] == "all"
