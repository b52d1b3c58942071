"""A training iteration against a bare PyTorch loop over the same network, with its batches held in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from lannunet_landmarks import write_demo_dataset
from lannunet_landmarks.session import start_session
from lannunet_landmarks.work import LandmarkWork

from benchmarks import Row, seconds
from lannunet_core import load_config, loaded_batches, make_fabric
from lannunet_core.run.run import prepare_training

REPEATS = 8


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return unet_iteration(Path(folder))


def unet_iteration(folder: Path) -> list[Row]:
    annotations = write_demo_dataset(folder / "data", sizes={"training": 8, "validation": 1, "testing": 1})
    path = folder / "run.yaml"
    content = {
        "dataset": {"src_targets": str(annotations)},
        "sampler": {"input_size": [256, 256]},
        "solver": {"data_loader_batch_size_train": 4, "max_epochs": 1, "mini_batch_size": 10 * REPEATS},
        "output": {"output_dir": str(folder / "run")},
    }
    path.write_text(yaml.safe_dump(content))

    loaded = load_config(path)
    work = LandmarkWork(loaded)
    fabric = make_fabric(loaded.run)
    run = work.describe(fabric.device.type)
    session = start_session(loaded, run, fabric)
    work.read(session)

    training, _, _ = prepare_training(session, work, resume=False)
    training.learner.train()
    stream = loaded_batches(training.loader)

    def batch() -> dict[str, Any]:
        return training.samples.on_device(next(stream), fabric.device)

    def ours() -> None:
        training.train_step(training.step(batch()))

    bare = start_session(loaded, run, fabric).learner.to(fabric.device).train()
    network, loss = bare.network, bare.loss
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    held = batch()
    with torch.no_grad():
        labels = bare.labels(held, network(held["image"]))

    def plain() -> None:
        with fabric.autocast():
            outputs = network(held["image"])
        total = torch.stack(list(loss([output.float() for output in outputs], labels).values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    plain()
    ours()
    threads = torch.get_num_threads()
    bare_time, our_time = seconds(plain, ours, repeats=REPEATS, threads=threads)
    return [
        Row(
            name="training iteration, U-Net, 4 × 256²",
            plain_way="bare loop, batch and labels in memory",
            plain=bare_time,
            ours=our_time,
            at_most=1.08,
            note=f"{threads} threads on {fabric.device.type}; ours loads, augments and makes labels",
        ),
        optimizer_step(network, training.optimizers[0]),
    ]


def optimizer_step(network: torch.nn.Module, ours: Any) -> Row:
    plain = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for optimizer in (plain, ours):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    plain_time, our_time = seconds(plain.step, ours.step, repeats=10 * REPEATS)
    return Row(
        name="step of the default optimizer, U-Net",
        plain_way="AdamW with PyTorch's defaults",
        plain=plain_time,
        ours=our_time,
        at_least=1.5,
        note=f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters",
    )
