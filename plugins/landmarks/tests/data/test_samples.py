import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lannunet_images import ExtraFields, FullImage, ImageFiles, available_memory
from lannunet_images.geometry import is_inside, transform_points
from lannunet_images.on_device import augment, augment_one
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.data.packing import pack
from lannunet_landmarks.data.samples import EvaluationSamples, PreparedImages, TrainingSamples
from lannunet_landmarks.data.sampling import PatchBias, PatchCentred
from lannunet_landmarks.schema import DatasetConfig
from lannunet_landmarks.types import Sample
from PIL import Image as pillow
from torch.utils.data import DataLoader

from lannunet_core.augment.schemes import Drawn, make_scheme
from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State
from lannunet_core.run import processes
from lannunet_core.run.batches import EpochOrder, collate
from lannunet_core.run.workers import loaded_batches

WINGS = Path(__file__).parents[5] / "shared" / "data" / "wings"
INPUT = (96, 80)
SIZES = ((150, 110), (90, 140), (200, 200))  # of the originals: mixed
N = 4


class Fixed:
    """A scheme that always draws the same."""

    def __init__(self, linear, offset=(0.0, 0.0)):
        self.drawn = Drawn(SpatialTransform(np.array(linear, float), np.array(offset)), ())

    def draw(self, rng, size):
        return self.drawn


def blobs(size, points, width):
    axes = [np.arange(length) for length in size]
    image = np.zeros(size[::-1])
    for point in points:
        blob = 1.0
        for axis, centre in zip(axes, point, strict=True):
            blob = np.multiply.outer(np.exp(-((axis - centre) ** 2) / (2 * width**2)), blob)
        image += blob
    return image


@pytest.fixture
def samples(tmp_path):
    """Real files of mixed sizes with four blobs each, at the annotated positions."""
    made = []
    for number, size in enumerate(SIZES):
        rng = np.random.default_rng(number)
        corners = np.array([[0.28, 0.28], [0.72, 0.28], [0.28, 0.72], [0.72, 0.72]])
        points = corners * size + rng.uniform(-3, 3, (N, 2))
        path = tmp_path / f"{number}.png"
        pillow.fromarray(np.round(60_000 * blobs(size, points, 3)).astype(np.uint16)).save(path)
        made.append(Sample(f"s{number}", path, points, np.zeros(N, np.int64), extra={"age": number}))
    return made


def prepared(samples, **more):
    return PreparedImages(samples, 2, 1, INPUT, "letterbox", **more)


def training(samples, scheme=None, **more):
    images = prepared(samples)
    images.preload()
    return TrainingSamples(
        images, samples, FullImage(INPUT), scheme or make_scheme("AffineComplex"), seed=3, **more
    )


# Images


def test_kept_images_are_the_same_as_read_ones(samples):
    one = 4 * INPUT[0] * INPUT[1]
    kept, read = prepared(samples, budget_bytes=2 * one + 5), prepared(samples, cache_data=False)
    told = []
    assert kept.preload(told.append) == 2
    assert sum(told) == 3
    assert read.preload() == 0
    samples[0].image.unlink()
    samples[1].image.unlink()
    assert kept[0].original_size == SIZES[0]
    for index, size in enumerate(SIZES):
        assert kept[index].image.shape == (1, *INPUT[::-1])
        assert kept[index].original_size == size
    torch.testing.assert_close(kept[2].image, read[2].image, rtol=0, atol=0)
    with pytest.raises(UserError, match=r"0\.png: cannot be read"):
        read[0]


def test_the_processes_of_a_machine_share_its_memory(samples, monkeypatch):
    one = 4 * INPUT[0] * INPUT[1]
    monkeypatch.setattr("lannunet_landmarks.data.samples.available_memory", lambda: 8 * one)
    assert prepared(samples).preload() == 3
    monkeypatch.setattr(processes._now, "local", 4)
    assert prepared(samples).preload() == 1


