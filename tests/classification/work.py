"""Data, training, results and prediction of the third-party task."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import lannunet_report as pages
import numpy as np
import torch
from classification.task import ClassificationDefaults
from lannunet_images import IMAGE_FILES, FullImage, augmented, prepare_image
from torch import nn

import lannunet_core as core
from lannunet_core import Hooks, Learner, RunInfo, Session, UserError


class CrossEntropy(nn.Module):
    def forward(self, outputs, labels):
        return {"cross_entropy": nn.functional.cross_entropy(outputs, labels["class"])}

    def activation(self, outputs):
        return outputs.softmax(1)


class ClassLearner(Learner):
    def labels(self, batch, outputs):
        return {"class": batch["class"]}


class Samples:
    fills: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, entries, classes, size, sampling=None, scheme=None, seed=0, files=IMAGE_FILES):
        self.entries, self.classes, self.size = entries, classes, size
        self.sampling, self.scheme, self.seed, self.files = sampling, scheme, seed, files

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, place):
        epoch, draw, index = place if isinstance(place, tuple) else (0, 0, place)
        path = self.entries[index]
        image, _ = prepare_image(self.files.read(path, len(self.size)).pixels, self.size, "stretch")
        item = {"image": torch.from_numpy(image), "id": path.stem, "index": torch.tensor(index)}
        if path.parent.name in self.classes:
            item["class"] = torch.tensor(self.classes.index(path.parent.name))
        if self.scheme is not None:
            rng = np.random.default_rng([self.seed, epoch, draw])
            given = {"rng": rng, "size": self.size, "image_size": self.size, "sample": path, "epoch": epoch}
            drawn = core.call_accepting(self.scheme.draw, **given)
            centre = core.call_accepting(self.sampling.centre, transform=drawn.spatial, **given)
            item |= {"drawn": drawn, "centre": torch.from_numpy(centre).float()}
        return item

    def on_device(self, batch, device):
        return augmented(core.to_device(batch, device), self.size)


def start_session(loaded, run, fabric):
    hooks = core.assemble(loaded.plugins, run, ClassificationDefaults(loaded.run, run), Hooks)
    torch.manual_seed(run.seed)
    return Session(loaded, run, fabric, hooks, ClassLearner(hooks))


class Work:
    def __init__(self, loaded):
        self.config = loaded.run
        root = self.config.dataset.root
        self.classes = tuple(sorted(path.name for path in (root / "training").iterdir()))
        self.files = {
            split: sorted(filter(IMAGE_FILES.knows, root.glob(f"{split}/*/*")))
            for split in ("training", "validation", "testing")
        }
        if not self.files["training"]:
            raise UserError(f"dataset.root: {root}/training holds no images. Put some there.")

    def describe(self, device):
        size = self.config.sampler.input_size
        header = core.image_header(self.files["training"][0], len(size))
        return RunInfo(
            task="classification",
            dimensions=len(size),
            in_channels=header.channels,
            outputs=self.classes,
            input_size=size,
            spacing=None,
            supervised_resolutions=1,
            device=device,
            seed=self.config.solver.seed,
        )

    def read(self, session):
        for path in (path for files in self.files.values() for path in files):
            core.read_image(path, session.run.dimensions)

    def training_samples(self, session):
        scheme = core.make_scheme(self.config.sampler.data_aug, session.hooks.augmentations())
        size, seed = session.run.input_size, session.run.seed
        return Samples(self.files["training"], self.classes, size, FullImage(size), scheme, seed)

    def validation(self, session):
        if not self.files["validation"]:
            return None
        return lambda: {
            "validation_error": 1 - accuracy(found := self.predictions(session, "validation")),
            **session.hooks.validation_metrics(predictions=found),
        }

    def predictions(self, session, split):
        return predicted(session, self.files[split])

    def evaluate(self, session, history, resolved, description):
        found = self.predictions(session, self.config.inference.split)
        folder, names = self.config.output.output_dir, list(self.classes)
        confusion = np.zeros((len(names), len(names)), int)
        for one in found:
            confusion[names.index(one["true"]), names.index(one["class"])] += 1
        summary = {"accuracy": accuracy(found), "confusion": confusion.tolist()}
        write_table(folder / "predictions.csv", found)
        core.write_text(folder / "summary.json", json.dumps(summary))

        def draw(axis):
            axis.imshow(confusion, cmap="Blues")
            for (row, column), count in np.ndenumerate(confusion):
                axis.text(column, row, count, ha="center")
            axis.set(xlabel=f"predicted ({', '.join(names)})", ylabel="true", xticks=[], yticks=[])

        charts = [pages.make_chart("Confusion matrix", f"Accuracy {summary['accuracy']:.1%}.", draw)]
        charts += pages.training_charts(history, [("loss", "Training loss", "log")])
        charts += pages.plugin_charts(session.hooks.report(predictions=found))
        pages.write_page(folder / "report.html", None, resolved, description, title="Classes", charts=charts)
        return summary


@torch.inference_mode()
def predicted(session, files, reader=IMAGE_FILES):
    session.learner.eval()
    samples = Samples(files, session.run.outputs, session.run.input_size, files=reader)
    found = []
    for batch in core.loaded_batches(core.make_loader(samples, 0, session.fabric.device, batch_size=1)):
        scores = session.learner.maps(core.to_device(batch, session.fabric.device))[0]
        path = files[int(batch["index"])]
        one = {"id": path.name, "true": path.parent.name, "class": session.run.outputs[int(scores.argmax())]}
        found.append(session.hooks.postprocess(prediction={**one, "confidence": float(scores.max())}))
    return found


def accuracy(found):
    return float(np.mean([one["true"] == one["class"] for one in found]))


def write_table(path: Path, found):
    with core.atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def predict(request):
    core.refuse_folder(request.folder, "--output", None if request.overwrite else "replace it (--overwrite)")
    session = core.open_model(request.model, start_session, plugins=request.plugins)
    files = [
        file for path in request.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    found = predicted(session, files)
    core.claim_folder(request.folder)
    about = core.provenance(session.loaded, session.run, session.fabric.device)
    core.write_run(request.folder, session.loaded.resolved(), about)
    write_table(request.folder / "predictions.csv", found)
    return found
