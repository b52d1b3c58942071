"""Conversion of LaNNU-Net's configuration to ours.

Its keys are those of github.com/Schobs/LaNNU-Net, config.py and documentation/readme/advanced_yaml_config.md,
in upper case; most of them are ours in lower case.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lannunet_core import (
    Entry,
    LoadedConfig,
    Repeated,
    UserError,
    canonical,
    canonical_name,
    dotted,
    inline_yaml,
    is_among,
    is_foreign,
    is_installed,
    load_resolved,
    read_yaml,
    section_of,
)
from lannunet_landmarks.schema import RunConfig

_TRACKERS = "experiment trackers are plugins here"
_PICTURES = "inference.debug writes pictures of heatmaps"
_PATHS = "paths are used as they are written"
_ANOTHER = "the run has another architecture"

DROPPED = {
    "dataset.dataset_class": "there is one kind of dataset; other keys of a sample are copied to the outputs",
    "dataset.name": "the JSON has the name",
    "dataset.image_modality": "it has no effect",
    "dataset.trainset_size": "the whole training list is used; shorten the list in the JSON instead",
    "dataset.original_image_size": "it is read from each image",
    "dataset.to_pytorch_tensor": "everything is a tensor",
    "dataset.standardize_landmarks": "coordinates stay in pixels",
    "sampler.evaluation_sample_mode": "sampler.patch.inference_mode chooses how images are predicted",
    "sampler.patch.evaluation_sample_mode": "sampler.patch.inference_mode chooses how images are predicted",
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
    "another": _ANOTHER,
}
"""Keys that have no meaning here (with all below them), and the reason."""

DEFAULTS: dict[str, Any] = {
    "sampler.sample_mode": "full",
    "sampler.input_size": [512, 512],
    "sampler.resize": "stretch",
    "sampler.data_aug": "AffineComplex",
    "sampler.data_aug_package": "imgaug",
    "sampler.num_workers": 0,
    "sampler.patch.resolution_to_sample_from": "input_size",
    "sampler.patch.sample_patch_size": [128, 128],
    "sampler.patch.inference_mode": "fully_convolutional",
    "sampler.patch.sampler_bias": 0.66,
    "sampler.patch.jitter": 0,
    "sampler.patch.deterministic_jitter": True,
    "solver.optimizer": "sgd",
    "solver.base_lr": 0.01,
    "solver.decay_policy": "poly",
    "solver.max_epochs": 1000,
    "solver.early_stopping_patience": 150,
    "solver.mini_batch_size": 150,
    "solver.data_loader_batch_size_train": 12,
    "solver.data_loader_batch_size_eval": 12,
    "solver.deep_supervision": True,
    "solver.num_res_supervisions": 5,
    "solver.auto_mixed_precision": True,
    "solver.loss_function": "mse",
    "solver.regress_sigma": False,
    "solver.regress_sigma_loss_weight": 0.005,
    "trainer.validate_every": 10,
    "trainer.cache_data": True,
    "trainer.fold": 0,
    "model.architecture": "unet",
    "model.gauss_sigma": 4,
    "model.hm_lambda_scale": 100.0,
    "model.unet.min_feature_resolution": 4,
    "model.unet.max_features": 512,
    "model.unet.init_features": 32,
    "model.phdnet.branch_scheme": "multi",
    "model.phdnet.maxpool_factor": 3,
    "model.phdnet.class_label_scheme": "gaussian",
    "model.phdnet.weight_disp_loss_by_heatmap": True,
    "model.phdnet.log_transform_displacements": True,
    "inference.split": "testing",
    "inference.evaluation_mode": "scale_heatmap_first",
}
"""LaNNU-Net's defaults, with our keys and in its units. (`optimizer` and `resize` cannot be chosen there.)"""

OUTPUT_DIR = "/output/"
PATCH_SIDE = 128
SETTINGS = ("model.unet.", "model.phdnet.")
"""Models of LaNNU-Net that exist here too."""

RENAMED = {
    "sampler.patch.centred_patch_coordinate_path": "sampler.patch.centres",
    "sampler.patch.centred_patch_jitter": "sampler.patch.jitter",
    "sampler.patch.centred_patch_deterministic": "sampler.patch.deterministic_jitter",
}
"""Keys of LaNNU-Net that have another name here."""

PATIENCE = "solver.early_stopping_patience"
JITTER = "sampler.patch.jitter"


def why_dropped(key: str) -> str | None:
    """Why a key of LaNNU-Net (lower-case) has no meaning here; None: it is not such a key."""
    return next((why for old, why in DROPPED.items() if f"{key}.".startswith(f"{old}.")), None)