def test_twice_as_many_images_are_kept_in_half_precision(samples):
    """Images that are read again are rounded too, so the cache size does not change a run."""
    budget = 4 * INPUT[0] * INPUT[1]
    plain, half = (prepared(samples, budget_bytes=budget, dtype=d) for d in (torch.float32, torch.float16))
    assert (plain.preload(), half.preload()) == (1, 2)
    for index in range(3):
        assert half[index].image.dtype == torch.float32
        assert torch.equal(half[index].image, plain[index].image.half().float())


@pytest.mark.parametrize("channels", [1, 3])
def test_four_times_as_many_images_are_kept_in_bytes(tmp_path, channels):
    """Each value is at most half a step off, and kept images equal those that are read again."""
    rng = np.random.default_rng(0)
    shape = (12, 16) if channels == 1 else (12, 16, channels)
    found = []
    for number in range(3):
        pixels = rng.normal(size=shape) * rng.uniform(1, 1000)
        pixels[:, :4] = 7  # a constant part
        np.save(tmp_path / f"{number}.npy", pixels.astype(np.float32))
        found.append(Sample(str(number), tmp_path / f"{number}.npy", np.ones((1, 2)), np.zeros(1, np.int64)))
    kept, read, plain = (
        PreparedImages(
            found,
            2,
            channels,
            (16, 12),
            "letterbox",
            cache_data=cache,
            dtype=dtype,
            budget_bytes=600 * channels,
        )
        for cache, dtype in ((True, torch.uint8), (False, torch.uint8), (True, torch.float32))
    )
    assert (kept.preload(), read.preload(), plain.preload()) == (3, 0, 0)
    for index in range(3):
        assert torch.equal(kept[index].image, read[index].image)
        wanted = plain[index].image
        step = (wanted.amax((1, 2), keepdim=True) - wanted.amin((1, 2), keepdim=True)) / 255
        assert ((kept[index].image - wanted).abs() <= 0.501 * step).all()
        assert len(kept[index].image[0].unique()) > 50


def test_a_constant_image_is_kept_in_bytes():
    image = torch.full((2, 3, 4), 5.5)
    assert torch.equal(pack(image, torch.uint8).image(), image)


def test_what_half_precision_cannot_hold_is_refused(samples):
    raw = [lambda channel: channel * 10]
    assert prepared(samples, normalisations=raw).preload() == 3
    with pytest.raises(UserError, match=r"0\.png: has normalised values beyond 65504.*cache_dtype"):
        prepared(samples, normalisations=raw, dtype=torch.float16).preload()


def test_the_default_budget_leaves_memory_free(samples):
    assert 0 < available_memory() < 1 << 50
    assert prepared(samples).preload() == 3
    assert prepared(samples, budget_bytes=0).preload() == 0


def test_spacing_comes_from_the_annotations_or_the_file(tmp_path, samples):
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((40, 50)).astype(np.float32))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / "image.mha"))
    nowhere = np.full((N, 2), np.nan), np.full(N, State.UNLABELLED)
    from_file = Sample("f", tmp_path / "image.mha", *nowhere)
    given_one = Sample("g", tmp_path / "image.mha", *nowhere, spacing=(2.0, 3.0))
    images = prepared([from_file, given_one, samples[0]])
    assert [images[k].spacing for k in range(3)] == [(0.5, 0.25), (2.0, 3.0), None]
    batch = collate([EvaluationSamples(images, images.samples)[k] for k in range(3)])
    np.testing.assert_array_equal(batch["spacing"], [[0.5, 0.25], [2, 3], [np.nan, np.nan]])


@pytest.mark.parametrize("budget", [0, None])
def test_what_is_wrong_with_images_is_found_before_training(tmp_path, samples, budget):
    pillow.new("RGB", (50, 40)).save(tmp_path / "colour.png")
    other = Sample("colour", tmp_path / "colour.png", np.full((N, 2), 9.0), np.zeros(N, np.int64))
    with pytest.raises(UserError, match=r"colour\.png: has 3 channel\(s\) where .*0\.png has 1"):
        prepared([*samples, other], budget_bytes=budget).preload()
    with pytest.raises(UserError, match=r"colour\.png: has 3 channel\(s\) where .*train\.png has 1"):
        prepared([other], budget_bytes=budget, reference=Path("train.png")).preload()
    far = Sample(
        "far", samples[0].image, np.array([[1.0, 1], [2, 2], [150, 3], [4, 4]]), np.zeros(N, np.int64)
    )
    with pytest.raises(UserError, match=r'"far": landmark 2 at \(150, 3\) lies outside .* 150×110'):
        prepared([far], budget_bytes=budget).preload()


