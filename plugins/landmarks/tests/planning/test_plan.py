"""Plans for landmarks: the rules with generated statistics, and complete plans of real files."""

import json
import re
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.data.annotations import LandmarkDataset
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.cost import Budget, cores, measured_speed
from lannunet_landmarks.planning.fit import fit
from lannunet_landmarks.planning.look import Look
from lannunet_landmarks.planning.plan import choose_minutes, make_plan, plan
from lannunet_landmarks.types import Sample
from lannunet_unet.plan import Shape
from lannunet_unet.plugin import UNetPlugin

from lannunet_core import PlannedNetwork, PlanRequest, Plugin, State, UserError
from lannunet_core.config.compose import load_config
from lannunet_core.plugins.installed import InstalledPlugin

WINGS = Path(__file__).parents[4] / "../shared/data/wings/dataset.json"


def made(name, plugin_class):
    """A plugin without a distribution."""
    return InstalledPlugin(name, "made", "1", f"made:{plugin_class.__name__}"), plugin_class


UNET = made("unet", UNetPlugin)


def seen(size, spacing=None, images=40, landmarks=12, **changes):
    """Statistics of images without files."""
    dimensions = len(size)
    names = tuple(map(str, range(landmarks)))
    one = Sample("0", Path(), np.zeros((landmarks, dimensions)), np.zeros(landmarks, int))
    counts = {"training": images, "validation": 1, "testing": 1} | changes.pop("counts", {})
    samples = {split: (one,) * count for split, count in counts.items()}
    given = {"turned": 5.0, "pairs": (), "mirrored": ()} | changes
    return Look(
        dataset=LandmarkDataset("made", "", 0, names, dimensions, samples, (), Path("made.json")),
        sizes=np.array([size] * images, float),
        spacings=np.array([spacing or (1.0,) * dimensions] * images),
        states_spacing=spacing is not None,
        channels=1,
        **given,
    )


def planned(found, architecture=UNET, machine=recipe.TWO_CORES, **wanted):
    return make_plan(found, PlanRequest(Path("made.json"), Path(), architecture, **wanted), machine)


def reason(chosen, key):
    return next(choice.reason for choice in chosen.choices if choice.key == key)


@settings(max_examples=40, deadline=None)
@given(
    size=st.one_of(
        st.tuples(*[st.integers(16, 3000)] * 2),
        st.tuples(st.integers(16, 600), st.integers(16, 600), st.integers(3, 400)),
    ),
    coarse=st.sampled_from([1, 3, 8]),
    memory=st.floats(0.5, 24),
    minutes=st.floats(0.5, 300),
    gpu=st.booleans(),
)
def test_every_plan_holds_together(size, coarse, memory, minutes, gpu):
    machine = recipe.GPU if gpu else recipe.TWO_CORES
    found = seen(size, (*[1.0] * (len(size) - 1), float(coarse)))
    chosen = planned(found, machine=machine, memory_gb=memory, minutes=minutes, gpu=gpu)
    sides, strides = chosen["sampler.input_size"], chosen["model.unet.strides"]
    whole = [prod(stride[axis] for stride in strides) for axis in range(len(size))]
    assert all(side % multiple == 0 for side, multiple in zip(sides, whole, strict=True))
    assert all(
        8 <= side < max(one, 8) + multiple for side, one, multiple in zip(sides, size, whole, strict=True)
    )
    shape = Shape(tuple(sides), strides, chosen["model.unet.init_features"], 1, 12)
    network = PlannedNetwork(shape.size, {}, *shape.cost())
    of_first, batch = chosen["solver.budget_minutes"], chosen["solver.data_loader_batch_size_train"]
    assert recipe.LEAST_BATCH[len(size)] <= batch <= recipe.MOST_BATCH
    smallest = max(sides) <= 2 * recipe.LEAST_SIDE * 2
    written = yaml.safe_load(str(chosen))
    assert affordable(network, batch, of_first, memory, machine) or smallest
    assert written["sampler"]["input_size"] == sides
    if (second := written.get("refine")) is None:
        assert of_first == minutes
        return
    patch, solver = second["sampler"]["patch"]["sample_patch_size"], second["solver"]
    assert of_first + solver["budget_minutes"] == pytest.approx(minutes, abs=0.01)
    assert prod(patch) <= prod(size) / 2
    unet = second["model"]["unet"]
    shape = Shape(tuple(patch), unet["strides"], unet["init_features"], 1, 12)
    network = PlannedNetwork(shape.size, {}, *shape.cost())
    batch = solver["data_loader_batch_size_train"]
    assert affordable(network, batch, solver["budget_minutes"], memory, machine)


def affordable(network, batch, minutes, memory, machine):
    needed = recipe.BATCHES[len(network.size)] * minutes**0.5
    return Budget(memory * 1e9, 60 * minutes, machine).affords(network, batch, 0.99 * needed)


