"""Between two training steps the host does not wait for the device: it reads no value, and no copy blocks."""

import numpy as np
import pytest
import torch
from lannunet_images.on_device import augment
from lannunet_segmentation.data.nnunet_scheme import NnunetScheme, NnunetUprightScheme
from lightning_fabric.accelerators import CPUAccelerator

from lannunet_core import make_scheme
from lannunet_core.config.schema import SCHEME_NAMES
from lannunet_core.run import run, step
from lannunet_core.run.loop import Training
from lannunet_core.run.processes import now
from tests.fixtures.far import Far, device


class Done(BaseException):
    """Stop watching after the steps."""


class Event:
    """A replacement for an event in the device's queue."""

    recorded = waited_for = 0

    def record(self):
        Event.recorded += 1

    def synchronize(self):
        Event.waited_for += 1


@pytest.fixture
def waits(monkeypatch):
    """The operations that the host waits for in the second and third batch (the first fills caches)."""

    def of(project) -> list[str]:
        project.set(solver={"max_epochs": 1, "mini_batch_size": 3, "data_loader_batch_size_train": 2})
        with Far() as far, monkeypatch.context() as patch:

            def make_fabric(config):
                fabric = now().make_fabric(accelerator="cpu", devices=1)
                fabric._strategy._root_device = device()
                return fabric

            def steps(self):
                self.train_epoch(lambda: 0)
                raise Done

            def at_step(self, batch):
                far.watching = self.progress.step > 0
                return make_step(self, batch)

            make_step = Training.step
            patch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
            patch.setattr(run, "make_fabric", make_fabric)
            patch.setattr(Training, "run", steps)
            patch.setattr(Training, "step", at_step)
            patch.setattr(step, "QUEUED", ("far",))
            patch.setattr(torch.cuda, "Event", Event)
            Event.recorded = Event.waited_for = 0
            project.write()
            with pytest.raises(Done):
                project.lannunet("train", project.yaml)
            assert Event.recorded == Event.waited_for == 3
            return far.waits

    return of


LANDMARKS = {
    "kl": {"solver": {"loss_function": "kl", "accumulate": 2}},
    "mse": {"solver": {"loss_function": "mse", "optimizer": "sgd"}},
    "awl": {"solver": {"loss_function": "awl"}},
    "bce_topk": {"solver": {"loss_function": "bce_topk"}},
    "width": {"solver": {"regress_sigma": "isotropic", "loss_function": "mse"}},
    "covariance": {"solver": {"regress_sigma": "covariance"}},
    "phdnet": {"model": {"architecture": "phdnet"}},
    "binary": {"model": {"architecture": "phdnet", "phdnet": {"class_label_scheme": "binary_weighted"}}},
}


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        *((name, 2) for name in LANDMARKS),
        pytest.param("covariance", 3, marks=pytest.mark.slow),
        ("phdnet", 3),
    ],
)
def test_of_landmarks(make_project, waits, name, dimensions):
    project = make_project(sizes=[(40,) * dimensions], input_size=[32] * dimensions)
    project.set(sampler={"data_aug": "UprightElastic"}, **LANDMARKS[name])
    if "architecture" in LANDMARKS[name].get("model", {}):
        del project.config["model"]["unet"]
    assert waits(project) == []


@pytest.mark.parametrize(
    ("plugins", "dimensions"), [([], 3), (["sparse"], 2), (["weighted"], 3), (["ce-dice-weighted"], 2)]
)
def test_of_segmentation(segmentation_project, waits, plugins, dimensions):
    size, ending = ((20, 24, 16), ".nii.gz") if dimensions == 3 else ((40, 32), ".png")
    project = segmentation_project(size=size, ending=ending)
    if "weighted" in plugins:
        (project.raw / "weightmapsTr").mkdir()
        for number in range(5):
            weights = np.random.default_rng(number).uniform(0, 2, (1, *size[::-1])).astype(np.float32)
            np.save(project.raw / "weightmapsTr" / f"Tr{number}_weightmap.npy", weights)
    project.set(sampler={"data_aug": "nnunet"}, trainer={"plugins": plugins})
    assert waits(project) == []


@pytest.mark.parametrize("dimensions", [2, 3])
def test_of_augmentation(dimensions):
    """This also holds for intensities only, and if an image is cut into patches."""
    size = (24, 20, 16)[:dimensions]
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(4, 2, *size[::-1])).astype(np.float32))
    centres = torch.from_numpy(rng.uniform(4, 12, (4, dimensions)))
    for scheme in (*map(make_scheme, SCHEME_NAMES), NnunetScheme(), NnunetUprightScheme()):
        drawn = [scheme.draw(rng, size) for _ in range(4)]
        with Far() as far:
            moved = images.to(device(), non_blocking=True)
            with far.while_watching() as waits:
                augmented = augment(moved, drawn, centres, size)
            assert waits == [], scheme
            assert torch.allclose(augmented.near, augment(images, drawn, centres, size), atol=1e-5)


@pytest.mark.parametrize(
    "read",
    [
        lambda far: float(far.sum()),
        lambda far: bool((far > 0).all()),
        lambda far: far[far > 0],
        lambda far: far.nonzero(),
        lambda far: far.cpu(),
        lambda far: torch.ones(3).to(far.device),
        lambda far: torch.tensor([1.0, 2.0], device=far.device),
        lambda far: far.new_tensor([1.0, 2.0]),
        lambda far: far[torch.tensor([0, 1])],
        lambda far: torch.linalg.eigh(far),
        lambda far: torch.linalg.inv(far),
        lambda far: far.copy_(torch.ones(2, 2)),
    ],
)
def test_what_is_waited_for_is_found(read):
    with Far() as far:
        tensor = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).to(device())
        with far.while_watching() as waits:
            read(tensor)
        assert len(waits) == 1, waits


def test_what_is_queued_is_not():
    with Far() as far, far.while_watching() as waits:
        tensor = torch.ones(2, 2).to(device(), non_blocking=True)
        tensor = torch.where(tensor > 0, tensor, 0).clamp(min=1) + torch.full((2, 2), 3.0, device=device())
        tensor[torch.tensor([0, 1]).to(device(), non_blocking=True)].to("cpu", non_blocking=True)
    assert waits == []
