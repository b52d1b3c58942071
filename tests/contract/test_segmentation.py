"""The needs of method authors in `task: segmentation`, each in a plugin with only the public API."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lannunet_core.plugins import discovery
from lannunet_core.run.checkpoint import load_checkpoint


@pytest.fixture
def project(segmentation):
    """The shortest run: one epoch of two batches."""
    segmentation.set(solver={"max_epochs": 1, "mini_batch_size": 2})
    return segmentation


@pytest.fixture
def install(distribution, project):
    """Installs `stranger.py`, whose class `Stranger` is the plugin `stranger`, and names it in the run."""

    def make(source, architecture=False, files=None):
        text = f"from lannunet_core import Plugin, hookimpl\n\n{source}"
        metadata = distribution(
            "stranger", {"stranger": "stranger:Stranger"}, {"stranger.py": text, **(files or {})}
        )
        if architecture:
            project.config["model"] = {"architecture": "stranger"}
        else:
            project.set(trainer={"plugins": ["stranger"]})
        return metadata

    return make


def stranger():
    return sys.modules["stranger"]


def redeclare(project, **keys) -> None:
    path = project.raw / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def mapped(project, **fields) -> None:
    """List the training cases as version 2 does, each with additional fields in rotation."""
    cases = {
        f"Tr{n}": {
            "images": [f"imagesTr/Tr{n}_0000.nii.gz"],
            "label": f"labelsTr/Tr{n}.nii.gz",
            **{name: values[n % len(values)] for name, values in fields.items()},
        }
        for n in range(5)
    }
    redeclare(project, dataset=cases)


def listed(project, **fields) -> None:
    """Make the folder one of version 1, whose lists have additional fields, those of the test cases too."""
    described = json.loads((project.raw / "dataset.json").read_text())
    described["modality"] = described.pop("channel_names")
    names = {"training": [f"Tr{n}" for n in range(5)], "test": [f"Ts{n}" for n in range(2)]}
    for part, cases in names.items():
        described[part] = [
            {"image": f"./images{name[:2]}/{name}.nii.gz", "label": f"./labels{name[:2]}/{name}.nii.gz"}
            | {field: values[n % len(values)] for field, values in fields.items()}
            for n, name in enumerate(cases)
        ]
    (project.raw / "dataset.json").write_text(json.dumps(described))


def rows(project) -> list[dict[str, str]]:
    with (project.out / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def labels_in(folder) -> list[np.ndarray]:
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*.nii.gz"))]


def predict(project, images=None) -> list[np.ndarray]:
    folder = project.folder / "predicted"
    assert project.lannunet("predict", project.out, images or project.raw / "imagesTs", "-o", folder) == 0
    return labels_in(folder)


# Additional information of a case -------------------------------------------------------------------------

WEIGHED = '''
class Stranger(Plugin):
    """Voxels count as much as their case's field `quality`."""

    @hookimpl(wrapper=True)
    def generate_segmentation_labels(self, sample):
        labels = yield
        quality = sample["extra"].get("quality")
        if quality is None:
            return labels
        quality = quality.reshape(-1, 1, 1, 1)
        return {**labels, "weight": [weight * quality for weight in labels["weight"]]}

    @hookimpl(wrapper=True)
    def loss(self):
        loss = yield
        plain = loss.forward

        def watched(outputs, labels):
            seen.append(labels["extra"])
            return plain(outputs, labels)

        loss.forward = watched
        return loss

    @hookimpl
    def metrics(self, predictions):
        return {"ages": sum(one.extra.get("age") or 0 for one in predictions)}


