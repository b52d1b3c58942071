"""Model files. They contain tensors and plain values only, and load without executing anything.

A model for inference is a safetensors file with the other fields as JSON; a training state is torch's.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.yaml import read_yaml
from lannunet_core.errors import UserError
from lannunet_core.files import atomic_path
from lannunet_core.names import without_places
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.references import located
from lannunet_core.run.processes import is_first
from lannunet_core.telling import echo
from lannunet_core.version import __version__

FORMAT = 1
BEST_MODEL = Path("checkpoints", "best.safetensors")
BEST_MODEL_BEFORE = Path("checkpoints", "best.pt")  # of core 0.1.0
METADATA = "lannunet"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with everything that is needed to use it, or to resume its training.

    Attributes:
        config: Resolved configuration.
        run: The `RunInfo` of the plugins.
        plugins: Name, distribution and version of the plugins.
        learned: Plain values that the task learned in addition to the weights (see `Session.learned`).
        sizing: Length of the run (see `sizing.Sizing`), so that a resumed run need not measure again.
        provenance: Content of run.json, with the plugins that implement each hook.
        progress: State of the training (see `loop.Progress`); empty for inference, as are the fields below.
        scaler: The gradient scaler of 16-mixed; otherwise empty.
    """

    learner: dict[str, Any]
    config: dict[str, Any]
    run: dict[str, Any]
    plugins: list[dict[str, str]]
    sizing: dict[str, Any]
    learned: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)

    def run_info(self) -> RunInfo:
        return TypeAdapter(RunInfo).validate_python(self.run)


