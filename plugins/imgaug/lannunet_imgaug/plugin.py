"""The plugin: it implements `augmenter`, selected with `sampler.data_aug_package: imgaug`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lannunet_core import Plugin, hookimpl

if TYPE_CHECKING:
    from lannunet_core import Augmenter


class ImgaugPlugin(Plugin):
    """The core's augmentation schemes, applied by imgaug in the loader's workers; 2D."""

    @hookimpl
    def augmenter(self) -> Augmenter:
        from lannunet_imgaug.augment import augment, check_dimensions, load

        check_dimensions(self.run.dimensions)
        load()  # report a missing library now, not in a worker
        return augment