def test_pixels_that_are_no_numbers(tmp_path):
    for value in (np.nan, np.inf, -1e300):
        pixels = np.ones((20, 30))
        pixels[3, 4] = value
        np.save(tmp_path / "image.npy", pixels)
        one = Sample("x", tmp_path / "image.npy", np.full((N, 2), 9.0), np.zeros(N, np.int64))
        with pytest.raises(UserError, match=r"image\.npy: holds pixels that are NaN or infinite"):
            prepared([one]).preload()


# Training samples


def found(image, point, reach):
    """Centre of mass (x, y) around a point of an image (y, x)."""
    x, y = (round(float(c)) for c in point)
    window = np.asarray(image, float)[y - reach : y + reach + 1, x - reach : x + reach + 1]
    window = window - window.min()
    offsets = np.arange(-reach, reach + 1)
    return np.array([(window.sum(0) * offsets).sum(), (window.sum(1) * offsets).sum()]) / window.sum() + (
        x,
        y,
    )


def test_augmented_blobs_are_where_the_landmarks_say(samples):
    """The image passes through a real file, resize and augmentation; landmarks are computed separately."""
    dataset = training(samples)
    items = [dataset[(0, draw, draw % 3)] for draw in range(30)]
    batch = collate(items)
    images = augment(batch["image"], batch["drawn"], batch["centre"], INPUT)
    checked = 0
    for image, points, states in zip(images, batch["landmarks"], batch["states"], strict=True):
        others = points.numpy()
        for point, state in zip(others, states, strict=True):
            room = is_inside(point - 9, INPUT) and is_inside(point + 9, INPUT)
            distances = np.sort(np.linalg.norm(others - point, axis=1))[1]
            if state == State.VISIBLE and room and distances > 18:
                assert np.abs(found(image[0], point, 8) - point).max() < 0.05
                checked += 1
    assert checked > 60


def test_the_affine_leads_back_to_original_pixels(samples):
    dataset = training(samples)
    for draw in range(20):
        item = dataset[(1, draw, draw % 3)]
        original = transform_points(item["affine"], item["landmarks"].double())
        expected = samples[draw % 3].coordinates
        np.testing.assert_allclose(original, expected, atol=1e-3)


def test_what_is_drawn_follows_from_seed_epoch_and_draw(samples):
    def linear(dataset, place):
        return dataset[place]["drawn"].spatial.linear.tolist()

    scheme = make_scheme("payer19")  # always draws a transform
    dataset = training(samples, scheme)
    first = linear(dataset, (4, 7, 0))
    assert linear(dataset, (4, 7, 0)) == first
    assert linear(dataset, (4, 7, 1)) == first
    other_seed = TrainingSamples(dataset.images, samples, FullImage(INPUT), scheme, seed=4)
    for changed in (linear(dataset, (5, 7, 0)), linear(dataset, (4, 8, 0)), linear(other_seed, (4, 7, 0))):
        assert changed != first


def test_a_mirror_swaps_its_pairs(samples):
    mirror = Fixed([[-1, 0], [0, 1]])
    samples[0].states[2] = State.ABSENT
    plain = training(samples, mirror)[(0, 0, 0)]
    swapped = training(samples, mirror, flip_pairs=[(0, 1), (3, 2)])[(0, 0, 0)]
    order = [1, 0, 3, 2]
    torch.testing.assert_close(swapped["landmarks"], plain["landmarks"][order], rtol=0, atol=0)
    assert swapped["states"].tolist() == [0, 0, 0, State.ABSENT]
    still = training(samples, Fixed(np.eye(2)), flip_pairs=[(0, 1), (3, 2)])[(0, 0, 0)]
    assert still["states"].tolist() == [0, 0, State.ABSENT, 0]
    # After a mirror and the swap of names, the left landmark is on the left again.
    assert (swapped["landmarks"][0, 0] < swapped["landmarks"][1, 0]) == (
        still["landmarks"][0, 0] < still["landmarks"][1, 0]
    )