def plugin_versions(loaded: LoadedConfig) -> list[dict[str, str]]:
    return [
        {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
        for plugin in (chosen.installed for chosen in loaded.plugins)
    ]


def best_model(folder: Path) -> Path | None:
    """The best model of a run's folder; None: there is none."""
    return next((folder / name for name in (BEST_MODEL, BEST_MODEL_BEFORE) if (folder / name).exists()), None)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model for inference (`.safetensors`), or a training state; see `output.provenance`.

    In a run of several processes the first one writes.
    """
    if not is_first():
        return
    if checkpoint.config.get("output", {}).get("provenance") != "full":
        config, provenance = without_places((checkpoint.config, checkpoint.provenance))
        checkpoint = replace(checkpoint, config=config, provenance=provenance)
    # Through a Python file, whose errors (a full disk) have clear messages.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == BEST_MODEL.suffix:
            file.write(as_safetensors(checkpoint))
        else:
            torch.save({METADATA: FORMAT, **vars(checkpoint)}, file)


def as_safetensors(checkpoint: Checkpoint) -> bytes:
    from safetensors.torch import save

    rest = dict(vars(checkpoint))
    state = rest.pop("learner")
    # Copies, as tensors that share memory are refused.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    plain = {name: value for name, value in state.items() if name not in tensors}
    return save(tensors, {METADATA: json.dumps({"format": FORMAT, "state": plain, **rest})})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a model file, or the best model of a run's folder."""
    path = located(path)
    if path.is_dir():
        path = best_model(path) or path / BEST_MODEL
    if not path.is_file():
        raise UserError(f"{path}: there is no such model file; give a model file or a run's folder.")
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise UserError(f"{path}: has a name in it that is not UTF-8, which models need. Rename that folder.")
    try:
        content = read_safetensors(path) if path.suffix == BEST_MODEL.suffix else read_pickled(path)
    except Exception as error:  # a damaged file raises any exception
        # Not the library's message, which explains how to load it unsafely.
        damaged = "it is damaged, or holds more than tensors and plain values"
        reason = error.strerror if isinstance(error, OSError) else damaged
        raise UserError(
            f"{path}: cannot be loaded safely ({reason}). Use a model that `lannunet train` wrote."
        ) from error
    if isinstance(made := content.pop("format", None), int) and made > FORMAT:
        raise UserError(
            f"{path}: is a model of a newer version than {__version__}, which is installed. Update it: "
            "pip install --upgrade lannunet"
        )
    try:
        content = vars(Checkpoint(**(content if made == FORMAT else {})))
        checkpoint = TypeAdapter(Checkpoint).validate_python(content)
        TypeAdapter(RunInfo).validate_python(checkpoint.run)
        [(one["name"], one["distribution"], one["version"]) for one in checkpoint.plugins].pop()
    except (TypeError, ValueError, LookupError):  # other fields, or fields of other types
        raise UserError(
            f"{path}: not a model of this version of LannU-Net; train it again with `lannunet train`."
        ) from None
    with suppress(UserError):  # without its run, only the names are known
        return replace(checkpoint, config=with_places(checkpoint.config, path.parent.parent / "config.yaml"))
    return checkpoint


def with_places(config: dict[str, Any], run: Path) -> dict[str, Any]:
    """A model's configuration with the paths of its files, which are in `config.yaml` of its run."""
    known = {entry.path: entry.value for entry in read_yaml(run)}

    def placed(value: Any, *keys: str) -> Any:
        if isinstance(value, dict):
            return {key: placed(one, *keys, key) for key, one in value.items()}
        full = known.get(keys)
        return full if full != value and without_places(full) == value else value

    return placed(config)  # type: ignore[no-any-return]


def read_safetensors(path: Path) -> dict[str, Any]:
    """The fields of a `Checkpoint` and its `format`; other content if the file has another format."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        content: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    return {"learner": tensors | content.pop("state", {}), **content}


def read_pickled(path: Path) -> dict[str, Any]:
    """As `read_safetensors`, for torch's format."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        return {}
    content["format"] = content.pop(METADATA, None)
    if "presence" in content:  # format of core 0.1.0
        presence = content.pop("presence")
        content["learned"] = {"presence": presence} if presence else {}
    return content


def load_weights(
    learner: torch.nn.Module,
    checkpoint: Checkpoint,
    run: RunInfo,
    architecture: str,
    path: Path,
    *,
    transfer: bool = False,
) -> None:
    """Load a checkpoint's weights into a learner of the same architecture; messages name it by `path`.

    With `transfer`, models with other outputs, channels or dimensions are accepted: weights of another shape
    are left unchanged, which is reported.
    """
    theirs = checkpoint.run_info()
    same = [("architecture", checkpoint.plugins[0]["name"], architecture)]
    alike = [
        ("number of outputs", len(theirs.outputs), len(run.outputs)),
        ("number of channels", theirs.in_channels, run.in_channels),
        ("number of dimensions", theirs.dimensions, run.dimensions),
        ("regions", theirs.regions, run.regions),
    ]
    for what, found, wanted in same if transfer else [*same, *alike]:
        if found != wanted:
            raise UserError(
                f"{path}: its {what} is {found}, this run's is {wanted}; give a model of the same kind."
            )
    state: Mapping[str, Any] = checkpoint.learner
    if transfer and any(found != wanted for _, found, wanted in alike):
        state = fitting(state, learner.state_dict(), path)
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: its weights do not fit this {architecture}; set model.{architecture} and "
            f"the input size to the values of its training ({reason[:300]})."
        ) from error


def fitting(theirs: Mapping[str, Any], own: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The weights with the same name and shape in both models, and the others of `own`."""

    def fits(name: str) -> bool:
        return name in theirs and getattr(theirs[name], "shape", ()) == getattr(own[name], "shape", ())

    new = [name for name in own if not fits(name)]
    if len(new) == len(own):
        raise UserError(f"{path}: none of its weights has the shape that this run's network has.")
    echo(
        f"{path}: {len(own) - len(new)} of {len(own)} weights fit this run; these are initialised again, as "
        f"they have another shape: {', '.join(new)}",
    )
    return {name: theirs[name] if fits(name) else value for name, value in own.items()}
