"""Plans, of real files where they are read, against the network that they are for."""

import json
import pickle
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lannunet_segmentation.data import plan
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.plan import (
    Fingerprint,
    Network,
    choose_spacing,
    choose_strides,
    fingerprint,
    make_plan,
)
from lannunet_segmentation.types import Case, SegmentationDataset
from torch.utils.flop_counter import FlopCounterMode

from lannunet_core import Plugin
from lannunet_core.config.compose import load_config
from lannunet_core.errors import UserError
from lannunet_core.plan import as_yaml

HIPPOCAMPUS = Path(__file__).parents[4] / "../shared/data/hippocampus/Dataset004_Hippocampus"


def write(path, array, spacing):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def folder_of(folder, cases, channel="CT", ending=".nii.gz"):
    """A raw folder of (image, label, spacing)."""
    for number, (image, label, spacing) in enumerate(cases):
        write(folder / f"imagesTr/case_{number}_0000{ending}", image, spacing)
        write(folder / f"labelsTr/case_{number}{ending}", label, spacing)
    declared = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, "organ": 1, "tumour": 2},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(declared))
    return folder


def found_of(sizes, spacings, **changes):
    """A fingerprint that no file stands behind."""
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
        dataset, tuple(sizes), tuple(spacings), len(sizes), ((0.0, 1.0, 0.5, 0.2),), (0.9, 0.1), 1.0
    )
    more = {key: changes.pop(key) for key in ("class_shares", "annotated", "intensities") if key in changes}
    return replace(found, dataset=replace(dataset, **changes), **more)


# The look


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
    assert "No voxel of organ, tumour is annotated" in as_yaml(make_plan(found))


