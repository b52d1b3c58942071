"""Input sizes that a third-party network cannot process, and optimizer settings that torch refuses."""

import pytest

from lannunet_core import cli

STRANGER = '''
import torch
from torch import nn
from torch.nn import functional

from lannunet_core import Plugin, PluginConfig, hookimpl


class Net(nn.Module):
    """Halves and doubles by a factor of 4: skip connections fit multiples of 4 alone."""

    def __init__(self, run, width, bug):
        super().__init__()
        conv = getattr(nn, f"Conv{run.dimensions}d")
        self.pool, self.bug = getattr(functional, f"avg_pool{run.dimensions}d"), bug
        self.fine = conv(run.in_channels, 4, 3, padding=1)
        self.coarse = conv(4, 4, width)
        self.head = conv(8, len(run.outputs), 1)

    def forward(self, image):
        fine = self.fine(image)
        coarse = self.pool(fine, 4)
        if self.bug:
            raise RuntimeError("a bug")
        sizes = coarse.shape[2:]
        coarse = functional.interpolate(self.coarse(coarse), sizes)
        return self.head(torch.cat([fine, functional.interpolate(coarse, scale_factor=4.0)], 1))


class Odd(Plugin):
    tasks = ("landmarks", "segmentation")

    class Config(PluginConfig):
        width: int = 1
        bug: bool = False

    @hookimpl
    def network(self):
        return Net(self.run, self.config.width, self.config.bug)
'''


@pytest.fixture
def refused(distribution, capsys):
    distribution("strange-nets", {"odd": "odd:Odd"}, {"odd.py": STRANGER})

    def refused(project, *arguments, **settings):
        """The message of a run that writes nothing."""
        project.config["model"] = {"architecture": "odd", "odd": settings}
        assert project.train(*arguments) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "the network of 'odd' (strange-nets 1.0) cannot take an input of " in error
        assert not project.out.exists()
        return error

    return refused


def test_an_odd_size(project, segmentation_project, refused):
    project.set(sampler={"input_size": [34, 37]})
    error = refused(project)
    assert error.startswith("Error: sampler.input_size: the network of")
    assert "of 34×37 (Sizes of tensors must match" in error
    assert "Set it to [32, 36]" in error
    in_3d = segmentation_project(patch=[17, 16, 9])
    error = refused(in_3d)
    assert error.startswith("Error: sampler.patch.sample_patch_size: ")
    assert "17×16×9" in error
    assert "Set it to [16, 16, 8]" in error
    in_2d = segmentation_project("flat", size=(40, 30), ending=".png", patch=[18, 15])
    assert "Set it to [16, 16]" in refused(in_2d)


def test_a_kernel_larger_than_the_input(project, refused):
    """The size is refused before the first image is read."""
    error = refused(project, "--set", "sampler.input_size=[8, 8]", width=3)
    assert "sampler.input_size: " in error
    assert "Kernel size can't be greater than actual input size" in error
    assert "Set it to [16, 16]" in error
    project.set(sampler={"sample_mode": "patch_bias", "patch": {"sample_patch_size": [9, 20]}})
    for sample in project.annotations["training"]:
        image = project.folder / sample["image"]
        image.write_bytes(image.read_bytes()[:300])  # it would be reported first
    error = refused(project, width=3)
    assert "Set it to [16, 16]" in error
    assert "sampler.patch.sample_patch_size: " in error


def test_an_image_of_another_size_than_the_patches(make_project, distribution, capsys):
    """Training patches fit the network, but whole images in prediction do not."""
    distribution("strange-nets", {"odd": "odd:Odd"}, {"odd.py": STRANGER})
    project = make_project(sizes=((70, 66),))
    project.config["model"] = {"architecture": "odd"}
    patch = {"sample_patch_size": [32, 32], "resolution_to_sample_from": "full"}
    project.set(sampler={"sample_mode": "patch_bias", "patch": patch}, solver={"max_epochs": 1})
    assert project.train() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: sampler.patch.inference_mode: the network of 'odd'")
    assert "70×66" in error
    assert "Set it to patchify_and_stitch" in error
    patch["inference_mode"] = "patchify_and_stitch"
    assert project.train("--overwrite") == 0


def test_a_bug_stays_one(project, distribution):
    """A bug in the network is not reported as a wrong size."""
    distribution("strange-nets", {"odd": "odd:Odd"}, {"odd.py": STRANGER})
    project.config["model"] = {"architecture": "odd", "odd": {"bug": True}}
    project.write()
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        cli.main(["train", str(project.yaml)])


OPTIMIZERS = """
import torch

from lannunet_core import Plugin, PluginConfig, hookimpl


class Settled(Plugin):
    class Config(PluginConfig):
        beta: float = 0.9
        word: str = "eps"
        cycle: int = 100

    @hookimpl
    def optimizer_and_scheduler(self, module, base_lr):
        config = self.config
        optimizer = torch.optim.Adam(
            module.parameters(), lr=base_lr, betas=(config.beta, 0.99), **{config.word: 1e-8}
        )
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, base_lr, total_steps=config.cycle)


class Fixed(Plugin):
    @hookimpl
    def optimizer_and_scheduler(self, module):
        return torch.optim.SGD(module.parameters(), lr=-1.0), None


class Buggy(Plugin):
    @hookimpl
    def optimizer_and_scheduler(self, module):
        return torch.optim.NoSuchThing(module.parameters()), None
"""


@pytest.fixture
def optimizers(distribution, project, capsys):
    names = ("settled", "fixed", "buggy")
    distribution("rates", {name: f"rates:{name.title()}" for name in names}, {"rates.py": OPTIMIZERS})

    def failed(name, code=2, of=project, **settings):
        of.config["trainer"] = {"plugins": [name], **({name: settings} if settings else {})}
        assert of.train() == code
        return capsys.readouterr().err.splitlines()[-1]

    return failed


def test_settings_that_an_optimizer_refuses(optimizers, segmentation_project):
    keys = "change solver.base_lr or trainer.settled"
    said = optimizers("settled", beta=1.5)
    assert said.startswith("Error: plugin 'settled' (rates 1.0): its optimizer or scheduler cannot be made (")
    assert "ValueError: Invalid beta parameter at index 0: 1.5" in said
    assert keys in said
    said = optimizers("settled", of=segmentation_project(size=(24, 20), ending=".png"), word="epsilon")
    assert "unexpected keyword argument 'epsilon'" in said
    assert keys in said
    said = optimizers("fixed")  # it depends on no key
    assert "Invalid learning rate: -1.0); update rates or report it to its author." in said
    said = optimizers("buggy", code=1)
    assert "Plugin 'buggy' (rates 1.0) failed in its hook 'optimizer_and_scheduler': AttributeError" in said
    said = optimizers("settled", cycle=3)
    assert "cannot take a step (ValueError: Tried to step 4 times" in said
    assert keys in said