def test_what_leaves_the_image_is_outside_and_keeps_its_point(samples):
    coordinates = samples[0].coordinates.copy()
    coordinates[1] = np.nan
    states = np.array([State.VISIBLE, State.UNLABELLED, State.VISIBLE, State.VISIBLE])
    samples[0] = Sample("s0", samples[0].image, coordinates, states)
    moved = training(samples, Fixed(np.eye(2), (50.0, 0.0)))[(0, 0, 0)]
    plain = training(samples, Fixed(np.eye(2)))[(0, 0, 0)]
    assert plain["states"].tolist() == states.tolist()
    torch.testing.assert_close(
        moved["landmarks"], plain["landmarks"] - torch.tensor([50.0, 0]), equal_nan=True
    )
    inside = is_inside(moved["landmarks"].double().numpy(), INPUT)
    assert moved["states"].tolist() == [
        State.UNLABELLED if k == 1 else State.VISIBLE if inside[k] else State.OUTSIDE for k in range(N)
    ]
    assert State.OUTSIDE in moved["states"].tolist()
    assert torch.isnan(moved["landmarks"][1]).all()


def test_the_batch_holds_what_is_agreed(samples):
    dataset = training(samples)
    batch = collate([dataset[(0, 0, 2)], dataset[(0, 1, 0)]])
    kinds = {key: (tuple(v.shape), v.dtype) for key, v in batch.items() if isinstance(v, torch.Tensor)}
    assert kinds == {
        "image": ((2, 1, *INPUT[::-1]), torch.float32),
        "landmarks": ((2, N, 2), torch.float32),
        "states": ((2, N), torch.int64),
        "affine": ((2, 3, 3), torch.float64),
        "original_size": ((2, 2), torch.int64),
        "corner": ((2, 2), torch.float32),
        "spacing": ((2, 2), torch.float64),
        "index": ((2,), torch.int64),
        "centre": ((2, 2), torch.float32),
    }
    assert batch["id"] == ["s2", "s0"]
    assert batch["index"].tolist() == [2, 0]
    assert batch["original_size"].tolist() == [list(SIZES[2]), list(SIZES[0])]
    assert all(isinstance(drawn, Drawn) for drawn in batch["drawn"])


@pytest.mark.parametrize("sampling", [FullImage(INPUT), PatchBias((48, 40), 0.66)])
def test_an_augmenter_augments_in_the_worker(samples, sampling):
    on_device, in_worker = (
        TrainingSamples(
            natively(samples) if isinstance(sampling, PatchBias) else prepared(samples),
            samples, sampling, make_scheme("AffineComplexElastic"), seed=3, augmenter=augmenter,
        )
        for augmenter in (None, augment_one)
    )  # fmt: skip
    for draw in range(6):
        expected, item = on_device[(0, draw, draw % 3)], in_worker[(0, draw, draw % 3)]
        assert not {"drawn", "centre"} & set(item)
        torch.testing.assert_close(item["landmarks"], expected["landmarks"], rtol=0, atol=0)
        there = in_worker.on_device(collate([item]), torch.device("cpu"))["image"]
        here = on_device.on_device(collate([expected]), torch.device("cpu"))["image"]
        assert there.shape == (1, 1, *sampling.output_size[::-1])
        torch.testing.assert_close(there, here, atol=1e-4, rtol=0)


def test_schemes_and_samplings_may_know_sample_and_epoch(samples):
    told = []

    class Knowing:
        output_size = INPUT

        def draw(self, sample, epoch, rng, size):
            told.append((sample.id, epoch))
            return Drawn(SpatialTransform.identity(2))

        def centre(self, epoch, sample, image_size):
            told.append((sample.id, epoch))
            return (np.asarray(image_size) - 1) / 2

    images = prepared(samples)
    TrainingSamples(images, samples, Knowing(), Knowing(), 0)[(5, 1, 2)]
    assert told == [("s2", 5), ("s2", 5)]