def translate(key: str, value: Any, foreign: bool = True) -> tuple[str, Any, str | None]:
    """Our key and value for a key with a meaning here, and a message for the user, or None.

    LaNNU-Net's parser reads the word None as null, as we do for keys where null is allowed. `foreign` keys
    are in upper case.
    """
    key = RENAMED.get(key, key)
    if foreign and key.startswith(SETTINGS):  # settings of the run's own architecture are known, and stay
        return f"another.{key}", value, None
    match key, value:
        case "sampler.sample_mode", "patch":
            return key, "patch_bias", None
        case "sampler.patch.centres", "" | "None":
            return key, None, None
        case "inference.fit_gauss", bool():
            return "inference.decoder", "gaussian_fit" if value else "auto", None
        case "inference.fit_gauss", _:
            return "inference.decoder", value, None
        case "sampler.data_aug_package", "albumentations":
            return key, "torch", "albumentations is not supported; torch applies the same schemes"
        case "sampler.data_aug", None:
            return key, "None", None
        case "sampler.data_aug", str() if is_among(value, ("nnunet",)):
            return key, "AffineComplex", "nnunet is the scheme of segmentation; AffineComplex replaces it"
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


def convert(values: Mapping[str, Any], foreign: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Convert values that LaNNU-Net defines in other units or interprets otherwise, each with a remark.

    Args:
        values: Values by our keys.
        foreign: The keys among them that come from LaNNU-Net.

    Raises:
        UserError: A value is not valid in LaNNU-Net.
    """
    found: dict[str, tuple[Any, str]] = {}
    epochs, every = values.get(PATIENCE, 0), values.get("trainer.validate_every", 10)
    if PATIENCE in foreign and type(epochs) is int and type(every) is int and min(epochs, every) > 0:
        count = max(1, round(epochs / every))
        found[PATIENCE] = count, f"validations; LaNNU-Net counts epochs, {epochs}"
    share, size = values.get(JITTER, 0), values.get("sampler.patch.sample_patch_size", [])
    if JITTER in foreign and type(share) in (int, float) and share != 0:
        if not 0 < share <= 1:
            raise UserError(
                f"SAMPLER.PATCH.CENTRED_PATCH_JITTER: found {share}, but LaNNU-Net's is a share of half a "
                f"patch, from 0 to 1. Our {JITTER} counts pixels."
            )
        is_size = isinstance(size, list) and size and all(type(side) is int for side in size)
        side = min(size) if is_size else PATCH_SIDE
        pixels = share * side / 2
        found[JITTER] = (
            pixels,
            f"pixels; LaNNU-Net's is a share of half a patch, {share:g} of {side} / 2",
        )
    for key, reads_otherwise, note in (
        (
            "solver.base_lr",
            "solver.optimizer" not in values,
            "is for SGD, LaNNU-Net's optimizer; here it is AdamW unless you set solver.optimizer: sgd",
        ),
        (
            "solver.regress_sigma_loss_weight",
            bool(values.get("solver.regress_sigma")),
            "weighs a different penalty than LaNNU-Net's, see docs/learned_sigma.md",
        ),
        (
            "sampler.patch.centres",
            str(values.get("sampler.patch.centres")).lower().endswith((".xlsx", ".xls")),
            "is a sheet of LaNNU-Net's; here it is a CSV with the columns id, landmark, x, y",
        ),
    ):
        if key in foreign and reads_otherwise:
            found[key] = values[key], note
    members = "inference.ensemble_checkpoints"
    if members in foreign and values[members] and not values.get("inference.ensemble_inference"):
        found[members] = [], "are read: LaNNU-Net reads them with ENSEMBLE_INFERENCE: True only"
    if not {"output", "output.output_dir"} & values.keys():
        found["output.output_dir"] = OUTPUT_DIR, "is LaNNU-Net's default; it is left out here"
    return found


def import_config(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """Convert a LaNNU-Net YAML to ours.

    Returns:
        The YAML, which is a valid configuration if the data are named, with LaNNU-Net's own defaults written
        out where ours differ, and the dropped keys, each with the reason.

    Raises:
        UserError: A value is unknown, or its model is not installed.
    """
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    written: dict[str, str] = {}
    lines: dict[str, int] = {}
    repeated: list[Repeated] = []
    entries = read_yaml(path, repeated)
    dropped = [(f"{key} in line {line}", f"line {again} gives it again") for key, line, again in repeated]
    architecture = _architecture(entries)
    for entry in entries:
        ours, field = canonical(entry.path, RunConfig)
        settings = field is None and len(ours) > 2 and ours[0] == "model"
        if settings:  # the section has the name of its plugin
            ours = ("model", canonical_name(ours[1]), *ours[2:])
        is_own = settings and ours[1] == architecture
        key, value, note = translate(".".join(ours).lower(), entry.value, foreign=not is_own)
        known = canonical(tuple(key.split(".")), RunConfig)[1]
        if why := why_dropped(key) or (None if known or is_own else "LaNNU-Net has no such key"):
            dropped.append((".".join(entry.path), why))
        elif key in values:
            raise UserError(f"{entry.where()}: {key} is given twice. Remove one of them.")
        elif not (known and section_of(known) and value in (None, {})):  # a section without keys
            if key == "task" and value != "landmarks":
                raise UserError(
                    f"{entry.where()}: LaNNU-Net has no task '{value}'. Give a YAML of LaNNU-Net."
                )
            values[key], written[key], lines[key] = value, ".".join(entry.path), entry.lines[entry.path]
            if note:
                notes[key] = note
    _without_imgaug(values, notes)
    for key, value in _defaults(values, lines, path).items():
        values[key], notes[key] = value, "LaNNU-Net's default"
    _without_imgaug(values, notes)
    if "trainer.inference_only" not in values:
        values["trainer.inference_only"] = False
        notes["trainer.inference_only"] = "LaNNU-Net's documented default; its code has true"
    try:
        converted = convert(values, {key for key in values if is_foreign(written.get(key, key.upper()), key)})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for key, (value, note) in converted.items():
        values[key], notes[key] = value, note
    loaded = _load(values, lines, path)
    of_refine = loaded.refine.idle if loaded.refine else {}
    for key, why in (loaded.idle | {f"refine.{key}": why for key, why in of_refine.items()}).items():
        if values.pop(key, None) is not None and key in written:
            dropped.append((written[key], why))
    return _render(path, values, notes, dropped), dropped


def _architecture(entries: Sequence[Entry]) -> str:
    """The plugin that the entries name, even if it is not installed."""
    named = [e.value for e in entries if canonical(e.path, RunConfig)[0] == ("model", "architecture")]
    return canonical_name(str(named[-1])) if named else str(DEFAULTS["model.architecture"])


def _without_imgaug(values: dict[str, Any], notes: dict[str, str]) -> None:
    key = "sampler.data_aug_package"
    if values.get(key) == "imgaug" and not is_installed("imgaug"):
        values[key], notes[key] = "torch", "imgaug is not installed; torch applies the same schemes"


def _defaults(values: Mapping[str, Any], lines: Mapping[str, int], path: Path) -> dict[str, Any]:
    """LaNNU-Net's defaults for keys that are not given, where ours, or those of the model, differ."""
    ours = dict(dotted(_load(values, lines, path).resolved()))
    return {
        key: default
        for key, default in DEFAULTS.items()
        if key not in values and key in ours and ours[key] != default
    }


def _load(values: Mapping[str, Any], lines: Mapping[str, int], path: Path) -> LoadedConfig:
    places: dict[tuple[str | int, ...], int] = {tuple(key.split(".")): line for key, line in lines.items()}
    for key in ("output.output_dir", "dataset.src_targets"):  # missing in a partial YAML
        if key.split(".")[0] not in values:
            values = {key: OUTPUT_DIR, **values}
    return load_resolved(_tree(values, lines, path), str(path), lines=places)


def _tree(values: Mapping[str, Any], lines: Mapping[str, int], path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                break
        if not isinstance(inner, dict) or name in inner:
            raise UserError(f"{path}:{lines.get(key, 1)}: {key} is given twice. Remove one of them.")
        inner[name] = value
    return tree


def _render(path: Path, values: dict[str, Any], notes: dict[str, str], dropped: list[tuple[str, str]]) -> str:
    lines = [f"# From LaNNU-Net's {_line(path.name)}. Relative paths start at the folder of this file."]
    if dropped:
        lines += ["# Dropped:", *(f"#   {_line(key)}: {_line(why)}" for key, why in dropped)]
    if "dataset.src_targets" not in values:
        lines.append("# dataset.src_targets is missing. LaNNU-Net's default is its author's; name your JSON.")
    tree = _tree(values, {}, path)
    order = list(RunConfig.model_fields)

    def render(inner: dict[str, Any], prefix: str, indent: str) -> None:
        for name, value in inner.items():
            if isinstance(value, dict) and value:
                lines.append(f"{indent}{name}:")
                render(value, f"{prefix}{name}.", indent + "  ")
            else:
                note = notes.get(prefix + name)
                lines.append(f"{indent}{name}: {inline_yaml(value)}{f'  # {_line(note)}' if note else ''}")

    render({name: tree[name] for name in sorted(tree, key=order.index)}, "", "")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """A text that stays on one line of a comment."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
