"""LaNNU-Net's configuration in our words.

Its keys are those of github.com/Schobs/LaNNU-Net, config.py and documentation/readme/advanced_yaml_config.md,
in upper case; most of them are ours in lower case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lannunet_core import KeyPath, UserError, canonical, canonical_name, inline_yaml, read_yaml, section_of
from lannunet_landmarks.schema import RunConfig

_TRACKERS = "experiment trackers are plugins here"
_PICTURES = "inference.debug writes pictures of heatmaps"
_PATHS = "paths are used as they are written"

DROPPED = {
    "dataset.dataset_class": "there is one kind of dataset; further keys of a sample ride along",
    "dataset.name": "the JSON has the name",
    "dataset.image_modality": "nothing depends on it",
    "dataset.trainset_size": "the whole training list is used; shorten the list in the JSON instead",
    "dataset.original_image_size": "it is read from each image",
    "dataset.to_pytorch_tensor": "everything is a tensor",
    "dataset.standardize_landmarks": "coordinates stay in pixels",
    "sampler.evaluation_sample_mode": "sampler.patch.inference_mode says how images are predicted",
    "sampler.patch.evaluation_sample_mode": "sampler.patch.inference_mode says how images are predicted",
    "sampler.data_aug_guarantee_lms_in_image": "a landmark moved out of the image is a known negative",
    "sampler.patch.centred_patch_coordinate_path_sheet": "a predictions.csv has no sheets",
    "sampler.patch.centred_patch_deterministic_eval": "patches are never moved when predicting",
    "trainer.perform_validation": "a validation list in the JSON is always used",
    "trainer.save_latest_only": "the best and the latest model are kept",
    "trainer.save_every": "the best and the latest model are kept",
    "trainer.validation_log_heatmaps": _PICTURES,
    "model.model_gdrive_dl_path": "nothing is downloaded; name the file in model.checkpoint",
    "model.gpflow": "there is no such model",
    "inference.log_heatmaps": _PICTURES,
    "inference.log_heatmap_plot_targ": _PICTURES,
    "inference.log_heatmaps_wo_noise": _PICTURES,
    "inference.ensemble_uncertainty_keys": "every measure of uncertainty is written",
    "inference.uncertainty_smha_model_idx": "no measure of uncertainty depends on one model of an ensemble",
    "inference.save_intermediate_outputs_only": "the report has the intermediate results",
    "output.verbose": "it had no effect",
    "output.local_logger_type": "the log is metrics.jsonl",
    "output.use_cometml_logging": _TRACKERS,
    "output.comet_api_key": _TRACKERS,
    "output.comet_workspace": _TRACKERS,
    "output.comet_project_name": _TRACKERS,
    "output.comet_tags": _TRACKERS,
    "output.results_csv_append": "each run has an output folder of its own",
    "ssh": _PATHS,
}
"""Keys that mean nothing here (with all below them), and why."""

DEFAULTS: dict[str, Any] = {
    "sampler.resize": "stretch",
    "sampler.data_aug_package": "imgaug",
    "sampler.num_workers": 0,
    "sampler.patch.jitter": 0,
    "solver.optimizer": "sgd",
    "solver.base_lr": 0.01,
    "solver.max_epochs": 1000,
    "solver.early_stopping_patience": 150,
    "solver.loss_function": "mse",
    "model.gauss_sigma": 4,
}
"""LaNNU-Net's defaults where ours differ, in our words and its units."""

RENAMED = {
    "sampler.patch.centred_patch_coordinate_path": "sampler.patch.centres",
    "sampler.patch.centred_patch_jitter": "sampler.patch.jitter",
    "sampler.patch.centred_patch_deterministic": "sampler.patch.deterministic_jitter",
}
"""Its keys that have another name here."""

PATIENCE = "solver.early_stopping_patience"


def why_dropped(key: str) -> str | None:
    """Why a key of LaNNU-Net's (lower-case) means nothing here; None where it is not such a key."""
    return next((why for old, why in DROPPED.items() if f"{key}.".startswith(f"{old}.")), None)