seen = []
'''


def test_a_field_of_dataset_json_weighs_the_loss(install, project):
    """Two of five cases have wrong labels and quality 0: they must have no effect."""
    install(WEIGHED)
    mapped(project, quality=[1.0, 0], age=[41, None], site=["a", "b"], pose=[[1, 2.5]])
    project.set(solver={"mini_batch_size": 5}, sampler={"data_aug": "None"}, inference={"split": "training"})
    assert project.train() == 0
    first = load_checkpoint(project.out).learner
    project.relabel(lambda label, number: label if number % 2 == 0 else label * 0 + 1)
    assert project.train("--overwrite") == 0
    for name, value in load_checkpoint(project.out).learner.items():
        assert torch.equal(value, first[name]), name
    seen = stranger().seen
    ages = torch.cat([one["age"] for one in seen])
    assert 41 in ages and ages.isnan().any()
    assert {site for one in seen for site in one["site"]} == {"a", "b"}
    assert seen[0]["pose"].tolist() == [[1, 2.5], [1, 2.5]]
    assert {(row["id"], row["age"], row["site"]) for row in rows(project)} >= {("Tr0", "41", "a")}
    assert json.loads((project.out / "summary.json").read_text())["metrics"] == {"ages": 3 * 41}
    mapped(project, quality=[0.5])  # the prepared cases are used again, with the current fields
    seen.clear()
    assert project.train("--overwrite") == 0
    assert {float(value) for one in seen for value in one["quality"]} == {0.5}
    assert "age" not in rows(project)[0]


# Additional inputs of the network -------------------------------------------------------------------------

AGED = '''
class Stranger(Plugin):
    """A network that is given where its pixels lie in the original image, and an age."""

    tasks = ("segmentation",)

    @hookimpl
    def network(self):
        from stranger_network import Network

        return Network(self.run.in_channels, len(self.run.outputs), self.run.dimensions)

    @hookimpl
    def network_inputs(self, batch):
        import torch

        image, affine = batch["image"], batch["affine"]
        axes = torch.meshgrid(*[torch.arange(side) for side in image.shape[2:]], indexing="ij")
        pixels = torch.stack([*reversed(axes), torch.ones_like(axes[0])], -1).double()  # (*S, D + 1)
        x = torch.einsum("bd,...d->b...", affine[:, 0], pixels)  # of the original image
        return {"x": x.float(), "age": batch["extra"].get("age", torch.full((len(image),), 5.0))}
'''

NETWORK = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, channels, classes, dimensions):
        super().__init__()
        conv = getattr(nn, f"Conv{dimensions}d")
        first, last = conv(channels + 2, 16, 5, padding=2), conv(16, classes, 3, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, image, x, age):
        ages = age.reshape(-1, *[1] * (image.ndim - 1)).expand_as(image[:, :1])
        return self.layers(torch.cat([image, x[:, None] / 20, ages / 20], 1))
"""


def test_the_network_gets_further_inputs_in_training_and_in_patches(install, project):
    install(AGED, architecture=True, files={"stranger_network.py": NETWORK + RECORDED})
    listed(project, age=[7.5, 12.5])
    for path in project.raw.glob("images*/*"):  # the value of each voxel is its x
        image = sitk.ReadImage(str(path))
        ramp = np.broadcast_to(np.arange(20, dtype=np.float32), image.GetSize()[::-1])
        made = sitk.GetImageFromArray(np.ascontiguousarray(ramp))
        made.CopyInformation(image)
        sitk.WriteImage(made, str(path))
    project.set(
        sampler={"data_aug": "AffineSimple", "patch": {"sample_patch_size": [8, 8, 8]}},
        preprocess={"normalisation": ["None"], "spacing": [0.8, 1.0, 1.0]},
        inference={"tta": True},
        solver={"data_loader_batch_size_eval": 3},
    )
    assert project.train() == 0
    seen = sys.modules["stranger_network"].seen
    assert [len(image) for image, _, _ in seen[:3]] == [2, 2, 3]  # two batches of training, then patches
    for image, x, _ in seen:
        assert image.shape[1:] == (8, 8, 8) and (image - x).abs().median() < 0.05 < x.std()
    assert {bool(x[0, 0, 0, 0] < x[0, 0, 0, 1]) for _, x, _ in seen[2:]} == {True, False}  # mirrored ones too
    assert {tuple(age.unique().tolist()) for _, _, age in seen[2:]} == {(7.5,), (12.5,)}
    trained = len(seen)
    predict(project)
    assert all((age == 5).all() for _, _, age in seen[trained:])  # standalone images have no age
    assert len(seen) > trained


RECORDED = """

seen = []
plain = Network.forward


def forward(self, image, x, age):
    seen.append((image[:, 0], x, age))
    return plain(self, image, x, age)


Network.forward = forward
"""


# After the model ------------------------------------------------------------------------------------------

POST = '''
class Stranger(Plugin):
    """Takes class 2 away from each case, and turns over the first case when all are done."""

    @hookimpl
    def postprocess(self, prediction):
        from dataclasses import replace

        seen.append(prediction)
        return replace(prediction, labels=prediction.labels % 2)

    @hookimpl
    def postprocess_all(self, predictions):
        from lannunet_segmentation import read_prediction, rewrite_prediction

        rewrite_prediction(predictions[0], 1 - read_prediction(predictions[0]))

    @hookimpl
    def validation_metrics(self, predictions):
        highest.append(max(one.labels.max() for one in predictions))
        return {"validations": len(highest)}

    @hookimpl
    def report(self, predictions):
        import numpy as np
        from matplotlib.figure import Figure

        from lannunet_core import ReportPart

        figure = Figure()
        figure.subplots().plot([len(one.id) for one in predictions])
        picture = np.full((8, 8, 3), 200, np.uint8)
        return [ReportPart("My <figure>", "As I see it.", figure), ReportPart("My picture", picture=picture)]


