"""Short uses of public names, for the reference of the Python API; tests/test_reference.py runs each."""

from pathlib import Path
from typing import Any

import lannunet
import numpy as np
import torch
from lannunet_images import GivenImages, zscore
from lannunet_landmarks import (
    AdaptiveWing,
    HardestCrossEntropy,
    decode_dark,
    decode_quadratic,
    decode_soft_argmax,
)
from lannunet_segmentation import SegmentedCase, read_prediction, rewrite_prediction

from lannunet_core import (
    ModelConfig,
    OutputConfig,
    Predictor,
    RandomIntensity,
    RandomScheme,
    Range,
    SolverConfig,
    SomeOf,
    TrainerConfig,
    TrainingSet,
    Work,
    asked_in,
    hookspec,
    telling_progress,
)
from lannunet_core.testing import (
    ArchitectureConformance,
    Bench,
    Result,
    SamplingConformance,
    bench_of,
    make_batch,
    maps_of,
    run,
)


def train_and_predict(yaml: Path, image: Path) -> lannunet.Landmarks:
    trained: lannunet.Trained = lannunet.train(yaml)
    model: lannunet.Model[lannunet.Landmarks] = lannunet.load(trained.folder, lannunet.Landmarks)
    return model.predict(image)


def a_scheme() -> RandomScheme:
    contrast: Range = (0.8, 1.2)
    operations = tuple(RandomIntensity(name, {"factor": contrast}) for name in ("contrast", "multiply"))
    return RandomScheme(intensity=(SomeOf(operations, fewest=0, most=1),))


def sections_of_a_yaml() -> dict[str, Any]:
    return {
        "solver": SolverConfig(optimizer="sgd", loss_function="mse").base_lr,
        "trainer": TrainerConfig(plugins=["observer"]).plugins,
        "model": ModelConfig(architecture="unet").architecture,
        "output": OutputConfig(output_dir=Path("runs/first")).output_dir,
    }


def count_samples(work: Work[Any], session: Any) -> int:
    training: TrainingSet = work.training_samples(session)
    return len(training.entries)


class OwnHooks:
    @hookspec(firstresult=True)
    @asked_in("my-task")
    def my_hook(self, batch: dict[str, Any]) -> float | None:
        """A hook of your own task."""


def predict_with_progress(predictor: Predictor, images: list[np.ndarray]) -> list[str]:
    steps: list[str] = []
    with telling_progress(lambda what, done, total: steps.append(f"{what}: {done} of {total}")):
        predictor.predict(images, spacing=None)
    return steps


def failed_checks(plugin: str) -> list[Result]:
    suite = type("Suite", (SamplingConformance,), {"plugin": plugin})()
    return [result for result in run(suite) if result.outcome == "failed"]


def maps_of_a_small_run(plugin: str, task: str) -> torch.Tensor:
    suite = type("Suite", (ArchitectureConformance,), {"plugin": plugin})()
    session = suite.session(2, task=task)
    batch = make_batch(session, count=2, seed=0)
    return maps_of(session, batch)


def is_a_goal_set(task: str) -> bool:
    bench: Bench = bench_of(task)
    return bench.goal is not None


def terms(outputs: list[torch.Tensor], labels: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {**AdaptiveWing(peak=1.0)(outputs, labels), **HardestCrossEntropy(peak=1.0)(outputs, labels)}


def points(heatmaps: torch.Tensor) -> list[torch.Tensor]:
    affine = torch.eye(3).expand(len(heatmaps), 3, 3)
    sizes = torch.tensor(heatmaps.shape[:1:-1]).expand(len(heatmaps), 2)
    decoders = (decode_quadratic, decode_dark, decode_soft_argmax)
    return [decode(heatmaps, affine, sizes, "use_input_size").points for decode in decoders]


def without_class_1(case: SegmentedCase) -> None:
    labels = read_prediction(case)
    rewrite_prediction(case, np.where(labels == 1, 0, labels))


def read_with_spacing(path: Path) -> tuple[float, ...] | None:
    files = GivenImages(spacing=(0.5, 0.5))  # mm per pixel, for images without a spacing
    return files.read(path, dimensions=2).spacing


def standardised(channel: torch.Tensor) -> torch.Tensor:
    return zscore(channel, channel > 0)  # over non-zero pixels