def test_few_of_many_cases_are_looked_into_but_all_before_nothing_is_said_to_be_annotated(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(plan, "CASES_LOOKED_INTO", 3)
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


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    image = np.zeros((3, 4, 5), np.float32)
    folder = folder_of(tmp_path, [(image, np.ones((3, 4, 5), np.int16), (1, 1, 1))])
    write(folder / "labelsTr/case_0.nii.gz", np.ones((3, 4, 6), np.int16), (1, 1, 1))
    with pytest.raises(UserError, match="size"):
        fingerprint(read_dataset(folder))


# The rules


def test_spacing_is_the_median():
    found = found_of([(9, 9, 9)] * 3, [(1, 1, 2), (2, 1, 2.5), (3, 1, 3)])
    spacing, reason = choose_spacing(found)
    assert spacing == (2, 1, 2.5)
    assert "median" in reason


def test_spacing_of_a_coarse_axis_is_the_tenth_percentile():
    found = found_of([(64, 64, 9)] * 11, [(1, 1, 5 + step) for step in range(11)])
    spacing, reason = choose_spacing(found)
    assert spacing == (1, 1, 6)
    assert "of z" in reason
    assert "tenth percentile" in reason


def test_a_coarse_axis_does_not_become_finer_than_the_others():
    found = found_of([(64, 64, 9)] * 4, [(1, 1, 0.5), (1, 1, 5), (1, 1, 5), (1, 1, 5)])
    assert choose_spacing(found)[0] == (1, 1, pytest.approx(1.85))
    found = found_of([(64, 64, 9)] * 20, [(1, 1, 0.5)] * 9 + [(1, 1, 5)] * 11)
    assert choose_spacing(found)[0] == (1, 1, 1)


def test_two_dimensions_have_no_coarse_axis():
    found = found_of([(64, 64)] * 3, [(1, 4), (1, 5), (1, 9)])
    assert choose_spacing(found)[0] == (1, 5)


def test_what_is_preprocessed_is_used_as_it_is():
    chosen = make_plan(found_of([(40, 40, 40)] * 3, [(1, 1, 1), (1, 1, 2), (1, 1, 3)], layout="preprocessed"))
    assert chosen["preprocess.spacing"] is None
    assert chosen["preprocess.normalisation"] == ["none"]


@pytest.mark.parametrize(
    ("size", "spacing", "strides"),
    [
        ((35, 50, 36), (1, 1, 1), [(2, 2, 2)] * 3),
        ((8, 8), (1, 1), [(2, 2)]),
        ((7, 7), (1, 1), []),
        ((64, 32, 8), (1, 1, 1), [(2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 1, 1)]),
        ((64, 64, 16), (1, 1, 4), [(2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)]),
        ((16, 16, 16), (1, 1, 8), [(2, 2, 1), (2, 2, 1), (1, 1, 2), (1, 1, 2)]),
        ((512, 512), (1, 1), [(2, 2)] * 7),
        ((512, 512, 512), (1, 1, 1), [(2, 2, 2)] * 5),
    ],
)
def test_strides(size, spacing, strides):
    assert choose_strides(size, spacing) == tuple(strides)


def test_a_ct_is_clipped_by_the_foreground_and_other_channels_are_not():
    found = found_of(
        [(40, 40, 40)] * 2,
        [(1, 1, 1)] * 2,
        channel_names=("CT", "PET", "noNorm"),
        intensities=((-100.123456789, 200, 50, 60), (0, 1, 2, 3), (0, 1, 2, 3)),
    )
    chosen = make_plan(found)
    assert chosen["preprocess.normalisation"] == ["ct", "zscore", "none"]
    assert chosen["preprocess.clip"] == [[-100.123, 200, 50, 60], None, None]


def test_fold_and_split_follow_what_can_be_evaluated():
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4)
    chosen = make_plan(found)
    assert (chosen["trainer.fold"], chosen["inference.split"]) == (0, "validation")
    tests = found.dataset.training[:1]
    chosen = make_plan(replace(found, dataset=replace(found.dataset, testing=tests)))
    assert chosen["trainer.fold"] == "all"
    assert "inference" not in as_yaml(chosen)
    without = (replace(tests[0], label=None),)
    assert make_plan(replace(found, dataset=replace(found.dataset, testing=without)))["trainer.fold"] == 0
    single = make_plan(found_of([(40, 40)], [(1, 1)]))
    assert (single["trainer.fold"], single["inference.split"]) == ("all", "training")


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
    found = found_of([size] * 3, [(*[1.0] * (len(size) - 1), float(coarse))] * 3)
    chosen = make_plan(found, memory_gb=memory, minutes=minutes, gpu=gpu)
    patch, strides = chosen["sampler.patch.sample_patch_size"], chosen["model.unet.strides"]
    network = Network(tuple(patch), strides, chosen["model.unet.init_features"], 1, 2)
    for axis, side in enumerate(patch):
        whole = prod(stride[axis] for stride in strides)
        assert side % whole == 0
        assert side // whole >= min(4, size[axis])
        assert side < size[axis] + whole
    batch = chosen["solver.data_loader_batch_size_train"]
    assert 2 <= batch <= 16
    assert network.memory(batch) <= memory * 1e9
    machine = plan.GPU if gpu else plan.TWO_CORES
    seconds = 60 * chosen["solver.budget_minutes"]
    least = max(patch) <= 32  # smaller ones are of no use
    assert least or network.seconds(batch, machine) * plan.LEAST_STEPS <= seconds
    assert yaml.safe_load(as_yaml(chosen))["sampler"]["patch"]["sample_patch_size"] == patch


def test_more_time_and_memory_make_more():
    found = found_of([(200, 200, 100)] * 20, [(1.0, 1.0, 1.0)] * 20)
    plans = [make_plan(found, minutes=m, memory_gb=gb) for m, gb in ((2, 1), (30, 1), (30, 8), (600, 8))]
    works = [
        prod(chosen["sampler.patch.sample_patch_size"]) * chosen["model.unet.init_features"] ** 2
        for chosen in plans
    ]
    assert works == sorted(works)
    assert works[0] < works[-1]


def test_larger_data_sets_get_more_minutes():
    few = make_plan(found_of([(64, 64, 64)] * 4, [(1, 1, 1)] * 4))
    many = make_plan(found_of([(64, 64, 64)] * 40, [(1, 1, 1)] * 40))
    endless = make_plan(found_of([(512, 512, 512)] * 40, [(1, 1, 1)] * 40))
    minutes = [chosen["solver.budget_minutes"] for chosen in (few, many, endless)]
    assert minutes == [7.5, 18, 240]


