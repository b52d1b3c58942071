"""The check of `lannunet config check`: the folder's own files, without reading an image."""

from __future__ import annotations

from lannunet_images import settle_ensemble

from lannunet_core import LoadedConfig, UserError, check_names, located
from lannunet_segmentation.cascade import divided, naming_second
from lannunet_segmentation.opened import open_run


def check(loaded: LoadedConfig) -> None:
    """Raise the errors that `lannunet train` would raise before its first image.

    Raises:
        UserError: The configuration or the data set is wrong.
    """
    loaded = settle_ensemble(loaded)
    checkpoint = loaded.run.model.checkpoint
    if checkpoint and not located(checkpoint).exists():
        raise UserError(
            f"{loaded.given.get('model.checkpoint', loaded.path)}: model.checkpoint: {checkpoint} does not "
            "exist; give a model file or a run's folder."
        )
    divided(loaded)  # refuses what leaves no time
    check_stage(loaded)
    if loaded.refine is not None:
        with naming_second():
            check_stage(loaded.refine)


def check_stage(loaded: LoadedConfig) -> None:
    run = open_run(loaded).describe("cpu")
    check_names(loaded, lambda: run)
