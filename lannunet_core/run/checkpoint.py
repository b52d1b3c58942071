"""Model files. They hold tensors and plain values only, and load without executing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lannunet_core.config.compose import load_resolved
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.files import atomic_path
from lannunet_core.plugins import recorded
from lannunet_core.plugins.api import RunInfo

FORMAT = 1
BEST_MODEL = Path("checkpoints", "best.pt")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with everything that is needed to use it, or to go on training it.

    Attributes:
        learner: State of the `Learner`.
        config: The resolved configuration.
        run: The `RunInfo` that the plugins were made with.
        plugins: Name, distribution and version of the plugins that answered.
        learned: Plain values beside the weights that the task learned (see `Session.learned`).
        sizing: How long the run trains (see `sizing.Sizing`), so that a resumed one measures nothing anew.
        provenance: What run.json says, with who answers each hook.
        progress: Where training stood (see `loop.Progress`); empty in a model that is only for use.
        optimizer: The optimizer's state; empty likewise.
        scheduler: The scheduler's state; empty likewise.
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

    def run_info(self) -> RunInfo:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.run.items()}
        return RunInfo(**values)

    def loaded_config(self, where: Path) -> LoadedConfig:
        """The configuration with its plugins found again in this environment.

        Raises:
            UserError: Some are missing, or of another major version.
        """
        recorded.require(self.plugins, str(where))
        return load_resolved(self.config, str(where))


def plugin_versions(loaded: LoadedConfig) -> list[dict[str, str]]:
    return [
        {
            "name": plugin.installed.name,
            "distribution": plugin.installed.distribution,
            "version": plugin.installed.version,
        }
        for plugin in (loaded.architecture, *loaded.extensions)
    ]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    # Through Python's file, whose errors (a full disk) say what they are.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save({"lannunet": FORMAT, **asdict(checkpoint)}, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a model file, or that of a run's folder (its best model)."""
    if path.is_dir():
        path = path / BEST_MODEL
    if not path.is_file():
        raise UserError(f"{path}: there is no such model file; give a .pt file or a run's folder.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes it raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: cannot be loaded safely ({reason}). Use a model that lannunet train wrote."
        ) from error
    another = UserError(
        f"{path}: not a model of this version of LannU-Net; train it anew with lannunet train."
    )
    if not isinstance(content, dict) or content.pop("lannunet", None) != FORMAT:
        raise another
    if presence := content.pop("presence", None):  # as core 0.1.0 kept it
        content["learned"] = {"presence": presence}
    try:
        return Checkpoint(**content)
    except TypeError:  # other entries
        raise another from None


def load_weights(
    learner: torch.nn.Module, checkpoint: Checkpoint, run: RunInfo, architecture: str, path: Path
) -> None:
    """Put a checkpoint's weights into a learner of the same architecture, outputs and channels."""
    theirs = checkpoint.run_info()
    name = checkpoint.plugins[0]["name"]
    for what, found, wanted in (
        ("architecture", name, architecture),
        ("number of outputs", len(theirs.outputs), len(run.outputs)),
        ("number of channels", theirs.in_channels, run.in_channels),
        ("number of dimensions", theirs.dimensions, run.dimensions),
    ):
        if found != wanted:
            raise UserError(
                f"{path}: its {what} is {found}, this run's is {wanted}; give a model of the same kind."
            )
    try:
        learner.load_state_dict(checkpoint.learner)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: its weights do not fit this {architecture}; set model.{architecture} and "
            f"sampler.input_size as they were then ({reason[:300]})."
        ) from error