def test_the_wings_get_what_is_known_to_be_good():
    """A minute on small images, then patches of the original ones (docs/recipe.md)."""
    chosen = planned(seen((632, 480)), minutes=3.8)
    assert chosen["sampler.input_size"] == [256, 192]
    assert chosen["refine.sampler.patch.sample_patch_size"] == [64, 64]
    assert (chosen["solver.budget_minutes"], chosen["refine.solver.budget_minutes"]) == (1, 2.8)
    assert (chosen["model.unet.init_features"], chosen["refine.model.unet.init_features"]) == (16, 32)


@pytest.mark.parametrize(
    ("size", "minutes", "planned_for"),
    [
        ((2400, 1935), 7.5, True),  # a cephalogram
        ((2400, 1935), 1.9, False),  # too short for two
        ((256, 256), 15, False),  # seen at more than half its resolution
        ((128, 128, 96), 30, False),  # not measured in 3D
    ],
)
def test_large_images_get_a_second_stage(size, minutes, planned_for):
    chosen = planned(seen(size), minutes=minutes)
    refined = {choice.key: choice for choice in chosen.choices if choice.key.startswith("refine.")}
    assert bool(refined) == planned_for
    if not planned_for:
        return
    pixel = max(one / side for one, side in zip(size, chosen["sampler.input_size"], strict=True))
    patch = refined["refine.sampler.patch.sample_patch_size"]
    narrow, wide = (pixels * pixel for pixels in (recipe.LEAST_PATCH, recipe.PATCH))
    assert all(0.9 * narrow <= side <= wide + 32 for side in patch.value)
    assert "patches of the original image" in patch.reason
    assert f"{minutes:g} in all" in reason(chosen, "solver.budget_minutes")


def test_patches_get_narrower_before_their_network_does():
    """Patches as wide as the wings', relative to the image, would leave time for 8 features only."""

    def width_and_features(size, machine=recipe.TWO_CORES):
        chosen = planned(seen(size), machine=machine, minutes=3.8)
        pixel = max(one / side for one, side in zip(size, chosen["sampler.input_size"], strict=True))
        patch = chosen["refine.sampler.patch.sample_patch_size"]
        return max(patch) / pixel, chosen["refine.model.unet.init_features"]

    wings, cephalograms = width_and_features((632, 480)), width_and_features((2400, 1935))
    assert wings == (pytest.approx(recipe.PATCH, rel=0.1), 32)
    assert cephalograms == (pytest.approx(recipe.LEAST_PATCH, rel=0.2), 32)
    two = recipe.TWO_CORES
    one = replace(two, products=two.products / 2, numbers=two.numbers / 2, pixels=two.pixels / 2)
    assert width_and_features((2400, 1935), one)[1] == 8  # a second stage, if only a small one


def test_features_and_batches_come_before_resolution():
    """Surfaces in 3D: 16 features and batches of two, on images much smaller than their own."""
    chosen = planned(seen((73, 123, 58), (0.2, 0.2, 0.2), landmarks=51), minutes=3.8)
    assert chosen["model.unet.init_features"] == 16
    assert chosen["solver.data_loader_batch_size_train"] == 2
    assert 20**3 <= prod(chosen["sampler.input_size"]) <= 64 * 96 * 48


def test_more_time_makes_larger_images_then_wider_networks():
    plans = [planned(seen((256, 192)), minutes=minutes) for minutes in (0.5, 2, 8, 32, 128)]
    pixels = [prod(chosen["sampler.input_size"]) for chosen in plans]
    assert pixels[:3] == sorted(pixels[:3])
    assert pixels[0] < pixels[2]
    widths = [chosen["model.unet.init_features"] for chosen in plans]
    assert widths == sorted(widths)
    assert widths[-1] == 32
    assert planned(seen((64, 48)), machine=recipe.GPU, gpu=True)["solver.data_loader_batch_size_train"] == 12


def test_proportions_are_kept_in_mm():
    """Slices of 3 mm and pixels of 0.7: what is 358×358×180 mm large is seen so."""
    chosen = planned(seen((512, 512, 60), (0.7, 0.7, 3.0)), minutes=15)
    x, y, z = chosen["sampler.input_size"]
    assert x == y
    assert z / x == pytest.approx(180 / 358.4, rel=0.25)
    assert chosen["sampler.resize"] == "stretch"
    assert planned(seen((64, 64, 64), (2.0, 2.0, 2.0)))["sampler.resize"] == "letterbox"


def test_thick_slices_are_neither_made_up_nor_halved_first():
    chosen = planned(seen((96, 96, 7), (1.0, 1.0, 8.0)), minutes=15)
    assert chosen["sampler.input_size"][2] == 8  # the smallest value that the configuration accepts
    assert chosen["model.unet.strides"][0] == [2, 2, 1]
    assert "no slices are interpolated along z" in reason(chosen, "sampler.input_size")


