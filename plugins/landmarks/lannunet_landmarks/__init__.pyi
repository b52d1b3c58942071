"""The public API, by subject. See `__init__.py`."""

# What passes between the parts of a run
from .types import (
    Calibrated as Calibrated,
    Prediction as Prediction,
    Sample as Sample,
    Split as Split,
    State as State,
)
from .data.annotations import (
    LandmarkDataset as LandmarkDataset,
    load_dataset as load_dataset,
)

# Annotations of other programs
from .data.formats import (
    Annotated as Annotated,
    Annotations as Annotations,
    ImageFinder as ImageFinder,
    LandmarkFormat as LandmarkFormat,
    Mark as Mark,
    mark_of as mark_of,
    relative_to as relative_to,
    without_suffix as without_suffix,
)
from .data.exchange import read_content as read_content
from .data.json_file import read_json as read_json
from .data.world import World as World

# Where training samples are cut
from .data.sampling import (
    FullImage as FullImage,
    PatchBias as PatchBias,
    PatchCentred as PatchCentred,
)

# Labels
from .maps.labels import (
    gaussian_heatmaps as gaussian_heatmaps,
    generate_labels as generate_labels,
    level_points as level_points,
    level_sigmas as level_sigmas,
)
from .maps.learned_sigma import (
    penalties as penalties,
    volumes as volumes,
)

# Losses
from .maps.losses import (
    LOSSES as LOSSES,
    AdaptiveWing as AdaptiveWing,
    HardestCrossEntropy as HardestCrossEntropy,
    HeatmapMSE as HeatmapMSE,
    SoftmaxCrossEntropy as SoftmaxCrossEntropy,
)

# Decoders
from .maps.decode import (
    DECODERS as DECODERS,
    decode_dark as decode_dark,
    decode_peak as decode_peak,
    decode_quadratic as decode_quadratic,
    decode_soft_argmax as decode_soft_argmax,
)
from .maps.gaussian_fit import decode_gaussian_fit as decode_gaussian_fit
from .maps.coarse import decode_coarse as decode_coarse

# Stitching
from .predict.stitch import stitch as stitch

# A model in use, and what it returns
from .predict.model import (
    LandmarkModel as LandmarkModel,
    Landmarks as Landmarks,
)

# Results
from .evaluation.summary import (
    radial_errors as radial_errors,
    summarise_errors as summarise_errors,
    uncertainties as uncertainties,
)
from .evaluation.predictions import (
    read_predictions as read_predictions,
    write_predictions as write_predictions,
)

# The loop with an annotator
from .loop.merge import (
    Merged as Merged,
    annotated_in as annotated_in,
    merge as merge,
)
from .loop.suggest import (
    Suggestion as Suggestion,
    suggest as suggest,
)
from .loop.written import read_queue as read_queue

# A run
from .schema import RunConfig as RunConfig
from .work import train as train
from .demo.hands import write_demo_dataset as write_demo_dataset
