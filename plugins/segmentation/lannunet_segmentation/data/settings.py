"""How a run's images are prepared: what the configuration says, with what plugins bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

from lannunet_core import LoadedConfig, Normalisation, UserError, choose, is_among
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.schema import NORMALISATIONS, RunConfig
from lannunet_segmentation.types import SegmentationDataset, Settings


def settings_of(config: RunConfig, dataset: SegmentationDataset) -> Settings:
    """How images are prepared, with one entry a channel.

    Raises:
        UserError: The configuration says more or fewer than the data set has.
    """
    wanted, channels = config.preprocess, len(dataset.channel_names)
    if wanted.spacing is not None and len(wanted.spacing) != dataset.dimensions:
        raise UserError(
            f"preprocess.spacing: {wanted.spacing} has {len(wanted.spacing)} numbers, but the images in "
            f"{dataset.path} have {dataset.dimensions} dimensions; give one a dimension."
        )
    names = [own_name(name) for name in wanted.normalisation]
    normalisation = names * (channels if len(names) == 1 else 1)
    clip = wanted.clip or [None] * channels
    for key, entries in (("normalisation", normalisation), ("clip", clip)):
        if len(entries) != channels:
            raise UserError(
                f"preprocess.{key}: has {len(entries)} entries, but the images in {dataset.path} have "
                f"{channels} channel(s); give one a channel."
            )
    if missing := [k for k, kind in enumerate(normalisation) if kind == "ct" and clip[k] is None]:
        raise UserError(
            f"preprocess.clip: channel {missing[0]} is normalised as ct, which needs its four numbers here; "
            "`lannunet plan` measures them."
        )
    spacing = None if wanted.spacing is None else tuple(wanted.spacing)
    return Settings(spacing, tuple(normalisation), tuple(clip))


def own_name(name: str) -> str:
    """Our spelling of a normalisation of ours."""
    return next((known for known in NORMALISATIONS if is_among(name, [known])), name)


def with_plugins(
    settings: Settings, dataset: SegmentationDataset, hooks: SegmentationHooks, loaded: LoadedConfig
) -> Settings:
    """With those normalisations that the run's plugins bring.

    Raises:
        UserError: Nobody knows a name, or the images are prepared already.
    """
    known: dict[str, Callable[[], Normalisation | None]] = dict.fromkeys(NORMALISATIONS, lambda: None)
    known |= hooks.normalisations()
    brought = tuple(choose("preprocess.normalisation", name, known)() for name in settings.normalisation)
    if not any(brought):
        return settings
    if dataset.layout == "preprocessed":
        raise UserError(
            f"preprocess.normalisation: {', '.join(settings.normalisation)} does nothing to {dataset.path}, "
            "whose images are prepared already. Remove the key."
        )
    return replace(settings, brought=brought, brought_by=_identified(loaded))


def _identified(loaded: LoadedConfig) -> tuple[str, ...]:
    """What the normalisations of plugins depend on; one that is a file has no version but its content."""
    found = []
    for plugin in loaded.plugins:
        if hasattr(plugin.plugin_class, "normalisations"):
            file = next((path for path in loaded.files if str(path) == plugin.installed.value), None)
            content = "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
            found.append(json.dumps([str(plugin.installed), plugin.config.model_dump(mode="json"), content]))
    return tuple(found)