@pytest.mark.parametrize(
    ("changes", "scheme", "said"),
    [
        ({}, "Upright", "rotated by 5 degrees or less"),
        ({"turned": None}, "Upright", "too few landmarks"),
        ({"turned": 80.0}, "Turned", "rotated by 80 degrees or less"),
        ({"turned": 80.0, "mirrored": ((0, 1),)}, "Turned", "no mirrors"),
        ({"turned": 170.0}, "AnyRotation", "rotations by any angle"),
        ({"pairs": ((0, 1),), "mirrored": ((0, 1),)}, "Upright", "no mirrors"),
    ],
)
def test_the_scheme_follows_how_the_object_lies(changes, scheme, said):
    chosen = planned(seen((100, 100), **changes))
    assert chosen["sampler.data_aug"] == scheme
    assert said in reason(chosen, "sampler.data_aug")
    pairs = [choice.value for choice in chosen.choices if choice.key == "dataset.flip_pairs"]
    assert pairs == ([[[0, 1]]] if "pairs" in changes else [])
    assert ("name them in dataset.flip_pairs" in str(chosen).replace("\n# ", " ")) == (
        "mirrored" in changes and "pairs" not in changes
    )


def test_what_is_evaluated_is_what_there_is():
    def split(**counts):
        chosen = planned(seen((64, 64), counts={"validation": 0, "testing": 0} | counts))
        return [choice.value for choice in chosen.choices if choice.key == "inference.split"]

    assert split(testing=1) == []
    assert split(validation=1) == ["validation"]
    assert split() == ["training"]


@pytest.mark.parametrize("state", [State.VISIBLE, State.UNLABELLED])
def test_early_stopping_needs_annotated_images_that_are_held_out(state):
    found = seen((256, 256))
    (held_out,) = found.dataset.samples["validation"]
    held_out = replace(held_out, states=np.full(12, int(state)))
    samples = {**found.dataset.samples, "validation": (held_out,)}
    plan = str(planned(replace(found, dataset=replace(found.dataset, samples=samples))))
    assert ("early_stopping_patience" in plan) is (state == State.VISIBLE)
    assert ("1 of the 1 validation samples have no annotated landmark" in plan) is (state != State.VISIBLE)


def test_the_stated_number_of_epochs_fits():
    plan = planned(seen((256, 256)), minutes=1.3)
    said = re.search(r"about (\d+) fit: .* make (\d+) batches", reason(plan, "solver.mini_batch_size"))
    epochs, batches = map(int, said.groups())
    assert epochs == round(batches / plan["solver.mini_batch_size"])


def test_more_images_get_more_minutes():
    assert [choose_minutes(images)[0] for images in (10, 50, 200, 10**6)] == [7.5, 7.5, 15, 240]


def test_too_little_time_is_said():
    text = str(planned(seen((2000, 1500, 900)), minutes=0.05)).replace("\n# ", " ")
    assert "batches fit into the time on two CPU cores: give it more (--minutes)" in text


class Silent(Plugin):
    """A plugin without methods for plans."""


class Flat(Plugin):
    @classmethod
    def networks(cls, request):
        return [PlannedNetwork((64, 64), {}, 1.0, 1.0)]


def test_an_architecture_that_says_nothing_keeps_its_labels_and_loss():
    chosen = planned(seen((300, 200)), made("silent", Silent), minutes=10)
    keys = {choice.key for choice in chosen.choices}
    assert all(side % 32 == 0 for side in chosen["sampler.input_size"])
    assert not keys & {"solver.loss_function", "solver.regress_sigma", "model.gauss_sigma"}
    assert "estimated" in reason(chosen, "model.architecture")
    with pytest.raises(UserError, match=r"architecture flat offers a network for 64×64 .* 3 dimensions"):
        planned(seen((64, 64, 64)), made("flat", Flat))


def test_an_extension_has_a_say():
    class Extension(Plugin):
        @classmethod
        def plan(cls, image_size, patch_size):
            return {"reach": (list(patch_size), f"of {image_size[0]:g}")}

    chosen = planned(seen((300, 200)), extensions=dict([made("far", Extension)]))
    assert chosen["trainer.plugins"] == ["far"]
    assert chosen["trainer.far.reach"] == chosen["sampler.input_size"]


