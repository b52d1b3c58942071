"""LaNNU-Net's YAML: its documented examples load as they are, and become ours.

Run as a script, this file writes the table of keys of docs/from_lannunet.md.
"""

import re
from pathlib import Path

import pytest
import yaml
from lannunet_landmarks import lannunet_yaml as lannunet
from lannunet_landmarks.lannunet_yaml import import_config
from lannunet_landmarks.schema import RunConfig

from lannunet_core.config.compose import load_config
from lannunet_core.config.schema import canonical
from lannunet_core.errors import UserError
from lannunet_core.plugins.manager import SPECS

# An example like the one in its documentation for your own data.
OWN_DATA = """
OUTPUT:
    OUTPUT_DIR: "/results"
SOLVER:
    DATA_LOADER_BATCH_SIZE_TRAIN: 32
DATASET:
    ROOT: '/images'
    SRC_TARGETS: '/annotations/no_cv.json'
    LANDMARKS : [0,1,2,3,]
TRAINER:
    INFERENCE_ONLY: False
    CACHE_DATA: False
    FOLD: -1 #no cv
SAMPLER:
    INPUT_SIZE : [512,512]
"""

# An example like its own for cephalometric radiographs.
EXAMPLE = """
OUTPUT:
  OUTPUT_DIR: "../outputs/unet/"
  USE_COMETML_LOGGING: True
  COMET_API_KEY: "a-secret"
  COMET_TAGS: ["default"]
SOLVER:
  SEED: None
  DECAY_POLICY: None
  MAX_EPOCHS: 500
  EARLY_STOPPING_PATIENCE: 150
INFERENCE:
  SPLIT: "testing"
  FIT_GAUSS: False
  ENSEMBLE_UNCERTAINTY_KEYS: [smha]
DATASET:
  ROOT: '/data/images'
  SRC_TARGETS: '/data/folds'
  NAME:  "ISBI 2015 Junior"
  LANDMARKS : []
TRAINER:
  PERFORM_VALIDATION: True
  FOLD: 0
SAMPLER:
  NUM_WORKERS: 2
  DATA_AUG: None
  DATA_AUG_PACKAGE: albumentations
  PATCH:
    CENTRED_PATCH_JITTER: 0.0
MODEL:
  GAUSS_SIGMA: 8
  ARCHITECTURE: "U-Net"
  CHECKPOINT: None
  MODEL_GDRIVE_DL_PATH: "https://example.org"
  UNET:
    INIT_FEATURES: 16
  GPFLOW:
    KERN: conv
SSH:
  AUTO_AMEND_PATHS: True
"""

# The keys of its default configuration, in their order.
ITS_KEYS = yaml.safe_load("""
DATASET: [DATASET_CLASS, ROOT, NAME, SRC_TARGETS, IMAGE_MODALITY, LANDMARKS, TRAINSET_SIZE,
  TO_PYTORCH_TENSOR, STANDARDIZE_LANDMARKS]
SAMPLER: [SAMPLE_MODE, DEBUG, INPUT_SIZE, EVALUATION_SAMPLE_MODE, DATA_AUG, DATA_AUG_PACKAGE,
  DATA_AUG_GUARANTEE_LMS_IN_IMAGE, NUM_WORKERS]
SAMPLER.PATCH: [RESOLUTION_TO_SAMPLE_FROM, SAMPLE_PATCH_SIZE, INFERENCE_MODE, SAMPLER_BIAS,
  CENTRED_PATCH_COORDINATE_PATH, CENTRED_PATCH_COORDINATE_PATH_SHEET, CENTRED_PATCH_JITTER,
  CENTRED_PATCH_DETERMINISTIC, CENTRED_PATCH_DETERMINISTIC_EVAL]
SOLVER: [SEED, BASE_LR, DECAY_POLICY, MAX_EPOCHS, EARLY_STOPPING_PATIENCE, MINI_BATCH_SIZE,
  DATA_LOADER_BATCH_SIZE_TRAIN, DATA_LOADER_BATCH_SIZE_EVAL, NUM_RES_SUPERVISIONS, AUTO_MIXED_PRECISION,
  DEEP_SUPERVISION, LOSS_FUNCTION, REGRESS_SIGMA, REGRESS_SIGMA_LOSS_WEIGHT]
TRAINER: [PERFORM_VALIDATION, SAVE_LATEST_ONLY, SAVE_EVERY, VALIDATE_EVERY, CACHE_DATA, FOLD,
  INFERENCE_ONLY, VALIDATION_LOG_HEATMAPS]
MODEL: [ARCHITECTURE, GAUSS_SIGMA, HM_LAMBDA_SCALE, CHECKPOINT, MODEL_GDRIVE_DL_PATH]
MODEL.GPFLOW: [NUM_INDUCING_POINTS]
INFERENCE: [SPLIT, EVALUATION_MODE, FIT_GAUSS, LOG_HEATMAPS, LOG_HEATMAP_PLOT_TARG,
  LOG_HEATMAPS_WO_NOISE, ENSEMBLE_INFERENCE, ENSEMBLE_UNCERTAINTY_KEYS, UNCERTAINTY_SMHA_MODEL_IDX,
  ENSEMBLE_CHECKPOINTS, DEBUG, SAVE_INTERMEDIATE_OUTPUTS_ONLY]
OUTPUT: [VERBOSE, OUTPUT_DIR, LOCAL_LOGGER_TYPE, USE_COMETML_LOGGING, COMET_API_KEY, COMET_WORKSPACE,
  COMET_PROJECT_NAME, COMET_TAGS, RESULTS_CSV_APPEND]
SSH: [AUTO_AMEND_PATHS, LOCAL_PATH_TO_SSH_MOUNT, MATCH_SSH_STRING_FOR_AMEND]
""")