def translate(key: str, value: Any) -> tuple[str, Any, str | None]:
    """Our key and value for one that means something here, and what to tell the user, if anything.

    Its parser reads the word None as nothing, as we do in the keys where nothing is a choice.
    """
    key = RENAMED.get(key, key)
    match key, value:
        case "sampler.sample_mode", "patch":
            return key, "patch_bias", None
        case "sampler.patch.centres", "" | "None":
            return key, None, None
        case "inference.fit_gauss", bool():
            return "inference.decoder", "gaussian_fit" if value else "auto", None
        case "sampler.data_aug_package", "albumentations":
            return key, "torch", "albumentations is not supported; torch applies the same schemes"
        case "sampler.data_aug", None:
            return key, "None", None
        case "solver.decay_policy", None | "None":
            return key, "none", None
        case "solver.regress_sigma", True:
            return key, "isotropic", None
        case "solver.seed", None | "None":
            return key, 0, "a run always has a seed; it is 0"
        case "dataset.landmarks", []:
            return key, None, None
        case "model.checkpoint", "" | "None":
            return key, None, None
    return key, value, None


def import_config(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """A LaNNU-Net YAML as ours.

    Returns:
        The YAML, with LaNNU-Net's own defaults spelled out where ours differ, and what was dropped: keys as
        written, each with the reason.
    """
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    dropped: list[tuple[str, str]] = []
    for entry in read_yaml(path):
        ours, field = canonical(entry.path, RunConfig)
        if field is None:
            ours = _plugin_section(ours)
        key, value, note = translate(".".join(ours).lower(), entry.value)
        if key == "task" and value != "landmarks":
            raise UserError(f"{entry.where()}: LaNNU-Net has no task '{value}'. Give a YAML of LaNNU-Net.")
        known = canonical(tuple(key.split(".")), RunConfig)[1]
        if why := why_dropped(key) or (None if known or _is_plugins(ours) else "LaNNU-Net has no such key"):
            dropped.append((".".join(entry.path), why))
        elif key in values:
            raise UserError(f"{entry.where()}: {key} is given twice. Remove one of them.")
        elif not (known and section_of(known) and value is None):  # a section without keys
            values[key] = value
            if note:
                notes[key] = note
    for key, value in DEFAULTS.items():
        if key not in values:
            values[key], notes[key] = value, "LaNNU-Net's default"
    if "trainer.inference_only" not in values:
        values["trainer.inference_only"] = False
        notes["trainer.inference_only"] = "LaNNU-Net's documented default; its code has true"
    _count_validations(values, notes)
    return _render(path, values, notes, dropped), dropped


def _plugin_section(path: KeyPath) -> KeyPath:
    """The path with a model's section named as its plugin is, whether that is installed or not."""
    if not _is_plugins(path):
        return path
    return ("model", canonical_name(path[1]), *path[2:])


def _is_plugins(path: KeyPath) -> bool:
    return len(path) > 2 and path[0] == "model"


def _count_validations(values: dict[str, Any], notes: dict[str, str]) -> None:
    """LaNNU-Net's patience counts epochs, ours counts validations."""
    epochs, every = values[PATIENCE], values.get("trainer.validate_every", 10)
    if type(epochs) is int and type(every) is int and every > 0:
        values[PATIENCE] = max(1, round(epochs / every))
        notes[PATIENCE] = f"validations; LaNNU-Net counts epochs, {epochs}"


def _render(path: Path, values: dict[str, Any], notes: dict[str, str], dropped: list[tuple[str, str]]) -> str:
    lines = [f"# From LaNNU-Net's {path.name}. Relative paths start at the folder of this file."]
    if dropped:
        lines += ["# Dropped:", *(f"#   {key}: {why}" for key, why in dropped)]
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    order = list(RunConfig.model_fields)

    def render(inner: dict[str, Any], prefix: str, indent: str) -> None:
        for name, value in inner.items():
            if isinstance(value, dict) and value:
                lines.append(f"{indent}{name}:")
                render(value, f"{prefix}{name}.", indent + "  ")
            else:
                note = notes.get(prefix + name)
                lines.append(f"{indent}{name}: {inline_yaml(value)}{f'  # {note}' if note else ''}")

    render({name: tree[name] for name in sorted(tree, key=order.index)}, "", "")
    return "\n".join(lines) + "\n"