def test_further_fields_reach_the_batch(samples):
    samples[1] = replace(samples[1], extra={"age": None, "note": "blurred", "pair": [1, 2]})
    dataset = training(samples)
    batch = collate([dataset[(0, draw, draw)] for draw in range(3)])
    assert batch["extra"]["age"].dtype == torch.float32
    np.testing.assert_array_equal(batch["extra"]["age"], [0, np.nan, 2])
    assert batch["extra"]["note"] == [None, "blurred", None]
    np.testing.assert_array_equal(batch["extra"]["pair"], [[np.nan] * 2, [1, 2], [np.nan] * 2])
    known = ExtraFields.of([{"age": 3}])
    assert set(EvaluationSamples(prepared(samples), samples, extra=known)[1]["extra"]) == {"age"}


def test_with_debug_a_sample_says_what_it_was_made_of(samples):
    dataset = training(samples, Fixed([[-1, 0], [0, 1]]), flip_pairs=[(0, 1)], debug=True)
    assert "before" not in training(samples)[(0, 0, 0)]
    item = dataset[(0, 0, 0)]
    before = item["before"]
    torch.testing.assert_close(before["image"], dataset.images[0].image, rtol=0, atol=0)
    moved = before["transform"].spatial.to_output(
        before["landmarks"].double().numpy(), before["centre"].double().numpy(), INPUT
    )
    np.testing.assert_allclose(moved[[1, 0, 2, 3]], item["landmarks"], atol=1e-4)
    assert before["states"].tolist() == [0] * N


def everything(loader):
    taken = []
    for batch in loader:
        taken.append(
            {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "drawn"}
        )
        taken[-1]["linear"] = np.stack([drawn.spatial.linear for drawn in batch["drawn"]])
    return taken


def test_workers_change_nothing(samples):
    order = EpochOrder(3, 2, 4, seed=3)
    order.set_position(5)
    here, there = (
        everything(DataLoader(training(samples), batch_sampler=order, num_workers=w, collate_fn=collate))
        for w in (0, 2)
    )
    assert len(here) == 4
    for one, other in zip(here, there, strict=True):
        assert one["id"] == other["id"]
        np.testing.assert_array_equal(one["linear"], other["linear"])
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, other[key], rtol=0, atol=0, equal_nan=True)


