"""The public face, by subject. See `__init__.py`."""

# The contract
from . import hookspecs as hookspecs
from .augment.elastic import Elastic as Elastic
from .augment.intensity import apply_intensity as apply_intensity
from .augment.on_device import (
    augment_one as augment_one,
)
from .augment.on_device import (
    augmented as augmented,
)
from .augment.on_device import (
    warp as warp,
)
from .augment.placing import (
    on_pixels as on_pixels,
)
from .augment.placing import (
    showing as showing,
)
from .augment.placing import (
    shown_box as shown_box,
)

# Augmentation
from .augment.schemes import (
    Drawn as Drawn,
)
from .augment.schemes import (
    IntensityOp as IntensityOp,
)
from .augment.schemes import (
    NnunetScheme as NnunetScheme,
)
from .augment.schemes import (
    RandomAffine as RandomAffine,
)
from .augment.schemes import (
    RandomElastic as RandomElastic,
)
from .augment.schemes import (
    RandomIntensity as RandomIntensity,
)
from .augment.schemes import (
    RandomScheme as RandomScheme,
)
from .augment.schemes import (
    Range as Range,
)
from .augment.schemes import (
    Scheme as Scheme,
)
from .augment.schemes import (
    SomeOf as SomeOf,
)
from .augment.schemes import (
    make_scheme as make_scheme,
)
from .augment.spatial import SpatialTransform as SpatialTransform
from .calling import call_accepting as call_accepting
from .config.compose import load_config as load_config
from .config.loaded import (
    ChosenPlugin as ChosenPlugin,
)
from .config.loaded import (
    LoadedConfig as LoadedConfig,
)
from .config.schema import (
    SCHEME_NAMES as SCHEME_NAMES,
)

# Configuration
from .config.schema import (
    Auto as Auto,
)
from .config.schema import (
    DatasetConfig as DatasetConfig,
)
from .config.schema import (
    File as File,
)
from .config.schema import (
    Index as Index,
)
from .config.schema import (
    InferenceConfig as InferenceConfig,
)
from .config.schema import (
    KeyPath as KeyPath,
)
from .config.schema import (
    ModelConfig as ModelConfig,
)
from .config.schema import (
    OutputConfig as OutputConfig,
)
from .config.schema import (
    RunConfig as RunConfig,
)
from .config.schema import (
    SamplerConfig as SamplerConfig,
)
from .config.schema import (
    Section as Section,
)
from .config.schema import (
    Size as Size,
)
from .config.schema import (
    SolverConfig as SolverConfig,
)
from .config.schema import (
    TrainerConfig as TrainerConfig,
)
from .config.schema import (
    canonical as canonical,
)
from .config.schema import (
    holdable as holdable,
)
from .config.schema import (
    section_of as section_of,
)
from .config.yaml import (
    inline_yaml as inline_yaml,
)
from .config.yaml import (
    read_yaml as read_yaml,
)
from .errors import (
    RunFailed as RunFailed,
)
from .errors import (
    UserError as UserError,
)

# Files and processes
from .files import (
    atomic_path as atomic_path,
)
from .files import (
    write_text as write_text,
)
from .hookspecs import (
    Augmenter as Augmenter,
)
from .hookspecs import (
    BalancedLoss as BalancedLoss,
)
from .hookspecs import (
    Coordinates as Coordinates,
)
from .hookspecs import (
    Decoder as Decoder,
)
from .hookspecs import (
    EvaluationMode as EvaluationMode,
)
from .hookspecs import (
    Event as Event,
)
from .hookspecs import (
    ExtraMap as ExtraMap,
)
from .hookspecs import (
    Loss as Loss,
)
from .hookspecs import (
    Sampling as Sampling,
)
from .hookspecs import (
    SigmaLoss as SigmaLoss,
)
from .hookspecs import (
    State as State,
)
from .hookspecs import (
    asked_in as asked_in,
)
from .hookspecs import (
    hookspec as hookspec,
)
from .images.cutting import cut_box as cut_box
from .images.geometry import (
    ResizeMode as ResizeMode,
)
from .images.geometry import (
    affine_matrix as affine_matrix,
)
from .images.geometry import (
    is_inside as is_inside,
)
from .images.geometry import (
    resize_affine as resize_affine,
)
from .images.geometry import (
    transform_points as transform_points,
)
from .images.nests import (
    finest as finest,
)
from .images.nests import (
    level_scale as level_scale,
)
from .images.nests import (
    level_sizes_of as level_sizes_of,
)
from .images.nests import (
    levels as levels,
)
from .images.nests import (
    map_tensors as map_tensors,
)
from .images.nests import (
    spatial_size as spatial_size,
)
from .images.nests import (
    tensors_of as tensors_of,
)
from .images.prepare import (
    prepare_image as prepare_image,
)
from .images.prepare import (
    resample_axis as resample_axis,
)
from .images.prepare import (
    resample_matrix as resample_matrix,
)
from .images.reader import (
    SUFFIXES as SUFFIXES,
)