seen, highest = [], []
'''


def test_predictions_are_post_processed_judged_and_reported(install, project):
    install(POST)
    project.set(
        trainer={"fold": 0, "validate_every": 1, "monitor": "validations"},
        solver={"max_epochs": 5, "early_stopping_patience": 2},
        preprocess={"spacing": [2.0, 1.0, 1.0]},
    )
    assert project.train() == 0
    assert [row["validations"] for row in project.metrics()] == [1, 2, 3]  # the first is the best
    assert max(stranger().highest) <= 1
    validated, evaluated = stranger().seen[0], stranger().seen[-1]
    assert validated.labels.shape == validated.target.shape == (16, 24, 10)
    assert evaluated.labels.shape == evaluated.target.shape == (16, 24, 20)
    assert validated.spacing == (2.0, 1.0, 1.0) and evaluated.class_names == ("background", "bright", "dark")
    before = [one.labels % 2 for one in stranger().seen[-2:]]
    first, second = labels_in(project.out / "predictions")
    assert np.array_equal(first, 1 - before[0]) and np.array_equal(second, before[1])
    assert {row["predicted_voxels"] for row in rows(project) if row["class"] == "dark"} == {"0"}
    page = (project.out / "report.html").read_text()
    assert "My &lt;figure&gt;" in page and "As I see it." in page and "My picture" in page
    loose = predict(project)
    assert stranger().seen[-1].target is None
    assert np.array_equal(loose[0], first) and np.array_equal(loose[1], second)


@pytest.mark.parametrize("change", ["labels[..., :2]", "labels * 0 + 3", "labels * 0.5"])
def test_wrong_labels_of_a_plugin_are_named(install, project, capsys, change):
    install(POST.replace("prediction.labels % 2", f"prediction.{change}"))
    assert project.train() == 2
    assert "'postprocess'" in (said := capsys.readouterr().err) and "stranger" in said


# Images and data ------------------------------------------------------------------------------------------

WINDOW = """
from pydantic import Field

from lannunet_core import PluginConfig


class Settings(PluginConfig):
    low: float = Field(-0.5, description="The least.")


class Stranger(Plugin):
    Config = Settings
    config: Settings

    @hookimpl
    def normalisations(self):
        from functools import partial

        from stranger_window import Window

        return {"window": partial(Window, self.config.low)}

    @hookimpl
    def training_step(self, step):
        import stranger_window

        stranger_window.seen.append(step.batch["image"])
        return step.usual()
"""

WINDOWED = """
import numpy as np

seen = []


class Window:
    def __init__(self, low):
        self.low = low

    def __call__(self, channel):
        assert channel.dtype == np.float32 and channel.ndim == 3
        return np.clip((channel - 100) / 20, self.low, 0.5)
"""


def test_a_normalisation_of_its_own(install, project, capsys):
    metadata = install(WINDOW, files={"stranger_window.py": WINDOWED})
    project.set(preprocess={"normalisation": ["Window"]}, sampler={"data_aug": "None"})
    assert project.train() == 0
    seen = torch.stack(sys.modules["stranger_window"].seen)
    assert (float(seen.min()), float(seen.max())) == (-0.5, 0.5)
    prepared = project.folder / "preprocessed"
    assert len(list(prepared.iterdir())) == 1
    predict(project)
    project.set(trainer={"stranger": {"low": -0.25}})
    assert project.train("--overwrite") == 0
    assert len(list(prepared.iterdir())) == 2  # other settings of it, other images
    text = (metadata / "METADATA").read_text()
    (metadata / "METADATA").write_text(text.replace("Version: 1.0", "Version: 1.1"))
    discovery.scan.cache_clear()
    assert project.train("--overwrite") == 0
    assert len(list(prepared.iterdir())) == 3
    project.set(preprocess={"normalisation": ["windo"]})
    assert project.train("--overwrite") == 2
    assert "Did you mean 'window'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("train",), ("config", "check")])
def test_an_unknown_normalisation_is_refused(project, capsys, command):
    project.set(preprocess={"normalisation": ["zscor"]})
    project.write()
    assert project.lannunet(*command, project.yaml) == 2
    assert "Did you mean 'zscore'" in capsys.readouterr().err


FORMAT = """
class Stranger(Plugin):
    @classmethod
    def data_formats(cls, task):
        from stranger_format import open_list

        return {"my-list": open_list} if task == "segmentation" else {}

    @classmethod
    def image_readers(cls):
        from stranger_format import read_raw

        return {".vox": read_raw}
"""

LIST = """
import numpy as np

from lannunet_segmentation import Case, SegmentationDataset


def open_list(config):
    folder = config.root.parent
    cases = [
        Case(name, (folder / f"{name}_0000.vox",), folder / f"{name}.vox", {"age": 3})
        for name in config.root.read_text().split()
    ]
    names = ("background", "bright", "dark")
    train, test = tuple(cases[:-2]), tuple(cases[-2:])
    return SegmentationDataset(config.root, "list", "raw2", 3, ("MRI",), names, None, ".vox", train, test)


def read_raw(path):
    return np.fromfile(path, np.uint8).reshape(1, 16, 24, 20), (0.5, 0.5, 2.0)
"""


def as_vox(folder) -> None:
    for path in folder.iterdir():
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        array.astype(np.uint8).tofile(path.with_name(path.name.replace(".nii.gz", ".vox")))
        path.unlink()


def test_an_image_reader_and_a_data_format_of_its_own(install, project, capsys):
    install(FORMAT, files={"stranger_format.py": LIST})
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        as_vox(project.raw / part)
    redeclare(project, file_ending=".vox")
    project.set(trainer={"fold": 0})
    assert project.train() == 0  # an nnU-Net folder, whose files only the plugin reads
    written = sitk.ReadImage(str(project.out / "predictions" / "Ts0.nii.gz"))
    assert written.GetSpacing() == (0.5, 0.5, 2.0)
    assert all(float(row["dice"]) >= 0 for row in rows(project))
    first = predict(project)
    one = project.raw / "imagesTs" / "Ts0_0000.vox"
    shutil.rmtree(project.folder / "predicted")
    assert np.array_equal(predict(project, one)[0], first[0])
    assert project.lannunet("config", "check", project.yaml) == 0

    flat = project.folder / "flat"
    flat.mkdir()
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        shutil.copytree(project.raw / part, flat, dirs_exist_ok=True)
    (flat / "list.txt").write_text("Tr0 Tr1 Tr2 Tr3 Tr4 Ts0 Ts1")
    project.set(dataset={"root": "flat/list.txt", "format": "My List"})
    assert project.train("--overwrite") == 0
    assert {row["age"] for row in rows(project)} == {"3"}
    assert project.lannunet("config", "check", project.yaml) == 0
    (flat / "list.txt").write_text("Tr0 ../Tr1 Ts0 Ts1")
    capsys.readouterr()
    assert project.lannunet("config", "check", project.yaml) == 2
    assert "'../Tr1' cannot name a file" in capsys.readouterr().err


# Augmentation and order -----------------------------------------------------------------------------------

DRAWN = '''
class Stranger(Plugin):
    """Sampling and augmentation that know case and epoch; one case per epoch; a record of the samples."""

    tasks = ("segmentation",)

    @hookimpl
    def augmentations(self):
        from stranger_scheme import Turned

        return {"Turned": Turned}

    @hookimpl
    def sampling(self):
        from stranger_scheme import Corner

        return Corner(self.run.input_size)

    @hookimpl
    def training_order(self, samples):
        return lambda epoch, count: [epoch + 1] * count

    @hookimpl
    def debug_sample(self, batch, labels, folder):
        kept.append((batch, labels))
        return len(kept) == 3