def test_data_sets_pickle(samples):
    dataset = training(samples)
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[(2, 5, 1)]["landmarks"], dataset[(2, 5, 1)]["landmarks"], rtol=0, atol=0)
    torch.testing.assert_close(copy[(2, 5, 1)]["image"], dataset[(2, 5, 1)]["image"], rtol=0, atol=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_told_in_one_line(samples, workers):
    images = prepared(samples, cache_data=False)
    samples[1].image.write_bytes(samples[1].image.read_bytes()[:2000])
    loader = DataLoader(EvaluationSamples(images, samples), num_workers=workers, collate_fn=collate)
    with pytest.raises(UserError) as error:
        list(loaded_batches(loader))
    assert str(error.value).startswith(str(samples[1].image))
    assert "\n" not in str(error.value)


# Evaluation samples


def test_evaluation_takes_every_sample_once_as_it_is(samples):
    unannotated = Sample("u", samples[0].image, np.full((N, 2), np.nan), np.full(N, State.UNLABELLED))
    samples.append(unannotated)
    images = prepared(samples)
    images.preload()
    loader = DataLoader(EvaluationSamples(images, samples), batch_size=3, collate_fn=collate)
    taken = list(loaded_batches(loader))
    assert [name for batch in taken for name in batch["id"]] == ["s0", "s1", "s2", "u"]
    for batch in taken:
        assert "drawn" not in batch
        back = transform_points(batch["affine"], batch["landmarks"].double())
        np.testing.assert_allclose(back, batch["target"], atol=1e-3)
        for k, index in enumerate(batch["index"].tolist()):
            np.testing.assert_array_equal(batch["target"][k], samples[index].coordinates)
            assert batch["states"][k].tolist() == samples[index].states.tolist()
            for point in batch["landmarks"][k]:
                if torch.isfinite(point).all():
                    assert np.abs(found(batch["image"][k, 0], point, 8) - point.numpy()).max() < 0.05


def test_volumes_of_two_channels(tmp_path):
    points = np.array([[14.3, 15.6, 9.2]])
    volume = np.stack([blobs((30, 28, 22), points, 2.5), np.random.default_rng(0).random((22, 28, 30))])
    np.save(tmp_path / "volume.npy", volume)
    one = Sample("v", tmp_path / "volume.npy", points, np.zeros(1, np.int64))
    images = PreparedImages([one], 3, 2, (32, 24, 20), "stretch")
    images.preload()
    item = TrainingSamples(images, [one], FullImage((32, 24, 20)), make_scheme("None"), 0)[(0, 0, 0)]
    assert item["image"].shape == (2, 20, 24, 32)
    assert item["affine"].shape == (4, 4)
    np.testing.assert_allclose(
        transform_points(item["affine"], item["landmarks"].double()), points, atol=1e-4
    )


# Patches


def natively(samples, **more):
    images = PreparedImages(samples, 2, 1, None, "letterbox", **more)
    images.preload()
    return images


def patches(samples, sampling, scheme="AffineComplexElastic", **more):
    return TrainingSamples(natively(samples), samples, sampling, make_scheme(scheme), seed=3, **more)


def test_images_of_their_own_size_share_the_budget(samples):
    bytes_of = [4 * x * y for x, y in SIZES]
    read = natively(samples, cache_data=False)
    for budget, fitting in ((sum(bytes_of[:2]), 2), (sum(bytes_of[:2]) - 1, 1), (sum(bytes_of), 3), (0, 0)):
        told = []
        images = PreparedImages(samples, 2, 1, None, "letterbox", budget_bytes=budget)
        assert images.preload(told.append) == fitting
        assert sum(told) == 3
        for index, size in enumerate(SIZES):
            one = images[index]
            torch.testing.assert_close(one.image, read[index].image, rtol=0, atol=0)
            assert one.image.shape == (1, *size[::-1])
            assert one.original_size == size
            np.testing.assert_array_equal(one.affine, np.eye(3))
    pixels = np.asarray(pillow.open(samples[1].image), float)
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(read[1].image[0], expected, atol=1e-4)


@pytest.mark.parametrize("sampling", [PatchBias((48, 40), 0.66), PatchCentred((48, 40), 6.0)])
def test_the_part_that_a_worker_cuts_shows_what_the_whole_image_would(samples, sampling):
    """With rotation, shear and elastic deformation: no corner is empty where the image had content."""
    dataset = patches(samples, sampling)
    items = [dataset[(0, draw, draw % 3)] for draw in range(24)]
    assert len({item["image"].shape for item in items}) > 5
    batch = collate(items)  # of parts of different sizes
    images = augment(batch["image"], batch["drawn"], batch["centre"], (48, 40))
    for image, item in zip(images, items, strict=True):
        whole = dataset.images[int(item["index"])].image
        centre = item["corner"].double() + torch.tensor([47, 39]) / 2
        expected = augment(whole[None], [item["drawn"]], centre[None], (48, 40))[0]
        torch.testing.assert_close(image, expected, atol=2e-3, rtol=0)
    assert sum(item["image"].numel() for item in items) < 0.5 * sum(24 / 3 * x * y for x, y in SIZES)


def test_blobs_in_patches_are_where_the_landmarks_say(samples):
    dataset = patches(samples, PatchBias((64, 56), 1.0), "AffineComplex")
    items = [dataset[(0, draw, draw % 3)] for draw in range(40)]
    batch = collate(items)
    images = augment(batch["image"], batch["drawn"], batch["centre"], (64, 56))
    checked = 0
    for image, points, states, item in zip(images, batch["landmarks"], batch["states"], items, strict=True):
        inside = is_inside(points.double().numpy(), (64, 56))
        assert inside.any()
        assert states.tolist() == [State.VISIBLE if one else State.OUTSIDE for one in inside]
        np.testing.assert_allclose(
            transform_points(item["affine"], points.double()), samples[item["index"]].coordinates, atol=1e-3
        )
        for point in points.numpy()[inside]:
            if is_inside(point - 9, (64, 56)) and is_inside(point + 9, (64, 56)):
                assert np.abs(found(image[0], point, 8) - point).max() < 0.05
                checked += 1
    assert checked > 15


def test_patches_of_volumes(tmp_path):
    points = np.array([[24.3, 15.6, 9.2]])
    volume = blobs((40, 28, 22), points, 2.5)[None]
    np.save(tmp_path / "volume.npy", volume)
    one = Sample("v", tmp_path / "volume.npy", points, np.zeros(1, np.int64))
    images = PreparedImages([one], 3, 1, None, "letterbox")
    dataset = TrainingSamples(images, [one], PatchCentred((20, 18, 16), 1.0), make_scheme("AffineComplex"), 0)
    for draw in range(4):
        item = dataset[(0, draw, 0)]
        batch = collate([item])
        image = augment(batch["image"], batch["drawn"], batch["centre"], (20, 18, 16))[0, 0]
        x, y, z = item["landmarks"][0].round().long()
        near = image[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
        assert near.max() == image.max()


def test_a_patch_that_shows_nothing_is_refused(samples):
    class Astray(PatchBias):
        def centre(self, **_):
            return np.array([400.0, 20.0])

    with pytest.raises(UserError, match=r'"s0": a patch around \(400, 20\) shows nothing .* 150×110 pixels'):
        patches(samples, Astray((48, 40), 1.0), "None")[(0, 0, 0)]


def test_evaluation_says_where_to_look_in_pixels_of_the_image(samples):
    centres = {sample.id: sample.coordinates + 2.5 for sample in samples}
    images = prepared(samples)
    item = EvaluationSamples(images, samples, centres)[1]
    np.testing.assert_allclose(
        transform_points(item["affine"], item["centres"]), samples[1].coordinates + 2.5, atol=1e-9
    )
    assert "centres" not in EvaluationSamples(images, samples)[1]


@pytest.mark.skipif(not WINGS.exists(), reason="the wings are not here")
def test_wings_load():
    dataset = load_dataset(DatasetConfig(src_targets=WINGS / "dataset.json", root=WINGS), 0)
    testing = dataset.samples["testing"]
    images = PreparedImages(testing, 2, 1, (256, 192), "letterbox")
    assert images.preload() == 12
    samples = EvaluationSamples(images, testing)
    batch = collate([samples[k] for k in range(12)])
    assert batch["image"].shape == (12, 1, 192, 256)
    assert is_inside(batch["landmarks"].numpy(), (256, 192)).all()
    # 632 × 480 on 256 × 192: 2.5 pixels per pixel, edges on edges, 1.6 pixels of margin left and right.
    expected = (testing[0].coordinates + 0.5) / 2.5 - 0.5 + (1.6, 0)
    np.testing.assert_allclose(batch["landmarks"][0], expected, atol=1e-4)


@pytest.mark.parametrize("images_in_flight", [1, 2])
def test_large_images_are_not_read_all_at_once(samples, monkeypatch, images_in_flight):
    samples = [samples[0]] * 12
    together, most, lock = 0, 0, threading.Lock()

    class Counting(ImageFiles):
        def read(self, path, dimensions):
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.01)
            image = super().read(path, dimensions)
            with lock:
                together -= 1
            return image

    bytes_each = SIZES[0][0] * SIZES[0][1] * 4
    monkeypatch.setattr("lannunet_landmarks.data.samples.IN_FLIGHT", images_in_flight * bytes_each)
    PreparedImages(samples, 2, 1, INPUT, "letterbox", files=Counting()).preload()
    assert most == images_in_flight
