"""Preparation of a run's images: from the configuration, and from normalisations of plugins."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from lannunet_core import LoadedConfig, Normalisation, UserError, choose, echo, is_among
from lannunet_segmentation.data import nnunet_v1, preprocessed
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.schema import NORMALISATIONS, RunConfig
from lannunet_segmentation.types import Preparation, SegmentationDataset, Settings


def settings_of(config: RunConfig, dataset: SegmentationDataset) -> Settings:
    """The preparation of images, with one entry per channel; for prepared images, nnU-Net's preparation.

    Raises:
        UserError: The configuration has more or fewer entries than the data set, or any for prepared images.
    """
    wanted, channels = config.preprocess, len(dataset.channel_names)
    if dataset.layout == "preprocessed":
        _refuse_idle(config, dataset)
        return as_prepared(dataset)
    if wanted.spacing is not None and len(wanted.spacing) != dataset.dimensions:
        raise UserError(
            f"preprocess.spacing: {wanted.spacing} has {len(wanted.spacing)} numbers, but the images in "
            f"{dataset.path} have {dataset.dimensions} dimensions; give one per dimension."
        )
    names = [own_name(name) for name in wanted.normalisation]
    normalisation = names * (channels if len(names) == 1 else 1)
    clip = wanted.clip or [None] * channels
    for key, entries in (("normalisation", normalisation), ("clip", clip)):
        if len(entries) != channels:
            raise UserError(
                f"preprocess.{key}: has {len(entries)} entries, but the images in {dataset.path} have "
                f"{channels} channel(s); give one per channel."
            )
    if missing := [k for k, kind in enumerate(normalisation) if kind == "ct" and clip[k] is None]:
        raise UserError(
            f"preprocess.clip: channel {missing[0]} is normalised as ct, which needs its four numbers here; "
            "`lannunet plan` measures them."
        )
    spacing = None if wanted.spacing is None else tuple(wanted.spacing)
    return Settings(spacing, tuple(normalisation), tuple(clip), interpolation=wanted.interpolation)


def _refuse_idle(config: RunConfig, dataset: SegmentationDataset) -> None:
    """Raise a UserError for keys without effect on prepared images; defaults and planned values are
    ignored."""
    wanted = config.preprocess
    foreign = [name for name in wanted.normalisation if own_name(name) not in ("zscore", "none")]
    for key, value in (("spacing", wanted.spacing), ("normalisation", foreign), ("clip", any(wanted.clip))):
        if value:
            raise UserError(
                f"preprocess.{key}: has no effect on {dataset.path}, whose images are prepared already. "
                "Remove the key."
            )


def as_prepared(dataset: SegmentationDataset) -> Settings:
    """nnU-Net's preparation of a folder's images, as far as known."""
    made = preprocessed.preparation(dataset)
    channels = len(dataset.channel_names)
    if isinstance(made, str):
        return Settings(None, ("none",) * channels, (None,) * channels, unknown=made)
    steps = [step for step in made.spacing[::-1][: dataset.dimensions] if step is not None]
    return Settings(
        tuple(steps) if len(steps) == dataset.dimensions else None,
        tuple(channel.scheme for channel in made.channels),
        tuple(channel.clip for channel in made.channels),
        nnunet=made,
    )


def say_prepared(settings: Preparation) -> None:
    """Print how a model that is trained on prepared images will prepare raw ones, or that it cannot."""
    if settings.nnunet is not None:
        echo(
            f"raw images that are predicted later are prepared as in {settings.nnunet.plan}: cropped, "
            "transposed, resampled and normalised like these",
        )
    if settings.unknown:
        echo(f"warning: the model will not predict raw images: {settings.unknown}.", err=True)


def as_trained(
    own: Settings,
    found: Any,
    dataset: SegmentationDataset,
    hooks: SegmentationHooks,
    loaded: LoadedConfig,
    model: Path,
) -> Settings:
    """The preparation of images for a trained model: the same as in its training.

    Args:
        own: Preparation from the configuration and the data set.
        found: Preparation in the model file; None: it has none, as it is older.
        dataset: Data set to be predicted.
        hooks: Hooks of plugins that may provide normalisations.
        loaded: The configuration.
        model: Path of the model, for messages.

    Raises:
        UserError: The preparation is unknown, or prepared images have another one.
    """
    if found is None:
        root = cast(RunConfig, loaded.run).dataset.root
        if dataset.layout != "preprocessed" and (nnunet_v1.is_stage(root) or nnunet_v1.stages(root)):
            raise UserError(
                f"{model}: was trained on {root}, which nnU-Net preprocessed, and does not state how. Train "
                "it again."
            )
        return replace(own, interpolation="linear")
    trained = _read(found, dataset, model)
    if dataset.layout == "preprocessed":
        if trained.nnunet is None and not trained.unknown:
            raise UserError(
                f"{model}: was trained on raw images, and those of {dataset.path} are prepared already. "
                "Evaluate it on the raw folder."
            )
        if own.nnunet and trained.nnunet and replace(own.nnunet, plan="") != replace(trained.nnunet, plan=""):
            raise UserError(
                f"{model}: was trained on images that were prepared as in another {trained.nnunet.plan} "
                f"than those of {dataset.path}. Evaluate it on the raw images."
            )
        return own
    if trained.unknown:
        raise UserError(
            f"{model}: how raw images have to be prepared for it is unknown: {trained.unknown}. Add the plan "
            "and train it again."
        )
    given = Preparation(own.spacing, own.normalisation, own.clip, interpolation=own.interpolation)
    if trained.nnunet is None and given != trained:
        echo(
            f"warning: preprocess: {model} was trained with spacing {trained.spacing}, normalisation "
            f"{', '.join(trained.normalisation)}, clip {trained.clip} and interpolation "
            f"{trained.interpolation}; its images are prepared in the same way.",
            err=True,
        )
    known = {field.name: getattr(trained, field.name) for field in fields(Preparation)}
    settings = Settings(**known)
    if trained.nnunet is not None:
        return settings
    return with_plugins(settings, dataset, hooks, loaded)


def recorded(settings: Preparation) -> dict[str, Any]:
    """The preparation as plain data, for a model file."""
    kept = {field.name: getattr(settings, field.name) for field in fields(Preparation)}
    return _PREPARATION.dump_python(Preparation(**kept), mode="json")  # type: ignore[no-any-return]


def _read(found: Any, dataset: SegmentationDataset, model: Path) -> Preparation:
    """Read the preparation from a model file.

    Raises:
        UserError: It has another form, or is for other images.
    """
    try:
        read = _PREPARATION.validate_python(found)
        if _is_of(read, dataset):
            return read
    except ValidationError:
        pass
    raise UserError(
        f"{model}: was trained on images of other channels or dimensions than those of {dataset.path}, or "
        "does not say how to prepare them. Use a model that lannunet train wrote for such images."
    )


def _is_of(found: Preparation, dataset: SegmentationDataset) -> bool:
    """Whether a preparation from a file fits such images."""
    channels, dimensions, made = len(dataset.channel_names), dataset.dimensions, found.nnunet
    steps = [*(found.spacing or ()), *(step for step in (made.spacing if made else ()) if step is not None)]
    return (
        len(found.normalisation) == len(found.clip) == (len(made.channels) if made else channels) == channels
        and len(found.spacing or (0,) * dimensions) == dimensions
        and all(0 < step < math.inf for step in steps)
        and (made is None or sorted(made.transposed) == [0, 1, 2])
        and all(clip for kind, clip in zip(found.normalisation, found.clip, strict=True) if kind == "ct")
    )


_PREPARATION = TypeAdapter(Preparation)


def own_name(name: str) -> str:
    """The canonical spelling of one of our normalisations."""
    return next((known for known in NORMALISATIONS if is_among(name, [known])), name)


def with_plugins(
    settings: Settings, dataset: SegmentationDataset, hooks: SegmentationHooks, loaded: LoadedConfig
) -> Settings:
    """The preparation, with the normalisations that the run's plugins provide.

    Raises:
        UserError: A name is unknown.
    """
    if dataset.layout == "preprocessed":
        return settings
    known: dict[str, Callable[[], Normalisation | None]] = dict.fromkeys(NORMALISATIONS, lambda: None)
    known |= hooks.normalisations()
    brought = tuple(choose("preprocess.normalisation", name, known)() for name in settings.normalisation)
    if not any(brought):
        return settings
    return replace(settings, brought=brought, brought_by=_identified(loaded))


def _identified(loaded: LoadedConfig) -> tuple[str, ...]:
    """The identity of plugins' normalisations; a plugin file has no version, so its content is used."""
    found = []
    for plugin in loaded.plugins:
        if hasattr(plugin.plugin_class, "normalisations"):
            file = next((path for path in loaded.files if str(path) == plugin.installed.value), None)
            content = "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
            found.append(json.dumps([str(plugin.installed), plugin.config.model_dump(mode="json"), content]))
    return tuple(found)