# Images
from .images.reader import (
    Header as Header,
)
from .images.reader import (
    Image as Image,
)
from .images.reader import (
    image_format as image_format,
)
from .images.reader import (
    image_header as image_header,
)
from .images.reader import (
    image_placement as image_placement,
)
from .images.reader import (
    read_image as read_image,
)
from .images.windows import (
    Corner as Corner,
)
from .images.windows import (
    Windows as Windows,
)
from .images.windows import (
    stitch as stitch,
)
from .names import choose as choose
from .plan import (
    Choice as Choice,
)
from .plan import (
    Plan as Plan,
)
from .plan import (
    PlanRequest as PlanRequest,
)
from .plugins.api import (
    NetworkRequest as NetworkRequest,
)
from .plugins.api import (
    PlannedNetwork as PlannedNetwork,
)
from .plugins.api import (
    Plugin as Plugin,
)
from .plugins.api import (
    PluginConfig as PluginConfig,
)
from .plugins.api import (
    RunInfo as RunInfo,
)
from .plugins.api import (
    hookimpl as hookimpl,
)
from .plugins.defaults import Defaults as Defaults
from .plugins.discovery import canonical_name as canonical_name
from .plugins.hooks import (
    Every as Every,
)
from .plugins.hooks import (
    Hooks as Hooks,
)
from .plugins.hooks import (
    Merged as Merged,
)
from .plugins.hooks import (
    One as One,
)
from .plugins.manager import assemble as assemble
from .processes import in_processes as in_processes
from .report.bootstrap import (
    bootstrap_statistics as bootstrap_statistics,
)
from .report.bootstrap import (
    bootstrap_weights as bootstrap_weights,
)
from .report.bootstrap import (
    finite as finite,
)
from .report.bootstrap import (
    interval as interval,
)
from .report.display import (
    display_limits as display_limits,
)
from .report.display import (
    to_display as to_display,
)

# Results
from .report.page import (
    BLUE as BLUE,
)
from .report.page import (
    ORANGE as ORANGE,
)
from .report.page import (
    POINTS_AS_PIXELS as POINTS_AS_PIXELS,
)
from .report.page import (
    Chart as Chart,
)
from .report.page import (
    best_middle_worst as best_middle_worst,
)
from .report.page import (
    draw_boxes as draw_boxes,
)
from .report.page import (
    jpeg_url as jpeg_url,
)
from .report.page import (
    make_chart as make_chart,
)
from .report.page import (
    training_charts as training_charts,
)
from .report.page import (
    write_page as write_page,
)
from .run.batches import (
    EpochOrder as EpochOrder,
)
from .run.batches import (
    collate as collate,
)
from .run.batches import (
    loaded_batches as loaded_batches,
)
from .run.batches import (
    make_loader as make_loader,
)
from .run.batches import (
    to_device as to_device,
)
from .run.checkpoint import (
    BEST_MODEL as BEST_MODEL,
)
from .run.checkpoint import (
    load_checkpoint as load_checkpoint,
)
from .run.checkpoint import (
    save_checkpoint as save_checkpoint,
)
from .run.learner import Learner as Learner
from .run.loop import seed_step as seed_step
from .run.memory import available_memory as available_memory
from .run.models import (
    folds_of as folds_of,
)
from .run.models import (
    models_of as models_of,
)
from .run.models import (
    open_model as open_model,
)
from .run.output import (
    CENTRES_FILE as CENTRES_FILE,
)
from .run.output import (
    METHODS_FOLDER as METHODS_FOLDER,
)
from .run.output import (
    SECOND_STAGE_FOLDER as SECOND_STAGE_FOLDER,
)
from .run.output import (
    claim_folder as claim_folder,
)
from .run.output import (
    provenance as provenance,
)
from .run.output import (
    refuse_folder as refuse_folder,
)
from .run.output import (
    refuse_to_empty as refuse_to_empty,
)
from .run.output import (
    write_run as write_run,
)
from .run.progress import progress_bar as progress_bar

# A run
from .run.run import (
    carry_out as carry_out,
)
from .run.run import (
    start_from as start_from,
)
from .run.schedule import PolySchedule as PolySchedule
from .run.session import (
    Session as Session,
)
from .run.session import (
    make_fabric as make_fabric,
)

# Tasks
from .task import (
    PredictRequest as PredictRequest,
)
from .task import (
    Task as Task,
)
from .task import (
    TrainingSet as TrainingSet,
)
from .task import (
    Validated as Validated,
)
from .task import (
    Work as Work,
)
from .types import Floats as Floats
from .version import __version__ as __version__
