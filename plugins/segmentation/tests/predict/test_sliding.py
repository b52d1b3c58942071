import errno
import itertools
import mmap
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from lannunet_segmentation.predict.sliding import predict_scores
from torch import nn

from lannunet_core.errors import RunFailed

HALF = 3e-3  # several roundings of numbers up to 1 to half precision


class PositionDependent(nn.Module):
    """A network without equivariance to shifts or flips: outputs depend on the position in the patch."""

    def __init__(self, classes, channels, patch_size, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.mix = torch.tensor(rng.normal(size=(classes, channels)), dtype=torch.float32)
        self.bias = torch.tensor(rng.normal(size=(classes, *reversed(patch_size))), dtype=torch.float32)

    def forward(self, patches):
        return torch.einsum("kc,bc...->bk...", self.mix, patches) + self.bias


def reference(network, image, patch_size, mirror):
    """Float64, whole-map sums of weighted patches, divided at the end; axes as in the arrays."""
    patch, shape = patch_size[::-1], image.shape[1:]
    before = [max(p - s, 0) // 2 for p, s in zip(patch, shape, strict=True)]
    frame = [max(p, s) for p, s in zip(patch, shape, strict=True)]
    inner = tuple(slice(b, b + s) for b, s in zip(before, shape, strict=True))
    around = [(b, f - s - b) for b, f, s in zip(before, frame, shape, strict=True)]
    padded = np.pad(image.astype(float), [(0, 0), *around], mode="symmetric")
    weight = np.ones(())
    for p in patch:
        offset = np.arange(p) - (p - 1) / 2
        weight = np.multiply.outer(weight, np.exp(-0.5 * (offset / (p / 8)) ** 2))
    mix, bias = network.mix.double().numpy(), network.bias.double().numpy()
    total, weights = np.zeros((len(mix), *frame)), np.zeros(frame)
    starts = [sorted({*range(0, f - p, max(p // 2, 1)), f - p}) for f, p in zip(frame, patch, strict=True)]
    axes = range(1, image.ndim)
    flips = [c for n in range(image.ndim if mirror else 1) for c in itertools.combinations(axes, n)]
    for corner in itertools.product(*starts):
        box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        for flip in flips:
            logits = np.einsum("kc,c...->k...", mix, np.flip(padded[(slice(None), *box)], flip)) + bias
            odds = np.exp(logits - logits.max(0))
            total[(slice(None), *box)] += weight * np.flip(odds / odds.sum(0), flip) / len(flips)
        weights[box] += weight
    return (total / weights)[(slice(None), *inner)]


sizes = st.tuples(st.integers(1, 40), st.integers(1, 12))  # of the image and of the patch


@given(
    st.lists(sizes, min_size=2, max_size=3),
    st.integers(1, 2),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
@example([(40, 12), (3, 9), (11, 5)], 1, 3, True, True)
@example([(5, 8), (5, 8), (5, 8)], 1, 2, True, False)
@example([(9, 4), (40, 4), (7, 4)], 2, 3, False, False)
@settings(max_examples=40, deadline=None)
def test_scores_are_the_weighted_average_of_all_patches(
    tmp_path_factory, axes, channels, batch_size, mirror, on_file
):
    if len(axes) == 3:
        axes = [(min(side, 15), max(patch, 4)) for side, patch in axes]
    size, patch_size = zip(*axes, strict=True)
    image = np.random.default_rng(1).normal(size=(channels, *reversed(size))).astype(np.float32)
    network = PositionDependent(3, channels, patch_size)
    scores = predict_scores(
        network,
        image,
        patch_size,
        "cpu",
        classes=3,
        batch_size=batch_size,
        mirror=mirror,
        scratch=tmp_path_factory.getbasetemp() if on_file else None,
    )
    assert scores.dtype == torch.float16
    expected = reference(network, image, patch_size, mirror)
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores.double().numpy(), expected, atol=HALF, rtol=0)


def test_a_patch_counts_by_its_place():
    """The comparison above would detect patches that are averaged without weights, or not mirrored back."""
    image = np.random.default_rng(1).normal(size=(1, 20, 30)).astype(np.float32)
    network = PositionDependent(3, 1, (12, 8))
    scores = predict_scores(network, image, (12, 8), "cpu", classes=3)
    mirrored = predict_scores(network, image, (12, 8), "cpu", classes=3, mirror=True)
    whole = torch.einsum("kc,c...->k...", network.mix, torch.from_numpy(image)).softmax(0)
    assert (scores - mirrored).abs().max() > 0.05
    assert (scores - whole).abs().max() > 0.05


CLASS_GAINS = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1)


@pytest.mark.parametrize("size", [(50, 3), (3, 50), (20, 31)])
def test_of_several_resolutions_the_finest_counts(size):
    image = np.random.default_rng(0).normal(size=(1, *reversed(size))).astype(np.float32)

    def network(patches):
        return [patches * CLASS_GAINS, nn.functional.avg_pool2d(patches, 2) * 1e3]

    scores = predict_scores(network, image, (8, 8), "cpu", classes=2)
    expected = (torch.from_numpy(image)[None] * CLASS_GAINS)[0].softmax(0)
    torch.testing.assert_close(scores.float(), expected, atol=HALF, rtol=0)


def test_coarse_outputs_are_enlarged():
    ramp = np.tile(np.arange(32, dtype=np.float32) / 32, (1, 20, 1))

    def network(patches):
        return nn.functional.avg_pool2d(torch.cat([patches, 1 - patches], 1), 2)

    scores = predict_scores(network, ramp, (8, 8), "cpu", classes=2, activation=lambda x: x)
    assert scores.shape == (2, 20, 32)
    # Linear interpolation keeps a ramp, but where a patch has no neighbour to interpolate with.
    inner = torch.from_numpy(ramp)[0, :, 4:-4]
    torch.testing.assert_close(scores[0, :, 4:-4].float(), inner, atol=1e-2, rtol=0)
    torch.testing.assert_close(scores[1, :, 4:-4].float(), 1 - inner, atol=1e-2, rtol=0)


def test_another_activation_takes_the_place_of_softmax():
    image = np.random.default_rng(0).normal(size=(2, 20, 30)).astype(np.float32)
    scores = predict_scores(lambda x: x, image, (8, 8), "cpu", classes=2, activation=torch.sigmoid)
    torch.testing.assert_close(scores.float(), torch.from_numpy(image).sigmoid(), atol=HALF, rtol=0)


def test_the_activation_gets_all_that_the_network_answers():
    image = np.random.default_rng(0).normal(size=(1, 20, 30)).astype(np.float32)

    def network(patches):
        return {"inside": patches.half(), "sure": [patches.abs()]}

    def activation(outputs):
        return outputs["inside"].sigmoid() * outputs["sure"][0]

    scores = predict_scores(network, image, (8, 8), "cpu", classes=1, activation=activation)
    expected = torch.from_numpy(image).sigmoid() * torch.from_numpy(image).abs()
    torch.testing.assert_close(scores.float(), expected, atol=HALF, rtol=0)


def test_an_image_smaller_than_a_patch_lies_in_its_middle():
    image = np.random.default_rng(0).normal(size=(1, 5, 20, 7)).astype(np.float32)
    seen = []

    def network(patches):
        seen.append(patches)
        return torch.cat([patches, -patches], 1)

    scores = predict_scores(network, image, (12, 16, 8), "cpu", classes=2)
    assert scores.shape == (2, 5, 20, 7)
    assert [tuple(patches.shape) for patches in seen] == [(1, 1, 8, 16, 12)] * 2
    around = np.pad(image[0], [(1, 2), (0, 0), (2, 3)], mode="symmetric")
    np.testing.assert_array_equal(seen[0][0, 0], around[:, :16])


def test_only_patches_of_the_image_are_read():
    class Stored:
        shape = (1, 9, 33)

        def __getitem__(self, box):
            part = np.zeros(self.shape, np.float32)[box]
            assert part.size <= 8 * 6
            return part

    scores = predict_scores(lambda x: torch.cat([x, x], 1), Stored(), (8, 6), "cpu", classes=2)
    assert scores.shape == (2, 9, 33)


def test_batches_and_progress():
    image = np.zeros((1, 9, 33), np.float32)
    seen, told = [], []

    def network(patches):
        seen.append(len(patches))
        return torch.cat([patches, patches], 1)

    predict_scores(
        network, image, (8, 6), "cpu", classes=2, batch_size=2, progress=lambda *counts: told.append(counts)
    )
    assert seen == [2] * 8
    assert told == [(done, 16) for done in range(2, 17, 2)]


def test_no_gradient_is_kept():
    image = np.zeros((1, 9, 9), np.float32)
    scores = predict_scores(nn.Conv2d(1, 2, 1), image, (8, 8), "cpu", classes=2)
    assert not scores.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    image = np.random.default_rng(1).normal(size=(1, 20, 30, 17)).astype(np.float32)
    network = PositionDependent(3, 1, (12, 8, 8))
    on_cpu = predict_scores(network, image, (12, 8, 8), "cpu", classes=3, mirror=True, batch_size=3)
    network.mix, network.bias = network.mix.cuda(), network.bias.cuda()
    on_gpu = predict_scores(network, image, (12, 8, 8), "cuda", classes=3, mirror=True, batch_size=3)
    assert on_gpu.device.type == "cpu"
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-2, rtol=0)


# The temporary file


def test_the_temporary_file_has_no_name_and_lives_as_long_as_the_scores(tmp_path):
    image = np.random.default_rng(0).normal(size=(2, 20, 30)).astype(np.float32)
    in_memory = predict_scores(lambda x: x, image, (8, 8), "cpu", classes=2)
    on_file = predict_scores(lambda x: x, image, (8, 8), "cpu", classes=2, scratch=tmp_path)
    assert torch.equal(in_memory, on_file)
    if os.name == "posix":
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only this asks for room beforehand")
@pytest.mark.parametrize(
    ("module", "name"), [(tempfile, "TemporaryFile"), (os, "posix_fallocate"), (mmap, "mmap")]
)
def test_a_full_disk_is_named_before_anything_is_predicted(tmp_path, monkeypatch, module, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def network(patches):
        raise AssertionError

    monkeypatch.setattr(module, name, full)
    with pytest.raises(RunFailed, match=r"no room for 0.3 GB of class scores \(No space left on device\)"):
        predict_scores(
            network, np.zeros((1, 1000, 1000), np.float32), (8, 8), "cpu", classes=150, scratch=tmp_path
        )


# Memory

MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
import torch
from lannunet_segmentation.predict.sliding import predict_scores

torch.set_num_threads(1)
def peak():  # getrusage's would begin with that of the process that started this one
    return 1024 * int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])

def predict(image):
    return predict_scores(lambda x: x.expand(-1, 24, -1, -1, -1), image, (32, 32, 16), "cpu", classes=24)

predict(np.zeros((1, 20, 40, 40), np.float32))  # what torch takes once
image = np.load(sys.argv[1], mmap_mode="r")
before = peak()
scores = predict(image)
print((peak() - before) / (2 * scores.numel()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_stored_scores(tmp_path):
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.float32, (1, 160, 96, 96))
    image.flush()
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # 71 MB of scores in half precision, with the mapped image 6 MB and a few patches; in float32 it were 2.
    assert 0.9 < float(done.stdout) < 1.4
