"""The public API, by subject. See `__init__.py`."""

# What passes between the parts of a run
from .types import IGNORE as IGNORE
from .types import Case as Case
from .types import CaseImage as CaseImage
from .types import Geometry as Geometry
from .types import Labels as Labels
from .types import Region as Region
from .types import SegmentationDataset as SegmentationDataset
from .types import SegmentedCase as SegmentedCase
from .types import SegmentedImage as SegmentedImage
from .data.prepared import PreparedCase as PreparedCase
from .data.runs import Runs as Runs

# Training: where patches are cut, how they are augmented, labels, loss
from .data.sampling import ForegroundBias as ForegroundBias
from .data.nnunet_scheme import (
    NnunetScheme as NnunetScheme,
    NnunetUprightScheme as NnunetUprightScheme,
)
from .maps.labels import segmentation_labels as segmentation_labels
from .maps.loss import CrossEntropyDice as CrossEntropyDice
from .maps.loss import RegionCrossEntropyDice as RegionCrossEntropyDice
from .regions import regions_of as regions_of

# nnU-Net folders and their files
from .data.folders import open_dataset as open_dataset
from .data.folders import read_dataset as read_dataset
from .data.splits import split as split
from .data.declaration import read_classes as read_classes
from .data.declaration import read_json as read_json
from .data.headers import case_geometry as case_geometry
from .data.headers import check_case as check_case
from .data.cases import read_case as read_case
from .data.label_files import as_labels as as_labels
from .data.label_files import read_label as read_label
from .data.label_files import read_prediction as read_prediction
from .data.label_files import rewrite_prediction as rewrite_prediction
from .data.label_files import write_label as write_label

# Folders that nnU-Net preprocessed
from .data.nnunet_v1 import WEIGHT_MAP as WEIGHT_MAP
from .data.nnunet_v1 import find_stage as find_stage
from .data.preprocessed import preprocessed_properties as preprocessed_properties
from .data.preprocessed import preprocessed_shape as preprocessed_shape
from .data.preprocessed import read_preprocessed as read_preprocessed
from .data.arrays import save_array as save_array

# From files to what the network sees
from .types import Settings as Settings
from .data.preprocess import prepare_cases as prepare_cases

# A model in use, and what it returns
from .predict.model import Segmentation as Segmentation
from .predict.model import SegmentationModel as SegmentationModel

# Results
from .evaluation.metrics import case_metrics as case_metrics

# Work in several processes
from .processes import in_processes as in_processes
