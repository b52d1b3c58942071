"""One plugin that implements every hook: the examples of docs/hooks.md, run by tests/test_docs.py."""

from lannunet_core import Plugin, hookimpl


class Examples(Plugin):
    @hookimpl
    def network(self):
        from torch import nn

        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 9, padding=4)

    @hookimpl
    def network_inputs(self, batch):
        ages = batch["extra"].get("age")  # (B,), NaN where a sample has none
        return {} if ages is None else {"age": ages.nan_to_num(50)}

    @hookimpl
    def initial_weights(self, network):
        from torch import nn

        nn.init.zeros_(network.bias)

    @hookimpl
    def optimizer_and_scheduler(self, module, base_lr, total_steps):
        from torch.optim import RAdam
        from torch.optim.lr_scheduler import OneCycleLR

        optimizer = RAdam(module.parameters(), lr=base_lr)
        return optimizer, OneCycleLR(optimizer, base_lr, total_steps)

    @hookimpl
    def training_step(self, step):
        terms = step.losses()
        step.backward(sum(terms.values()) + 1e-4 * step.module.network.weight.square().sum())
        step.update()
        return terms

    @hookimpl
    def loss(self):
        from lannunet_landmarks import HeatmapMSE

        class AbsoluteError(HeatmapMSE):
            @staticmethod
            def term(maps, target):  # (B, N, *S) each, to (B, N)
                return (maps - target).abs().flatten(2).mean(-1)

        return AbsoluteError(peak=100)

    @hookimpl
    def losses(self):
        from lannunet_landmarks import HeatmapMSE

        return {"mse-of-peak-1": lambda: HeatmapMSE(peak=1)}

    @hookimpl
    def sampling(self):
        from lannunet_landmarks import PatchBias

        return PatchBias(output_size=self.run.input_size, bias=1.0)

    @hookimpl
    def training_order(self, samples):
        easy = max(1, len(samples) // 2)

        def order(epoch, count, rng):  # the first half of the list, later all of it
            return rng.integers(easy if epoch == 0 else len(samples), size=count)

        return order

    @hookimpl
    def normalisations(self):
        from functools import partial

        import numpy as np

        return {"window": lambda: partial(np.clip, a_min=0, a_max=200)}

    @hookimpl
    def augmentations(self):
        from lannunet_core import RandomAffine, RandomScheme

        return {"UpsideDown": lambda: RandomScheme(RandomAffine(rotation=10), flip=0.5)}

    @hookimpl
    def augmenter(self):
        from lannunet_images import augment_one  # as data_aug_package: torch does

        return augment_one

    @hookimpl
    def metrics(self, predictions):
        import numpy as np

        missed = [np.isnan(prediction.coordinates).any(axis=-1) for prediction in predictions]
        return {"share without a point": float(np.mean(missed))}

    @hookimpl
    def validation_metrics(self, predictions):
        import numpy as np

        return {"confidence": float(np.mean([one.confidence.mean() for one in predictions]))}

    @hookimpl
    def postprocess(self, prediction):
        from dataclasses import replace

        return replace(prediction, coordinates=prediction.coordinates.clip(min=0))

    @hookimpl
    def postprocess_all(self, predictions):
        from dataclasses import replace

        most = max(one.confidence.max() for one in predictions) or 1.0
        return [replace(one, confidence=one.confidence / most) for one in predictions]

    @hookimpl
    def report(self, predictions):
        from matplotlib.figure import Figure

        from lannunet_core import ReportPart

        figure = Figure()
        figure.subplots().hist([float(one.confidence.mean()) for one in predictions])
        return [ReportPart("Mean confidence", "Of each image.", figure)]

    @hookimpl
    def observe(self, event):
        if event.name == "epoch":
            with (event.output_dir / "losses.txt").open("a") as file:
                print(event.values["epoch"], event.values["loss"], file=file)

    @hookimpl
    def debug_sample(self, batch, labels, folder):
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "batch.npz", image=batch["image"].cpu(), label=labels["heatmaps"][0].cpu())
        return True

    @hookimpl
    def generate_labels(self, landmarks, states, image_size, sigmas, level_sizes, lambda_scale):
        from lannunet_landmarks import gaussian_heatmaps

        wider = 1.5 * sigmas
        maps = gaussian_heatmaps(landmarks, states, wider, image_size, level_sizes, lambda_scale)
        return {"state": states, "heatmaps": maps}

    @hookimpl
    def get_coords_from_heatmap(self, heatmaps):
        import torch

        from lannunet_core import Coordinates

        maps = (heatmaps if torch.is_tensor(heatmaps) else heatmaps[0]).double()
        peak = maps.flatten(2).amax(-1)
        mass = maps * (maps > peak.view(*peak.shape, *[1] * (maps.ndim - 2)) / 20)
        axes = torch.meshgrid(*[torch.arange(side) for side in maps.shape[2:]], indexing="ij")
        means = [(mass * axis).flatten(2).sum(-1) for axis in reversed(axes)]  # x, y[, z]
        points = torch.stack(means, -1) / mass.flatten(2).sum(-1)[..., None]  # NaN for a flat map
        return Coordinates(points, peak.clamp(0, 1))

    @hookimpl
    def decoders(self):
        from dataclasses import replace

        from lannunet_landmarks import decode_peak

        def unsure(**given):
            found = decode_peak(**given)
            return replace(found, confidence=found.confidence / 2)

        return {"unsure": lambda: unsure}

    @hookimpl
    def stitch_heatmap(self, patches, windows):
        from dataclasses import replace

        from lannunet_landmarks import stitch

        whole = replace(windows, margin=(0,) * len(windows.margin))  # trusts its borders
        return stitch(patches, whole)

    @hookimpl
    def debug_prediction(self, predictions, folder):
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{prediction.id}: {prediction.confidence}" for prediction in predictions]
        (folder / "confidence.txt").write_text("\n".join(lines))
        return True

    @hookimpl
    def generate_segmentation_labels(self, sample, level_sizes):
        from lannunet_segmentation import segmentation_labels

        one_organ = sample["label"].clamp(max=1)  # all classes as one, −1 stays
        return segmentation_labels(one_organ, level_sizes, sample.get("weight"))

    @hookimpl
    def get_segmentation(self, maps):
        sure = maps[1:].amax(0) > 0.999  # background unless a class is certain
        return maps.argmax(0) * sure

    @hookimpl
    def extra_maps(self, dataset):
        from lannunet_core import ExtraMap

        files = {case.id: dataset.path / "trust" / f"{case.id}.npy" for case in dataset.training}
        return [ExtraMap("trust", "weight", "linear", 0.0, files)]
