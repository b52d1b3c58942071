"""The common part of all tasks' configurations, with LaNNU-Net's keys in lower case.

Tasks derive their sections and their `RunConfig` from these. Importing this must not import torch.
"""

import os
import re
from collections.abc import Callable, Collection
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    WrapValidator,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from lannunet_core.names import plain

KeyPath = tuple[str, ...]

DEFAULT_TASK = "landmarks"
"""The task of a configuration that names none, such as LaNNU-Net's."""
MOST_PIXELS = 2**30
LONGEST_PATH = 2000  # characters; files below it have longer paths
ESCAPES = "in double quotes a backslash begins an escape: write / in its place, or single quotes"

SCHEME_NAMES = (
    *("Upright", "UprightElastic", "Turned", "AnyRotation", "AffineSimple", "AffineComplex"),
    *("AffineComplexElastic", "AffineComplexElasticLight", "AffineComplexElasticBlur"),
    *("AffineComplexElasticBlurSharp", "payer19", "thaler21", "CenterCropOnly", "None"),
)
"""The core's values of `sampler.data_aug`."""


def holdable(size: tuple[int, ...]) -> tuple[int, ...]:
    if prod(size) > MOST_PIXELS:
        raise PydanticCustomError("size", "should be at most 2^30 pixels in all")
    return size


def _path(path: Any) -> Any:
    if not isinstance(path, str | Path) or path == "":
        raise PydanticCustomError("path", "should be a path")
    text = str(path)
    if re.search("[\0-\x1f\ud800-\udfff]", text):
        raise PydanticCustomError(
            "path", "should be a path without tabs and the like; {escapes}", {"escapes": ESCAPES}
        )
    if len(text) > LONGEST_PATH or any(
        len(name.encode("utf-8", "replace")) > 255 for name in Path(text).parts
    ):
        raise PydanticCustomError(
            "path", "should be a path that the system supports, each name of at most 255 bytes"
        )
    if text.startswith("~") and os.path.expanduser(text) == text:  # noqa: PTH111  (which does not raise)
        raise PydanticCustomError("path", "should be a path; there is no such user")
    return path


Auto = Literal["auto"]
Index = Annotated[StrictInt, Field(ge=0)]
LEAST_SIDE = 8


def _stack(size: Any, validate: Callable[[Any], tuple[int, ...]]) -> tuple[int, ...]:
    """Volumes may have few slices: fewer pixels are allowed along one axis."""
    sides = size if isinstance(size, list | tuple) and all(type(side) is int for side in size) else ()
    if len(sides) != 3 or not 0 < min(sides) < LEAST_SIDE:
        return validate(size)
    thin = sides.index(min(sides))
    others = validate([*sides[:thin], LEAST_SIDE, *sides[thin + 1 :]])
    return (*others[:thin], sides[thin], *others[thin + 1 :])


Size = Annotated[
    tuple[Annotated[StrictInt, Field(ge=LEAST_SIDE, le=16384)], ...],
    Field(min_length=2, max_length=3),
    AfterValidator(holdable),
    WrapValidator(_stack),
]
File = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class DatasetConfig(Section):
    """The data; additional keys belong to the task."""

    format: str = Field("auto", description="auto: the task's own, or by the content; or a format by name.")


class SamplerConfig(Section):
    data_aug: str = Field("None", description="Augmentation scheme, by name.")
    num_workers: Annotated[StrictInt, Field(ge=0, le=64)] | Auto = Field(
        "auto", description="Loader processes; auto: chosen by a short measurement."
    )
    debug: StrictBool = Field(False, description="Write pictures of training samples to the output folder.")


class SolverConfig(Section):
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or LaNNU-Net's SGD.")
    base_lr: Annotated[StrictFloat, Field(gt=0, le=10)] | Auto = Field(
        "auto", description="Learning rate at the start; auto: 2e-3 for adamw, 0.01 for sgd."
    )
    decay_policy: Literal["poly", "fine_tune", "none"] = Field(
        "poly", description="poly: (1 - progress)^0.9; fine_tune: a quarter of it, after a warm-up."
    )
    budget_minutes: StrictFloat = Field(
        30, gt=0, le=100_000, description="Minutes of training that `max_epochs: auto` plans for."
    )
    max_epochs: Annotated[StrictInt, Field(ge=1)] | Auto = Field(
        "auto", description="Epochs; auto: measured and sized to budget_minutes, then recorded."
    )
    shortened: tuple[tuple[StrictInt, StrictInt], ...] = Field(
        (),
        description="Recorded if a run got too slow for budget_minutes; [[40, 70]]: after epoch 40 its "
        "end was set to 70.",
    )
    mini_batch_size: StrictInt = Field(150, ge=1, le=1000000, description="Batches per epoch.")
    data_loader_batch_size_train: StrictInt = Field(
        12, ge=1, le=65536, description="Samples per training batch."
    )
    data_loader_batch_size_eval: StrictInt = Field(
        12, ge=1, le=65536, description="Samples per evaluation batch."
    )
    early_stopping_patience: StrictInt = Field(
        15, ge=1, description="Stop after this many validations without a better value of trainer.monitor."
    )
    deep_supervision: StrictBool = Field(True, description="Supervise coarser resolutions too.")
    num_res_supervisions: StrictInt = Field(5, ge=1, le=10, description="Number of resolutions.")
    loss_function: str = Field(description="Loss, by name.")
    clip_gradient_norm: Annotated[StrictFloat, Field(gt=0)] | None = Field(
        12.0, description="Largest norm of the gradients; null: unlimited."
    )
    accumulate: StrictInt = Field(
        1, ge=1, le=1000, description="Batches whose gradients are averaged for one step."
    )
    auto_mixed_precision: StrictBool = Field(True, description="Mixed precision if the device supports it.")
    seed: StrictInt = Field(0, ge=0, description="Seed of all random numbers.")

    @field_validator("shortened")
    @classmethod
    def _are_earlier_ends(cls, rows: tuple[tuple[int, int], ...], info: ValidationInfo) -> Any:
        after, end = 0, info.data.get("max_epochs", "auto")
        for row in rows if end != "auto" else ():
            if not after < row[0] < row[1] < end:
                raise ValueError(f"which is not a record of a run of {end} epochs; remove the key")
            after, end = row
        return rows


