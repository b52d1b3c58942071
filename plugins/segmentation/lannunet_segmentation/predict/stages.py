"""A run in one stage, or in two: the second sees the segmentation of the first, which has a coarser spacing.

This is nnU-Net's cascade (Isensee et al. 2021). The first stage segments the training and validation images
of the second. `data/cascade.py` compensates for its better segmentation of images that it was trained on.
"""

from __future__ import annotations

import numpy as np
from lannunet_images import with_model_of

from lannunet_core import (
    NEXT_STAGE_FOLDER,
    LoadedConfig,
    from_first,
    inside,
    lock_folder,
    make_fabric,
    note,
    progress_bar,
    releasing,
    share,
)
from lannunet_segmentation.cascade import divided, naming_second
from lannunet_segmentation.data.arrays import save_array
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.normalise import prepared_size
from lannunet_segmentation.opened import OpenedRun, open_run
from lannunet_segmentation.predict.members import FirstStage, open_member
from lannunet_segmentation.session import start_session
from lannunet_segmentation.types import SegmentedCase
from lannunet_segmentation.work import train, unique


def train_stages(
    loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False
) -> list[SegmentedCase]:
    """Train the run, and its second stage if it has one.

    The first stage's results are in the output folder, the second's in its folder `refine`.

    Args:
        loaded: The run's configuration.
        resume: Continue where the run in the output folder stopped, in either stage.
        overwrite: Replace the run in the output folder.

    Returns:
        The last stage's cases of the evaluated split.
    """
    if loaded.refine is None:
        return train(loaded, resume=resume, overwrite=overwrite)
    second = with_model_of(loaded.refine, loaded)
    first, folder = divided(loaded), loaded.run.output.output_dir
    with releasing():  # both stages write into one folder, which stays locked between them
        lock_folder(folder)
        with naming_second():
            opened = open_run(second)
            try_network(second, opened)
        train(first, resume=resume, overwrite=overwrite)
        if not second.run.trainer.inference_only:
            segment_for_next(first, opened)
        from_first(None)  # it has written the first stage's results
        done = train(second, resume=resume, overwrite=overwrite, beside=folder)
    print(
        f"the run's final results: {second.run.output.output_dir}; {folder} holds its first stage",
        flush=True,
    )
    return done


def try_network(second: LoadedConfig, opened: OpenedRun) -> None:
    """Refuse a second stage that cannot be trained before the first one is.

    Raises:
        UserError: Its network cannot be made, or takes no patches of their size.
    """
    fabric = make_fabric(second.run)
    run = opened.describe(fabric.device.type)
    session = start_session(second, run, fabric)
    fabric.to_device(session.learner)
    session.learner.try_size(run)


def segment_for_next(first: LoadedConfig, second: OpenedRun) -> None:
    """Write the first stage's segmentation of the second stage's training and validation images."""
    trained = first.run.output.output_dir
    stage = FirstStage([open_member(trained, plugins=first.files, device=make_fabric(first.run))])
    folder, dataset = trained / NEXT_STAGE_FOLDER, second.dataset
    cases = unique([second.cases["training"], second.cases["validation"]])
    paths = [inside(folder, f"{case.id}.npy", case.id) for case in cases]
    folder.mkdir(exist_ok=True)
    for path in paths:
        note(path)
    from_first(None)  # it has listed them in the folder's record
    own = share(list(zip(cases, paths, strict=True)))
    with progress_bar("segmenting for the second stage", len(own)) as bar:
        for case, path in own:
            stored = read_case(case, dataset, with_label=False)
            size = prepared_size(stored.geometry.size, stored.geometry.spacing, second.settings)
            found = stage(case, stored, dataset, size, folder)
            save_array(path, found.astype(np.float16))
            bar.advance()
