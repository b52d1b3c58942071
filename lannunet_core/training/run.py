"""A run from its configuration to its results: what `lannunet train` and `lannunet predict` do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from lannunet_core.augment.schemes import make_scheme
from lannunet_core.config.compose import LoadedConfig
from lannunet_core.config.schema import RunConfig
from lannunet_core.data.annotations import LandmarkDataset, load_dataset
from lannunet_core.data.loading import EpochOrder, EvaluationSamples, PreparedImages, TrainingSamples, collate
from lannunet_core.data.reader import SUFFIXES, image_header, read_image
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.evaluation.predictions import write_predictions, write_workbook
from lannunet_core.evaluation.report import Report, write_report
from lannunet_core.evaluation.summary import print_summary, radial_errors, summarise
from lannunet_core.files import write_text
from lannunet_core.hookspecs import Event
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.defaults import Defaults
from lannunet_core.plugins.manager import Hooks, build
from lannunet_core.training import checkpoint as model_file
from lannunet_core.training import progress as terminal
from lannunet_core.training.checkpoint import Checkpoint, plugin_versions
from lannunet_core.training.learner import Learner
from lannunet_core.training.loop import Training
from lannunet_core.training.output import claim, provenance, write_run
from lannunet_core.training.predictor import predict as predict_batches
from lannunet_core.training.sizing import Sizing, available_cores, seconds_per_batch, size_run, workers_for
from lannunet_core.types import Prediction, Sample, State

BASE_LR = {"adamw": 2e-3, "sgd": 0.01}
MEASURING_EPOCH = 2**31  # its random numbers are no other epoch's