# Of its models that we have, and of its other model what its YAMLs name.
ITS_MODELS = yaml.safe_load("""
MODEL.UNET: [MIN_FEATURE_RESOLUTION, MAX_FEATURES, INIT_FEATURES]
MODEL.PHDNET: [BRANCH_SCHEME, MAXPOOL_FACTOR, CLASS_LABEL_SCHEME, WEIGHT_DISP_LOSS_BY_HEATMAP,
  LOG_TRANSFORM_DISPLACEMENTS, CLAMP_DIST]
""")
PAGE = Path(__file__).parents[3] / "docs" / "from_lannunet.md"
MARK = "<!-- Written by `python plugins/landmarks/tests/test_lannunet_yaml.py`. -->\n"
MEANS = {  # what differs beside the name
    "solver.early_stopping_patience": "counts validations, not epochs; converted",
    "sampler.patch.jitter": "in pixels, not a share of half a patch; converted",
    "sampler.patch.centres": "a CSV with the columns id, landmark, x, y, not a sheet",
    "solver.base_lr": "of `solver.optimizer`",
    "solver.regress_sigma_loss_weight": "of another penalty",
    "solver.seed": "`None` becomes 0",
    "sampler.data_aug_package": "`albumentations` becomes `torch`",
    "sampler.sample_mode": "`patch` becomes `patch_bias`",
    "inference.decoder": "`True` becomes `gaussian_fit`",
    "solver.decay_policy": "`None` becomes `none`",
    "solver.regress_sigma": "`True` becomes `isotropic`",
}


def table() -> str:
    """Each of its keys with our key, or the reason why there is none."""
    rows = ["| LaNNU-Net | here | remark |", "|---|---|---|"]
    for section, names in {**ITS_KEYS, **ITS_MODELS}.items():
        for name in names:
            key = f"{section}.{name}".lower()
            ours, _, _ = lannunet.translate(key, False, foreign=section not in ITS_MODELS)
            why = lannunet.why_dropped(ours)
            here, remark = ("—", why) if why else (f"`{ours}`", MEANS.get(ours, ""))
            rows.append(f"| `{section}.{name}` | {here} | {remark} |")
    return "\n".join(rows) + "\n"


def test_the_page_lists_each_of_its_keys():
    assert PAGE.read_text().split(MARK)[1].strip() == table().strip(), f"run python {__file__}"