def test_a_batch_of_small_pictures_is_larger():
    found = found_of([(64, 64)] * 500, [(1, 1)] * 500)
    assert make_plan(found)["solver.data_loader_batch_size_train"] == 16
    assert make_plan(found_of([(64, 64)] * 4, [(1, 1)] * 4))["solver.data_loader_batch_size_train"] == 2


@pytest.mark.parametrize(
    ("patch", "width"), [((32, 48, 16), 8), ((64, 96), 16), ((16, 16, 16), 32), ((7, 7), 8)]
)
def test_cost_is_that_of_the_network(patch, width):
    from lannunet_unet.network import UNet

    strides = choose_strides(patch, (1.0,) * len(patch))
    network = Network(patch, strides, width, channels=2, classes=3)
    built = UNet(2, 3, patch, width, network.most, strides=strides, supervised_resolutions=9)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, 2, *reversed(patch)))
    assert network.cost()[0] == pytest.approx(counter.get_total_flops() / 2, rel=1e-6)
    # What autograd keeps is at least the outputs of convolutions and norms.
    kept = []
    for module in built.modules():
        if hasattr(module, "weight"):
            module.register_forward_hook(lambda module, given, out: kept.append(out.numel()))
    built(torch.zeros(1, 2, *reversed(patch)))
    assert sum(kept) <= network.cost()[1] * 1.01 <= 2 * sum(kept)


# The text


def test_plugins_and_partial_annotations(tmp_path):
    found = found_of([(40, 40)] * 4, [(1, 1)] * 4, annotated=0.07)
    text = as_yaml(make_plan(found))
    assert "plugins: []  # --plugins sparse draws patches where voxels are annotated" in text
    assert "Annotated: 7 % of the voxels" in text
    assert make_plan(found, plugins={"sparse": Plugin})["trainer.plugins"] == ["sparse"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_text_is_a_configuration_and_every_choice_has_its_reason(tmp_path, dimensions):
    shape, spacing = ((20, 30), (0.5, 0.5)) if dimensions == 2 else ((8, 20, 30), (0.5, 0.5, 3.3))
    label = np.zeros(shape, np.int16)
    label[..., 4:9, 5:9] = 1
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    dataset = read_dataset(folder_of(tmp_path / "Dataset002_B", [(image, label, spacing)] * 2))
    chosen = make_plan(fingerprint(dataset), root="Dataset002_B")
    path = tmp_path / "b.yaml"
    path.write_text(as_yaml(chosen))
    loaded = load_config(path)
    assert loaded.run.task == "segmentation"
    assert loaded.run.dataset.root == tmp_path / "Dataset002_B"
    assert loaded.run.sampler.patch.sample_patch_size == tuple(chosen["sampler.patch.sample_patch_size"])
    assert loaded.run.preprocess.spacing == pytest.approx(spacing)
    assert [list(one) for one in loaded.architecture.config.strides] == chosen["model.unet.strides"]
    assert loaded.run.output.output_dir == tmp_path / "runs/Dataset002_B"
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
    chosen = make_plan(found)
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
    path.write_text(as_yaml(make_plan(found)))
    run = load_config(path).run
    assert run.preprocess.spacing is None
    assert run.output.output_dir == tmp_path / "runs/Task003_C"


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="no real data")
def test_the_hippocampus_trains_in_minutes_on_two_cores():
    chosen = make_plan(fingerprint(read_dataset(HIPPOCAMPUS)))
    assert chosen["preprocess.spacing"] == [1, 1, 1]
    assert chosen["preprocess.normalisation"] == ["zscore"]
    assert chosen["sampler.patch.sample_patch_size"] == [40, 56, 40]
    assert chosen["model.unet.strides"] == [[2, 2, 2]] * 3
    assert chosen["model.unet.init_features"] == 16
    assert chosen["solver.budget_minutes"] <= 8
    assert chosen["trainer.fold"] == "all"