DEVICE = "^(auto|cpu|mps|cuda(:[0-9]+)?)$"


class TrainerConfig(Section):
    device: str = Field(
        "auto", pattern=DEVICE, description="auto (the best available), cpu, cuda, cuda:1 or mps."
    )
    devices: Annotated[StrictInt, Field(ge=1, le=1024)] | tuple[Index, ...] | Auto = Field(
        "auto",
        description="Devices per machine, each with a process that trains on its share of every batch, or "
        "numbers of GPUs, as in [0, 2]; auto: one, or as torchrun or srun started the processes.",
    )
    num_nodes: StrictInt = Field(
        1, ge=1, le=4096, description="Machines, if torchrun or srun starts the processes."
    )
    validate_every: StrictInt = Field(10, ge=1, description="Validate every N epochs, and after the last.")
    monitor: str = Field(
        "validation_error",
        pattern="^-?[^-].*$",
        description="The metric for choosing the best model and for early stopping: lower is better; "
        "with a minus before its name, higher is better.",
    )
    inference_only: StrictBool = Field(False, description="Skip training; evaluate `model.checkpoint`.")
    plugins: list[str] = Field([], description="Extensions applied on top of the architecture, by name.")

    @property
    def devices_per_node(self) -> int:
        if isinstance(self.devices, tuple):
            return len(self.devices)
        return 1 if self.devices == "auto" else self.devices

    @property
    def processes(self) -> int:
        """The number of processes that the keys request; auto: one."""
        return self.devices_per_node * self.num_nodes

    @field_validator("devices")
    @classmethod
    def _are_several(cls, devices: Any, info: ValidationInfo) -> Any:
        one = ":" in info.data.get("device", "") and devices not in ("auto", 1)
        if one or (isinstance(devices, tuple) and len(set(devices)) < max(len(devices), 1)):
            raise ValueError("which should name each device once, and trainer.device none of them")
        return devices


class ModelConfig(Section):
    architecture: str = Field(description="The plugin that provides the network, by name.")
    checkpoint: File | None = Field(None, description="Start from this model's weights.")


class InferenceConfig(Section):
    split: Literal["training", "validation", "testing"] = Field("testing", description="Split to evaluate.")


class OutputConfig(Section):
    output_dir: File = Field(description="Folder of this run's results.")
    provenance: Literal["names", "full"] = Field(
        "names", description="Reports and models contain names of files; full: their paths, and the command."
    )


class RunConfig(Section):
    """A run's whole configuration, without the sections of its plugins (which are composed into it)."""

    def idle_keys(self, replaced: Collection[str]) -> dict[str, str]:
        """The keys without effect because of another key's value, each with that key; all dotted.

        The values of `replaced` keys are ignored, as a plugin implements their hooks.
        """
        found = {}
        if self.solver.max_epochs != "auto":
            found["solver.budget_minutes"] = "solver.max_epochs"
        else:
            found["solver.shortened"] = "solver.max_epochs"
        if not self.solver.deep_supervision:
            found["solver.num_res_supervisions"] = "solver.deep_supervision"
        return found

    task: str = Field(DEFAULT_TASK, description="Name of the task.")
    dataset: DatasetConfig = Field(description="Images and annotations.")
    sampler: SamplerConfig = Field(description="How samples are made.")
    solver: SolverConfig = Field(description="How the network is trained.")
    trainer: TrainerConfig = Field(description="The training loop.")
    model: ModelConfig = Field(description="The network.")
    inference: InferenceConfig = Field(description="Prediction.")
    output: OutputConfig = Field(description="Output files.")


def key_of(field_name: str, field: FieldInfo) -> str:
    """The spelling of a field in YAML."""
    return field.alias or field_name


def before(field: FieldInfo) -> Any:
    """The value of a key in configurations that were recorded before it existed.

    A key that changed the behaviour has `json_schema_extra={"before": value}`; for others it is the default.
    """
    extra = field.json_schema_extra
    changed = isinstance(extra, dict) and "before" in extra
    return extra["before"] if changed else field.get_default(call_default_factory=True)  # type: ignore[index]


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model class of a section; None for a key that holds a value."""
    found = field.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def canonical(path: KeyPath, model: type[BaseModel]) -> tuple[KeyPath, FieldInfo | None]:
    """Our spelling of a key path written in any case, with the field of its last key; None: no such key.

    Parts after the first unknown key, or after a key that holds a value, are unchanged.
    """
    spelled: list[str] = []
    section: type[BaseModel] | None = model
    field: FieldInfo | None = None
    for depth, key in enumerate(path):
        if section is None:
            return (*spelled, *path[depth:]), field
        found = [
            (name, other) for name, other in section.model_fields.items() if _is_spelling(key, name, other)
        ]
        if not found:
            return (*spelled, *path[depth:]), None
        field = found[0][1]
        spelled.append(key_of(*found[0]))
        section = section_of(field)
    return tuple(spelled), field


class Spellings(tuple[str, ...]):
    """Metadata of a plugin's section: its additional names, in the form in which names are compared."""


def _is_spelling(key: str, name: str, field: FieldInfo) -> bool:
    if key.casefold() == key_of(name, field).casefold():
        return True
    return any(isinstance(names, Spellings) and plain(key) in names for names in field.metadata)
