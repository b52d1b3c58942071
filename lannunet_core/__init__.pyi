"""The public API, by subject. See `__init__.py`."""

# The contract
from . import hookspecs as hookspecs
from .plugins.api import (
    ImageReader as ImageReader,
    NetworkRequest as NetworkRequest,
    PlannedNetwork as PlannedNetwork,
    Plugin as Plugin,
    PluginConfig as PluginConfig,
    RunInfo as RunInfo,
    hookimpl as hookimpl,
)
from .hookspecs import (
    Augmenter as Augmenter,
    BalancedLoss as BalancedLoss,
    Coordinates as Coordinates,
    Decoder as Decoder,
    EvaluationMode as EvaluationMode,
    Event as Event,
    ExtraMap as ExtraMap,
    Loss as Loss,
    Normalisation as Normalisation,
    ReportPart as ReportPart,
    Sampling as Sampling,
    SigmaLoss as SigmaLoss,
    State as State,
    StridedLoss as StridedLoss,
    TrainingStep as TrainingStep,
    asked_in as asked_in,
    hookspec as hookspec,
)
from .errors import (
    LannunetError as LannunetError,
    RunFailed as RunFailed,
    UserError as UserError,
)
from .types import Floats as Floats
from .version import __version__ as __version__

# Tasks
from .task import (
    Predictor as Predictor,
    PredictRequest as PredictRequest,
    Stage as Stage,
    Task as Task,
    TrainingSet as TrainingSet,
    Validated as Validated,
    Work as Work,
)
from .plugins.defaults import Defaults as Defaults
from .plugins.hooks import (
    Every as Every,
    Hooks as Hooks,
    Merged as Merged,
    One as One,
    ask_class as ask_class,
)
from .plugins.manager import assemble as assemble
from .plugins.discovery import (
    canonical_name as canonical_name,
    is_installed as is_installed,
)
from .plugins.tasks import (
    check_names as check_names,
    find_task as find_task,
)
from .plan import (
    Choice as Choice,
    Plan as Plan,
    PlanRequest as PlanRequest,
)
from .calling import call_accepting as call_accepting
from .plugins.formats import registered as registered
from .names import (
    choose as choose,
    dotted as dotted,
    fold_numbers as fold_numbers,
    is_among as is_among,
    without_places as without_places,
)

# Configuration
from .config.schema import (
    SCHEME_NAMES as SCHEME_NAMES,
    Auto as Auto,
    DatasetConfig as DatasetConfig,
    File as File,
    Index as Index,
    InferenceConfig as InferenceConfig,
    KeyPath as KeyPath,
    ModelConfig as ModelConfig,
    OutputConfig as OutputConfig,
    RunConfig as RunConfig,
    SamplerConfig as SamplerConfig,
    Section as Section,
    Size as Size,
    SolverConfig as SolverConfig,
    TrainerConfig as TrainerConfig,
    canonical as canonical,
    holdable as holdable,
    section_of as section_of,
)
from .config.loaded import (
    SECOND_STAGE_FOLDER as SECOND_STAGE_FOLDER,
    STAGE_SECTIONS as STAGE_SECTIONS,
    ChosenPlugin as ChosenPlugin,
    LoadedConfig as LoadedConfig,
)
from .config.compose import (
    load_config as load_config,
    load_resolved as load_resolved,
)
from .config.problems import (
    Value as Value,
    is_foreign as is_foreign,
)
from .config.yaml import (
    Entry as Entry,
    Repeated as Repeated,
    entries as entries,
    inline_yaml as inline_yaml,
    read_yaml as read_yaml,
)
from .config.formats import (
    AUTO as AUTO,
    open_in_format as open_in_format,
)

# A run
from .run.run import (
    carry_out as carry_out,
    refuse_changes as refuse_changes,
    start_from as start_from,
)
from .run.session import (
    Session as Session,
    make_fabric as make_fabric,
)
from .run.learner import Learner as Learner
from .run.memory import out_of_memory as out_of_memory
from .plugins.launchers import TrainRequest as TrainRequest
from .run.processes import (
    Processes as Processes,
    from_first as from_first,
    gathered as gathered,
    is_first as is_first,
    on_this_machine as on_this_machine,
    share as share,
    sum_over_processes as sum_over_processes,
)
from .run.schedule import PolySchedule as PolySchedule
from .run.sizing import available_cores as available_cores
from .run.batches import (
    EpochOrder as EpochOrder,
    collate as collate,
    make_loader as make_loader,
    to_device as to_device,
)
from .run.workers import (
    loaded_batches as loaded_batches,
)
from .run.checkpoint import (
    BEST_MODEL as BEST_MODEL,
    best_model as best_model,
    load_checkpoint as load_checkpoint,
    save_checkpoint as save_checkpoint,
)
from .run.models import (
    folds_of as folds_of,
    models_of as models_of,
    open_model as open_model,
)
from .plugins.references import located as located
from .plugins.from_file import plugin_of as plugin_of
from .plugins.installed import InstalledPlugin as InstalledPlugin
from .run.loop import seed_step as seed_step
from .run.output import (
    CENTRES_FILE as CENTRES_FILE,
    METHODS_FOLDER as METHODS_FOLDER,
    NEXT_STAGE_FOLDER as NEXT_STAGE_FOLDER,
    claim_folder as claim_folder,
    provenance as provenance,
    refuse_folder as refuse_folder,
    refuse_to_empty as refuse_to_empty,
    write_run as write_run,
)
from .run.progress import progress_bar as progress_bar

# Images
from .images.header import (
    Header as Header,
    Image as Image,
    Placement as Placement,
    Stated as Stated,
)
from .images.formats import (
    ImageFormat as ImageFormat,
    image_formats as image_formats,
    image_suffixes as image_suffixes,
)
from .images.reader import (
    series_of as series_of,
    image_format as image_format,
    image_header as image_header,
    image_placement as image_placement,
    read_image as read_image,
)
from .images.nests import (
    level_sizes_of as level_sizes_of,
    levels as levels,
    map_tensors as map_tensors,
    spatial_size as spatial_size,
)

# Augmentation
from .augment.schemes import (
    Drawn as Drawn,
    IntensityOp as IntensityOp,
    RandomAffine as RandomAffine,
    RandomElastic as RandomElastic,
    RandomIntensity as RandomIntensity,
    RandomScheme as RandomScheme,
    Range as Range,
    Scheme as Scheme,
    SomeOf as SomeOf,
    make_scheme as make_scheme,
)
from .augment.spatial import SpatialTransform as SpatialTransform
from .augment.elastic import Elastic as Elastic

# What is written for people

# The functions of `lannunet`, the name for programs
from . import api as api
from .run.progress import telling_progress as telling_progress

# Files and processes
from .record import (
    earlier_results as earlier_results,
    lock_folder as lock_folder,
    note as note,
    releasing as releasing,
)
from .telling import (
    echo as echo,
    telling_errors as telling_errors,
    terminal_text as terminal_text,
)
from .files import (
    atomic_path as atomic_path,
    inside as inside,
    names_a_file as names_a_file,
    refuse_existing as refuse_existing,
    write_text as write_text,
)