kept = []
'''

SCHEME = """
import numpy as np

from lannunet_core import RandomAffine, RandomScheme


class Turned:
    def draw(self, rng, size, sample, epoch):
        return RandomScheme(RandomAffine(rotation=20 * epoch)).draw(rng, size)


class Corner:
    def __init__(self, size):
        self.output_size = size

    def centre(self, sample, epoch, image_size):
        side = sample.extra_fields.get("side", 0)
        return np.minimum(side + epoch, np.array(image_size) - 1.0)
"""


def test_order_sampling_and_augmentation_know_the_case_and_debug_sees_it(install, project):
    install(DRAWN, files={"stranger_scheme.py": SCHEME})
    mapped(project, side=list(range(8, 13)))
    patch = {"sample_patch_size": [8, 8, 8]}
    sampler = {"data_aug": "turned", "debug": True, "num_workers": 1, "patch": patch}
    project.set(solver={"max_epochs": 2}, sampler=sampler)
    assert project.train() == 0
    from lannunet_images import augment_one, warp

    kept = stranger().kept
    assert [batch["id"] for batch, _ in kept] == [["Tr1", "Tr1"], ["Tr1", "Tr1"], ["Tr2", "Tr2"]]
    corners = [batch["corner"][0].tolist() for batch, _ in kept]
    assert corners == [[5.5] * 3, [5.5] * 3, [7.5] * 3]
    for batch, labels in kept:
        before = batch["before"]
        for b, drawn in enumerate(before["transform"]):
            assert drawn.spatial.is_identity == (batch["id"][b] == "Tr1")  # of the first epoch
            centre = before["centre"][b].double().numpy()
            made = augment_one(before["image"][b].numpy(), drawn, centre, (8, 8, 8))
            assert np.allclose(made, batch["image"][b], atol=1e-4)
        warped = warp(
            before["label"][:, None], before["transform"], before["centre"], (8, 8, 8), "nearest", -1
        )
        assert torch.equal(warped[:, 0], batch["label"])
        assert labels["segmentation"][0].shape == (2, 8, 8, 8)


PACKAGE = """
class Stranger(Plugin):
    @hookimpl
    def augmenter(self):
        from stranger_package import apply

        return apply

    @hookimpl
    def training_step(self, step):
        means.append(float(step.batch["image"].mean()))
        return step.usual()


means = []
"""

APPLY = """
from lannunet_images import augment_one


def apply(image, drawn, centre, output_size):
    assert augment_one(image, drawn, centre, output_size).shape[1:] == output_size[::-1]
    return augment_one(image, drawn, centre, output_size) + 7
"""


def test_an_augmentation_package_is_found_by_name(install, project):
    install(PACKAGE, files={"stranger_package.py": APPLY})
    project.set(trainer={"plugins": []}, sampler={"data_aug_package": "Stranger", "data_aug": "AffineSimple"})
    assert project.train() == 0
    assert np.allclose(stranger().means, 7, atol=0.5)
