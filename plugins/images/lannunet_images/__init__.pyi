"""The public API, by subject. See `__init__.py`."""

# Image files of a run
from .files import (
    IMAGE_FILES as IMAGE_FILES,
    ImageFiles as ImageFiles,
)

from .series import (
    Series as Series,
    image_name as image_name,
    is_series as is_series,
    read_series as read_series,
    slices_in as slices_in,
)

# Formats
from .claims import (
    RATIO as RATIO,
    check_claim as check_claim,
)

# Images that a program provides
from .given import (
    GivenImages as GivenImages,
    given_images as given_images,
)

# From pixels as they are stored to the network's input
from .geometry import (
    ResizeMode as ResizeMode,
    affine_matrix as affine_matrix,
    is_inside as is_inside,
    resize_affine as resize_affine,
    transform_points as transform_points,
)
from .prepare import (
    normalised as normalised,
    prepare_image as prepare_image,
    resample_axis as resample_axis,
    resample_matrix as resample_matrix,
)
from .normalise import (
    ZSCORES as ZSCORES,
    Window as Window,
)

# The same in an exported graph
from .in_graph import (
    Graph as Graph,
    PreparingInGraph as PreparingInGraph,
    normalising_in_graph as normalising_in_graph,
    zscore as zscore,
)

from .strides import (
    COARSER as COARSER,
    choose_strides as choose_strides,
    kernels_by_spacing as kernels_by_spacing,
    level_scale as level_scale,
)
from .memory import available_memory as available_memory

# Several models that a configuration names
from .ensemble import (
    EnsembleConfig as EnsembleConfig,
    members_of as members_of,
    settle_ensemble as settle_ensemble,
)

# Where samples are cut
from .placing import (
    FullImage as FullImage,
    on_pixels as on_pixels,
    showing as showing,
    shown_box as shown_box,
)

# Augmentation on the run's device
from .on_device import (
    augment_one as augment_one,
    augmented as augmented,
    warp as warp,
)
from .intensity import apply_intensity as apply_intensity
from .queued import queued_copy as queued_copy
from .faster import prepare_to_train as prepare_to_train

# Runs in two stages
from .stages import (
    SAME_IMAGES as SAME_IMAGES,
    keys_of_refine as keys_of_refine,
    second_model as second_model,
    second_stage as second_stage,
    with_model_of as with_model_of,
)

# Patches of an image, and additional fields of samples
from .windows import Windows as Windows
from .room import Room as Room
from .extra import ExtraFields as ExtraFields