def test_the_page_lists_each_argument_of_label_making():
    text = PAGE.read_text()
    section = text[text.index("## Arguments of `generate_labels`") : text.index("## Keys")]
    ours = {
        name
        for row in re.findall(r"^\|[^|]*\|([^|]*)\|$", section, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert set(SPECS["generate_labels"].arguments) <= ours
    for name in ("landmarks", "x_y_corner_patch", "sigmas", "lambda_scale", "dtype", "to_tensor"):
        assert f"| `{name}" in section


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "old.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("key", [f"{section}.{key}" for section, keys in ITS_KEYS.items() for key in keys])
def test_each_of_its_keys_is_ours_or_has_a_reason(key):
    ours, _, _ = lannunet.translate(key.lower(), False)
    kept = canonical(tuple(ours.split(".")), RunConfig)[1] is not None
    assert kept != (lannunet.why_dropped(ours) is not None)


def test_no_key_of_ours_is_dropped():
    for section, field in RunConfig.model_fields.items():
        for name in getattr(field.annotation, "model_fields", ()):
            assert lannunet.why_dropped(f"{section}.{name}") is None


def test_a_documented_yaml_loads_unchanged(write):
    loaded = load_config(write(OWN_DATA))
    run = loaded.run
    assert (run.solver.data_loader_batch_size_train, run.trainer.fold, run.trainer.cache_data) == (
        32,
        -1,
        False,
    )
    assert run.dataset.landmarks == [0, 1, 2, 3]
    assert loaded.architecture.installed.name == "unet"
    (warning,) = loaded.warnings
    assert "missing keys get our defaults" in warning
    assert "lannunet config import" in warning


def test_what_means_nothing_is_named_with_its_line_and_the_rest_is_understood(write):
    path = write(EXAMPLE)
    loaded = load_config(path)
    run = loaded.run
    assert (run.sampler.data_aug, run.sampler.data_aug_package) == ("None", "torch")
    assert (run.solver.seed, run.solver.early_stopping_patience) == (0, 15)
    assert (run.solver.seed, run.solver.decay_policy, run.inference.decoder) == (0, "none", "auto")
    assert (run.dataset.landmarks, run.model.checkpoint) == (None, None)
    assert loaded.architecture.config.init_features == 16
    told = [warning.removeprefix(f"{path}:") for warning in loaded.warnings[1:]]
    assert told == [
        "4: OUTPUT.USE_COMETML_LOGGING is ignored: experiment trackers are plugins here.",
        "5: OUTPUT.COMET_API_KEY is ignored: experiment trackers are plugins here.",
        "6: OUTPUT.COMET_TAGS is ignored: experiment trackers are plugins here.",
        "8: SOLVER.SEED: a run always has a seed; it is 0.",
        "15: INFERENCE.ENSEMBLE_UNCERTAINTY_KEYS is ignored: every measure of uncertainty is written.",
        "19: DATASET.NAME is ignored: the JSON has the name.",
        "22: TRAINER.PERFORM_VALIDATION is ignored: a validation list in the JSON is always used.",
        "27: SAMPLER.DATA_AUG_PACKAGE: albumentations is not supported; torch applies the same schemes.",
        "34: MODEL.MODEL_GDRIVE_DL_PATH is ignored: nothing is downloaded; name the file in "
        "model.checkpoint.",
        "38: MODEL.GPFLOW.KERN is ignored: there is no such model.",
        "40: SSH.AUTO_AMEND_PATHS is ignored: paths are used as they are written.",
        "11: SOLVER.EARLY_STOPPING_PATIENCE: 15 validations; LaNNU-Net counts epochs, 150.",
        "29: SAMPLER.PATCH.CENTRED_PATCH_JITTER is ignored: it has no effect with sampler.sample_mode: full.",
    ]


def test_lower_case_keys_of_its_own_are_understood_alike(write):
    text = "dataset: {src_targets: a.json}\noutput: {output_dir: x, verbose: true}\n"
    loaded = load_config(write(text + "sampler: {data_aug_package: albumentations, data_aug: null}\n"))
    assert (loaded.run.sampler.data_aug_package, loaded.run.sampler.data_aug) == ("torch", "None")
    assert [warning.split(": ")[1] for warning in loaded.warnings] == [
        "output.verbose is ignored",
        "sampler.data_aug_package",
    ]


def test_the_scheme_of_segmentation_is_replaced_in_so_many_words(write):
    text = "dataset: {src_targets: a.json}\noutput: {output_dir: x}\nsampler: {data_aug: nnU-Net}\n"
    loaded = load_config(write(text))
    assert loaded.run.sampler.data_aug == "AffineComplex"
    (warning,) = loaded.warnings
    assert warning.endswith(
        "sampler.data_aug: nnunet is the scheme of segmentation; AffineComplex replaces it."
    )


def test_patches_around_earlier_predictions(write, tmp_path):
    loaded = load_config(
        write(
            "DATASET: {SRC_TARGETS: a.json}\nOUTPUT: {OUTPUT_DIR: x}\n"
            "SAMPLER:\n  SAMPLE_MODE: patch_centred\n"
            "  PATCH: {CENTRED_PATCH_COORDINATE_PATH: first.csv, CENTRED_PATCH_JITTER: 0.5,\n"
            "          CENTRED_PATCH_DETERMINISTIC: true, CENTRED_PATCH_DETERMINISTIC_EVAL: true,\n"
            "          CENTRED_PATCH_COORDINATE_PATH_SHEET: 0}\n"
        )
    )
    patch = loaded.run.sampler.patch
    assert (patch.centres, patch.jitter, patch.deterministic_jitter) == (tmp_path / "first.csv", 32, True)
    assert [warning.split(" is ignored")[0].split(": ", 1)[1] for warning in loaded.warnings[1:]] == [
        "SAMPLER.PATCH.CENTRED_PATCH_DETERMINISTIC_EVAL",
        "SAMPLER.PATCH.CENTRED_PATCH_COORDINATE_PATH_SHEET",
        "SAMPLER.PATCH.CENTRED_PATCH_JITTER: 32.0 pixels; LaNNU-Net's is a share of half a patch, 0.5 of "
        "128 / 2.",
    ]


def test_its_word_patch_is_patch_bias(write):
    text = "DATASET: {SRC_TARGETS: a.json}\nOUTPUT: {OUTPUT_DIR: x}\nSAMPLER: {SAMPLE_MODE: patch, "
    loaded = load_config(write(text + "PATCH: {CENTRED_PATCH_COORDINATE_PATH: None}}\n"))
    assert (loaded.run.sampler.sample_mode, loaded.run.sampler.patch.centres) == ("patch_bias", None)


def test_fit_gauss_asks_for_a_decoder(write):
    text = "dataset: {src_targets: a.json}\noutput: {output_dir: x}\ninference: {fit_gauss: %s}\n"
    assert load_config(write(text % "true")).run.inference.decoder == "gaussian_fit"
    assert load_config(write(text % "false")).run.inference.decoder == "auto"


def test_an_unknown_key_is_still_refused(write):
    with pytest.raises(
        UserError, match=r"old\.yaml:16: SAMPLER\.INPUT_SIZES: unknown key\. Did you mean 'input_size'"
    ):
        load_config(write(OWN_DATA + "    INPUT_SIZES : [512,512]\n"))


def test_the_import_spells_out_its_defaults(write, tmp_path):
    text, dropped = import_config(write(OWN_DATA))
    assert dropped == []
    assert yaml.safe_load(text) == {
        "dataset": {"root": "/images", "src_targets": "/annotations/no_cv.json", "landmarks": [0, 1, 2, 3]},
        "sampler": {
            "input_size": [512, 512],
            "resize": "stretch",
            "data_aug": "AffineComplex",
            "data_aug_package": "imgaug",
            "num_workers": 0,
        },
        "solver": {
            "data_loader_batch_size_train": 32,
            "data_loader_batch_size_eval": 12,
            "optimizer": "sgd",
            "base_lr": 0.01,
            "max_epochs": 1000,
            "early_stopping_patience": 15,
            "loss_function": "mse",
        },
        "trainer": {"inference_only": False, "cache_data": False, "fold": -1},
        "model": {"gauss_sigma": 4},
        "output": {"output_dir": "/results"},
    }
    assert "optimizer: sgd  # LaNNU-Net's default" in text
    assert "early_stopping_patience: 15  # validations; LaNNU-Net counts epochs, 150" in text
    new = tmp_path / "new.yaml"
    new.write_text(text)
    loaded = load_config(new)
    assert loaded.warnings == ()
    assert (loaded.run.solver.optimizer, loaded.run.model.gauss_sigma) == ("sgd", 4)


def test_after_the_import_every_default_is_its_own(write, tmp_path):
    """The defaults that its documentation gives, by our keys; those of ours that differ are in the YAML."""
    (tmp_path / "new.yaml").write_text(
        import_config(write("DATASET: {SRC_TARGETS: a.json}\nOUTPUT: {OUTPUT_DIR: x}\n"))[0]
    )
    resolved = load_config(tmp_path / "new.yaml").resolved()
    its = {
        "sampler.sample_mode": "full",
        "sampler.input_size": [512, 512],
        "sampler.data_aug": "AffineComplex",
        "sampler.data_aug_package": "imgaug",
        "sampler.num_workers": 0,
        "solver.base_lr": 0.01,
        "solver.decay_policy": "poly",
        "solver.max_epochs": 1000,
        "solver.mini_batch_size": 150,
        "solver.data_loader_batch_size_train": 12,
        "solver.data_loader_batch_size_eval": 12,
        "solver.num_res_supervisions": 5,
        "solver.auto_mixed_precision": True,
        "solver.deep_supervision": True,
        "solver.loss_function": "mse",
        "trainer.validate_every": 10,
        "trainer.cache_data": True,
        "trainer.fold": 0,
        "trainer.inference_only": False,
        "model.gauss_sigma": 4,
        "model.hm_lambda_scale": 100.0,
        "model.checkpoint": None,
        "inference.split": "testing",
        "inference.evaluation_mode": "scale_heatmap_first",
    }
    ours = {key: resolved[key.split(".")[0]][key.split(".")[1]] for key in its}
    assert ours == its
    assert resolved["solver"]["early_stopping_patience"] * resolved["trainer"]["validate_every"] == 150
    its_network = {"init_features": 32, "max_features": 512, "min_feature_resolution": 4}
    assert resolved["model"]["unet"].items() >= its_network.items()


def test_the_import_lists_what_it_dropped_and_why_but_no_secret(write):
    text, dropped = import_config(write(EXAMPLE + "NONSENSE: {A: 1}\n"))
    assert [key for key, _ in dropped] == [
        "OUTPUT.USE_COMETML_LOGGING",
        "OUTPUT.COMET_API_KEY",
        "OUTPUT.COMET_TAGS",
        "INFERENCE.ENSEMBLE_UNCERTAINTY_KEYS",
        "DATASET.NAME",
        "TRAINER.PERFORM_VALIDATION",
        "MODEL.MODEL_GDRIVE_DL_PATH",
        "MODEL.GPFLOW.KERN",
        "SSH.AUTO_AMEND_PATHS",
        "NONSENSE.A",
        "SAMPLER.PATCH.CENTRED_PATCH_JITTER",
    ]
    assert dropped[-2] == ("NONSENSE.A", "LaNNU-Net has no such key")
    assert dropped[-1][1] == "it has no effect with sampler.sample_mode: full"
    for key, why in dropped:
        assert f"#   {key}: {why}\n" in text
    assert "secret" not in text
    data = yaml.safe_load(text)
    assert data["sampler"]["data_aug_package"] == "torch"
    assert data["inference"] == {"split": "testing", "decoder": "auto"}
    assert data["model"]["unet"] == {"init_features": 16}


def test_settings_of_a_model_that_is_not_installed_are_kept(write):
    text, dropped = import_config(
        write("MODEL: {ARCHITECTURE: PHD-Net, PHDNET: {MAXPOOL_FACTOR: 3}, GAUSS_SIGMA: 2}\n")
    )
    assert dropped == []
    assert yaml.safe_load(text)["model"] == {
        "architecture": "PHD-Net",
        "phdnet": {"maxpool_factor": 3},
        "gauss_sigma": 2,
    }


def test_patience_is_counted_in_validations(write):
    text, _ = import_config(write("SOLVER: {EARLY_STOPPING_PATIENCE: 40}\nTRAINER: {VALIDATE_EVERY: 20}\n"))
    assert yaml.safe_load(text)["solver"]["early_stopping_patience"] == 2


def test_a_key_in_two_spellings_is_refused(write):
    with pytest.raises(UserError, match=r"old\.yaml:2: solver\.seed is given twice"):
        import_config(write("SOLVER: {SEED: 1}\nsolver: {seed: 2}\n"))


# What LaNNU-Net's parser accepts

DATA = "DATASET: {SRC_TARGETS: a.json}\nOUTPUT: {OUTPUT_DIR: x}\n"


def told(loaded, path):
    return [warning.removeprefix(f"{path}:") for warning in loaded.warnings[1:]]


def test_of_a_key_given_twice_the_last_counts_and_the_others_are_named(write):
    text = (
        "DATASET: {SRC_TARGETS: a.json}\nSAMPLER:\n  DEBUG: True\n  DEBUG: False\n"
        "OUTPUT: {OUTPUT_DIR: x}\nMODEL: {GAUSS_SIGMA: 3}\nOUTPUT: {VERBOSE: True}\n"
    )
    path = write(text)
    loaded = load_config(path)
    assert loaded.run.sampler.debug is False
    assert str(loaded.run.output.output_dir) == "/output"  # its own default: all of the last section counts
    assert [warning.removeprefix(f"{path}:") for warning in loaded.warnings] == [
        "5: OUTPUT is ignored: line 7 gives it again, and the last one is used.",
        "3: DEBUG is ignored: line 4 gives it again, and the last one is used.",
        loaded.warnings[2].removeprefix(f"{path}:"),
        "7: OUTPUT.VERBOSE is ignored: it had no effect.",
        " output.output_dir: /output/ is LaNNU-Net's default; it is left out here.",
    ]
    assert "LaNNU-Net's keys are accepted" in loaded.warnings[2]
    text, dropped = import_config(path)
    assert dropped[:2] == [
        ("OUTPUT in line 5", "line 7 gives it again"),
        ("DEBUG in line 3", "line 4 gives it again"),
    ]
    assert yaml.safe_load(text)["output"] == {"output_dir": "/output/"}
    with pytest.raises(UserError, match=r"'solver' is given twice, in lines 3 and 4"):
        load_config(write(DATA + "solver: {seed: 1}\nsolver: {seed: 2}\n"))


PHDNET = DATA + "MODEL: {ARCHITECTURE: PHD-Net, PHDNET: {MAXPOOL_FACTOR: 3}, UNET: {INIT_FEATURES: 8}}\n"


def test_what_its_phdnet_has_of_a_unet_is_ignored(write):
    path = write(
        PHDNET + "SOLVER: {LOSS_FUNCTION: mse, DEEP_SUPERVISION: False, NUM_RES_SUPERVISIONS: 1}\n"
        "INFERENCE: {FIT_GAUSS: False}\n"
    )
    loaded = load_config(path)
    assert loaded.architecture.config.maxpool_factor == 3
    assert loaded.run.solver.deep_supervision  # the same as omitting it
    assert loaded.warnings[0].startswith(f"{path}: LaNNU-Net's keys are accepted")
    answered, beside = (
        "the plugin 'phdnet' (lannunet-phdnet 0.1.0) replaces its default (hook 'loss')",
        ("it has no effect with model.architecture: phdnet"),
    )
    assert told(loaded, path) == [
        "3: MODEL.UNET.INIT_FEATURES is ignored: the run has another architecture.",
        f"4: SOLVER.LOSS_FUNCTION is ignored: {answered}.",
        f"4: SOLVER.DEEP_SUPERVISION is ignored: {beside}.",
        f"4: SOLVER.NUM_RES_SUPERVISIONS is ignored: {beside}.",
    ]


@pytest.mark.parametrize(
    ("patch", "pixels"),
    [
        ("CENTRED_PATCH_JITTER: 0.5, SAMPLE_PATCH_SIZE: [128, 128]", 32),
        ("CENTRED_PATCH_JITTER: 1, SAMPLE_PATCH_SIZE: [64, 32]", 16),  # of the shorter side
        ("CENTRED_PATCH_JITTER: 0.25", 16),  # of its default patch
        ("CENTRED_PATCH_JITTER: 0.0", 0),
        ("centred_patch_jitter: 0.5", 32),
        ("jitter: 0.5", 0.5),  # ours
    ],
)
def test_its_jitter_is_a_share_of_half_a_patch(write, tmp_path, patch, pixels):
    path = write(DATA + f"SAMPLER: {{SAMPLE_MODE: patch_centred, PATCH: {{{patch}}}}}\n")
    loaded = load_config(path)
    assert loaded.run.sampler.patch.jitter == pixels
    assert any("is a share of half a patch" in warning for warning in loaded.warnings) == (
        pixels not in (0, 0.5)
    )
    (tmp_path / "new.yaml").write_text(import_config(path)[0])
    assert load_config(tmp_path / "new.yaml").run.sampler.patch.jitter == pixels


def test_a_jitter_that_is_none_of_its(write):
    path = write(DATA + "SAMPLER: {SAMPLE_MODE: patch_centred, PATCH: {CENTRED_PATCH_JITTER: 8}}\n")
    for read in (load_config, import_config):
        with pytest.raises(UserError, match=r"old\.yaml: .*CENTRED_PATCH_JITTER: found 8, .* from 0 to 1"):
            read(path)


def test_keys_that_it_reads_otherwise_are_named(write):
    path = write(
        DATA + "SOLVER: {BASE_LR: 0.01, REGRESS_SIGMA: True, REGRESS_SIGMA_LOSS_WEIGHT: 0.01, "
        "LOSS_FUNCTION: mse}\n"
        "SAMPLER: {SAMPLE_MODE: patch_centred, PATCH: {CENTRED_PATCH_COORDINATE_PATH: first.xlsx}}\n"
        "INFERENCE: {ENSEMBLE_CHECKPOINTS: [a.model]}\n"
    )
    loaded = load_config(path)
    assert loaded.run.inference.ensemble_checkpoints == []
    for said in (
        "3: SOLVER.BASE_LR: 0.01 is for SGD, LaNNU-Net's optimizer; here it is AdamW unless you set",
        "3: SOLVER.REGRESS_SIGMA_LOSS_WEIGHT: 0.01 weighs a different penalty than LaNNU-Net's",
        "4: SAMPLER.PATCH.CENTRED_PATCH_COORDINATE_PATH: first.xlsx is a sheet of LaNNU-Net's; here it is a",
        "5: INFERENCE.ENSEMBLE_CHECKPOINTS: [] are read",
    ):
        assert any(line.startswith(said) for line in told(loaded, path)), said


# The converted file

IMPORTED = {
    "phdnet": PHDNET + "SAMPLER: {SAMPLE_MODE: full, DATA_AUG: AffineComplex}\n",
    "phdnet with mse": PHDNET + "SOLVER: {LOSS_FUNCTION: mse, DEEP_SUPERVISION: False}\n",
    "phdnet, nothing said": DATA + "MODEL: {ARCHITECTURE: PHD-Net}\n",
    "awl": DATA + "SOLVER: {LOSS_FUNCTION: awl, DEEP_SUPERVISION: False, NUM_RES_SUPERVISIONS: 1}\n",
    "sigma": DATA + "SOLVER: {REGRESS_SIGMA: True, REGRESS_SIGMA_LOSS_WEIGHT: 0.01}\n",
    "patches": DATA + "SAMPLER: {SAMPLE_MODE: patch_bias, PATCH: {SAMPLE_PATCH_SIZE: [64, 64]}}\n",
    "centred": DATA + "SAMPLER: {SAMPLE_MODE: patch_centred, PATCH: {CENTRED_PATCH_JITTER: 1.0}}\n",
    "words": 'DATASET: {SRC_TARGETS: "1e5", ROOT: "2024-01-31"}\nOUTPUT: {OUTPUT_DIR: "null"}\n"A\\nB": 1\n',
    "example": EXAMPLE,
    "own data": OWN_DATA,
}


@pytest.mark.parametrize("kind", IMPORTED)
@pytest.mark.parametrize("hidden", ["", "imgaug"])
def test_what_the_import_writes_is_valid(write, tmp_path, monkeypatch, kind, hidden):
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", hidden)
    old = write(IMPORTED[kind])
    (tmp_path / "new.yaml").write_text(import_config(old)[0])
    loaded = load_config(tmp_path / "new.yaml")
    assert loaded.warnings == ()
    assert loaded.run.sampler.data_aug_package == ("torch" if hidden or kind == "example" else "imgaug")
    if kind.startswith("phdnet"):
        assert loaded.run.sampler.sample_mode == "full"  # its default, where the plugin suggests patches
        assert loaded.run.model.gauss_sigma == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "MODEL: {ARCHITECTURE: GPFlow}",
            r"old\.yaml:3: model\.architecture: No plugin 'GPFlow' is installed",
        ),
        (
            "SOLVER: {DATA_LOADER_BATCH_SIZE_EVAL: -1}",
            r"old\.yaml:3: solver\.data_loader_batch_size_eval: found -1",
        ),
        ("SAMPLER: 5", r"old\.yaml:3: sampler: found 5, should be a section of keys"),
        ("SAMPLER: 5\nsampler: {patch: {jitter: 3}}", "is given twice"),
        ("DATASET: [1]", "is given twice|dataset: found"),
    ],
)
def test_what_cannot_be_imported(write, text, message):
    with pytest.raises(UserError, match=message):
        import_config(write(DATA + text))


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().split(MARK)[0] + MARK + "\n" + table())