def test_the_estimate_is_that_of_the_network_that_is_trained():
    """The seconds of a batch are linear in the products and numbers that the architecture states."""
    found, budget = seen((632, 480)), Budget(4e9, 228, recipe.TWO_CORES)
    fitted = fit(found, PlanRequest(Path("a.json"), Path(), UNET), budget)
    width = fitted.network.settings["init_features"][0]
    strides = fitted.network.settings["strides"][0]
    products, numbers = Shape(fitted.network.size, strides, width, 1, 12).cost()
    machine = recipe.TWO_CORES
    a_sample = 3 * products / machine.products + numbers / machine.numbers
    a_sample += prod(fitted.network.size) / machine.pixels
    assert fitted.batches == pytest.approx(228 / (machine.overhead + fitted.batch * a_sample))


@pytest.mark.parametrize(
    ("size", "width", "batch", "seconds"),
    [
        ((256, 192), 16, 4, 0.22),
        ((320, 224), 32, 4, 0.71),
        ((64, 64), 32, 8, 0.075),
        ((112, 112), 32, 8, 0.265),
        ((32, 48, 28), 16, 2, 0.092),
        ((48, 56, 32), 16, 2, 0.175),
    ],
)
def test_the_estimate_is_close_to_what_was_measured(size, width, batch, seconds):
    """Whole steps of training on two idle cores."""
    levels = 3 if min(size) <= 64 else 5
    products, numbers = Shape(size, ((2,) * len(size),) * levels, width, 1, 12).cost()
    network = PlannedNetwork(size, {}, products, numbers)
    assert Budget(4e9, 60, recipe.TWO_CORES).seconds_of(network, batch) == pytest.approx(seconds, rel=0.15)


def test_a_core_is_measured_in_powers_of_two():
    speed = measured_speed()
    assert 2**-6 <= speed <= 2**6
    assert np.log2(speed) % 1 == 0
    assert cores(2 * speed).products == pytest.approx(2 * cores(speed).products)


# Whole plans


def check_text(path):
    """A configuration; every choice has its reason."""
    lines = path.read_text().splitlines()
    assert all(len(line) <= 110 for line in lines)
    plain = {"task", "src_targets", "architecture", "output_dir"}
    for number, line in enumerate(lines):
        key, _, value = line.partition(":")
        if value and not line.strip().startswith("#") and key.strip() not in plain:
            assert "  # " in line or lines[number - 1].strip().startswith("# "), line
    return load_config(path)


@pytest.mark.parametrize("sizes", [((64, 48),), ((24, 28, 16),), ((800, 600),)], ids=["2D", "3D", "large"])
def test_a_plan_is_a_configuration(make_project, sizes):
    project = make_project(sizes=sizes, landmarks=3)
    project.annotations["landmark_names"] = ["eye left", "nose", "eye right"]
    project.write()
    path = project.folder / "planned.yaml"
    path.write_text(str(plan(PlanRequest(project.json, project.folder, UNET))))
    loaded = check_text(path)
    assert loaded.run.dataset.src_targets == project.json
    assert loaded.run.dataset.flip_pairs == [(0, 2)]
    spacing = " of 0.5×0.5×2 mm" if len(sizes[0]) == 3 else ""
    assert (
        f"The median image has {'×'.join(map(str, sizes[0]))} pixels{spacing}."
        in path.read_text().replace("\n# ", " ")
    )
    assert project.lannunet("config", "check", path) == 0


def test_a_folder_of_folds_is_planned_for(project, capsys):
    project.write()
    folds = project.folder / "folds"
    assert project.lannunet("folds", project.json, "-o", folds, "--count", 3) == 0
    path = project.folder / "planned.yaml"
    assert project.lannunet("plan", folds, "-o", path) == 0
    config = check_text(path).run
    assert (config.dataset.src_targets, config.trainer.fold) == (folds, 0)
    assert project.lannunet("config", "check", path) == 0


def test_a_folder_with_one_json_is_planned_for_and_others_are_not(project, capsys):
    project.write()
    path = project.folder / "planned.yaml"
    assert project.lannunet("plan", project.folder, "-o", path) == 0
    assert check_text(path).run.trainer.fold == -1
    (project.folder / "else").mkdir()
    (project.folder / "else/dataset.json").write_text(
        json.dumps({"training": [{"image": "a", "label": "b"}]})
    )
    assert project.lannunet("plan", project.folder / "else", "-o", project.folder / "other.yaml") == 2
    assert "no installed task makes a plan for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda annotations: annotations.pop("training"), '"training" is empty or missing'),
        (lambda annotations: annotations["training"][0].pop("id"), '"id" is missing'),
    ],
)
def test_bad_annotations(project, change, said, capsys):
    change(project.annotations)
    project.write()
    assert project.lannunet("plan", project.json, "-o", project.folder / "planned.yaml") == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not WINGS.exists(), reason="needs the shared data")
def test_the_wings():
    chosen = plan(PlanRequest(WINGS, Path(), UNET, minutes=3.8))
    assert chosen["sampler.data_aug"] == "Upright"
    assert "41 training, 5 validation, 12 testing images" in chosen.about[0]
