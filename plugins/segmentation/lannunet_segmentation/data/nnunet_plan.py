"""A plan of nnU-Net version 1 for one stage, and the recipe of that stage's arrays from raw images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from lannunet_core import UserError
from lannunet_segmentation.data.plain_pickle import read_pickle
from lannunet_segmentation.types import NnunetChannel, NnunetRecipe, Scheme

PREPROCESSORS = ("GenericPreprocessor", "PreprocessorFor2D")
"""The preprocessors that `as_nnunet` repeats."""
PROPERTIES = "dataset_properties.pkl"
"""The file beside a plan with the planner's measurements."""
SCHEMES: dict[str, Scheme] = {"CT": "ct", "CT2": "ct2", "noNorm": "none"}
"""nnU-Net's names; any other one means z-scoring."""

M = TypeVar("M", bound=BaseModel)


def listed(value: Any) -> Any:
    """Convert an array to lists, as models need."""
    return value.tolist() if isinstance(value, np.ndarray) else value


Step = Annotated[PositiveFloat, Field(allow_inf_nan=False)]
Three = Annotated[tuple[Step, Step, Step], BeforeValidator(listed)]
Side = Annotated[PositiveInt, Field(lt=2**31)]


class _Intensities(BaseModel):
    percentile_00_5: FiniteFloat
    percentile_99_5: FiniteFloat
    mean: FiniteFloat
    sd: FiniteFloat


class _Measured(BaseModel):
    intensityproperties: dict[int, _Intensities] | None = None


class _Stage(BaseModel):
    current_spacing: Three
    patch_size: Annotated[list[Side], BeforeValidator(listed), Field(min_length=1, max_length=3)]


class _PlanFile(BaseModel):
    data_identifier: str
    num_modalities: Annotated[PositiveInt, Field(le=1000)]
    modalities: dict[int, str]
    num_classes: Annotated[PositiveInt, Field(le=2**15)]
    plans_per_stage: dict[int, Any]
    transpose_forward: Annotated[list[int], BeforeValidator(listed)] = [0, 1, 2]
    normalization_schemes: dict[int, str] | None = None
    use_mask_for_norm: dict[int, bool] | None = None
    dataset_properties: _Measured = _Measured()
    preprocessor_name: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan of one stage.

    Attributes:
        path: Path of the file.
        channel_names: C names.
        classes: Number of classes, without the background.
        spacing: Spacing in mm, in the array's order.
        transposed: The axis (z, y, x) of the image for each of the array's axes.
        slices: Whether it is a 2D plan: volumes keep their spacing along the array's first axis.
        recipe: Steps from raw images to the stage's arrays; None: unknown.
        unknown: Reason for that, as a clause after "…, as".
    """

    path: Path
    channel_names: tuple[str, ...]
    classes: int
    spacing: tuple[float, float, float]
    transposed: tuple[int, int, int]
    slices: bool
    recipe: NnunetRecipe | None
    unknown: str


def identifier(path: Path) -> str:
    """The identifier of the stage folders that a plan belongs to.

    Raises:
        UserError: It is not a plan.
    """
    return _read(path).data_identifier


def read_plan(path: Path, number: int, stage: Path) -> Plan:
    """Read a plan of the stage `number`, whose folder is `stage`.

    Raises:
        UserError: It is not a plan, or has no such stage.
    """
    plan = _read(path)
    if number not in plan.plans_per_stage:
        raise UserError(f"{path}: has no stage {number}: {stage} was made by another plan.")
    chosen = typed(_Stage, plan.plans_per_stage[number], path, "plan", f"plans_per_stage.{number}.")
    if missing := [index for index in range(plan.num_modalities) if index not in plan.modalities]:
        raise _no_plan(path, f"modalities.{missing[0]} is missing")
    if sorted(plan.transpose_forward) != [0, 1, 2]:
        raise _no_plan(path, f"transpose_forward is {plan.transpose_forward}")
    first, second, third = plan.transpose_forward
    turn, slices = (first, second, third), len(chosen.patch_size) < 3
    made = _recipe(plan, chosen, turn, slices, path)
    return Plan(
        path=path,
        channel_names=tuple(plan.modalities[index] for index in range(plan.num_modalities)),
        classes=plan.num_classes,
        spacing=chosen.current_spacing,
        transposed=turn,
        slices=slices,
        recipe=None if isinstance(made, str) else made,
        unknown=made if isinstance(made, str) else "",
    )


def _recipe(
    plan: _PlanFile, stage: _Stage, turn: tuple[int, int, int], slices: bool, path: Path
) -> NnunetRecipe | str:
    """The recipe of the stage's arrays from raw images, or the reason why it is unknown."""
    if plan.preprocessor_name not in ("", *PREPROCESSORS):
        return f"{path.name} names a preprocessor of its own ({plan.preprocessor_name[:60]!r})"
    measured = plan.dataset_properties.intensityproperties
    beside = path.with_name(PROPERTIES)
    if measured is None and beside.is_file():
        measured = typed(_Measured, read_pickle(beside), beside, "data set's properties").intensityproperties
    channels = []
    for index in range(plan.num_modalities):
        named = (plan.normalization_schemes or {}).get(index)
        inside = (plan.use_mask_for_norm or {}).get(index)
        if named is None or inside is None:
            return f"{path.name} does not state how channel {index} was normalised"
        scheme: Scheme = SCHEMES.get(named, "zscore")
        clip = None
        if scheme in ("ct", "ct2"):
            if not measured or index not in measured:
                return (
                    f"neither {path.name} nor {PROPERTIES} has the intensities that channel {index} was "
                    "clipped to"
                )
            found = measured[index]
            clip = (found.percentile_00_5, found.percentile_99_5, found.mean, found.sd)
        channels.append(NnunetChannel(scheme, inside, clip))
    first, second, third = stage.current_spacing
    return NnunetRecipe(path.name, (None if slices else first, second, third), turn, tuple(channels))


def typed(model: type[M], content: Any, path: Path, what: str, below: str = "", version: int = 1) -> M:
    """The content of an nnU-Net file as a model's instance.

    Raises:
        UserError: It has another form.
    """
    try:
        return model.model_validate(dict(content) if isinstance(content, Mapping) else content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = repr(".".join(map(str, first["loc"])))[1:81]
        where = f"{below}{place}: " if place else ""
        raise UserError(
            f"{path}: is not a {what} of nnU-Net version {version} ({where}{first['msg'][:200]}). Copy or "
            "make it again."
        ) from None


def _read(path: Path) -> _PlanFile:
    return typed(_PlanFile, read_pickle(path), path, "plan")


def _no_plan(path: Path, why: str) -> UserError:
    return UserError(f"{path}: is not a plan of nnU-Net version 1 ({why}). Copy or make it again.")
