"""Every key, of both tasks and every plugin, has an effect, or is refused if a user sets it."""

import json
from functools import cache

import pytest
from lannunet_landmarks.schema import PatchConfig

from lannunet_core.config.compose import load_config, load_resolved
from lannunet_core.config.yaml import inline_yaml
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.names import dotted
from lannunet_core.plugins import tasks
from tests.fixtures.projects import SPLITS, draw_project, draw_segmentation_project

SHORT = "dataset: {src_targets: a.json}\noutput: {output_dir: x}\n"

BASES = {
    "landmarks": SHORT,
    "segmentation": "task: segmentation\ndataset: {root: a}\noutput: {output_dir: x}\n"
    "sampler: {patch: {sample_patch_size: [16, 16]}}\n",
}
UNSEEN = {
    "sampler.num_workers": "how many processes load the same samples",
    "solver.auto_mixed_precision": "acts on devices that have it",
    "solver.data_loader_batch_size_eval": "how many images are predicted at once, with the same result",
    "solver.budget_minutes": "beside max_epochs: auto, whose runs take minutes (tests/run/test_sizing.py)",
    "solver.shortened": "beside a recorded max_epochs that is longer (tests/run/test_slowed.py)",
    "sampler.letterbox_in": "beside pixels that are no squares (plugins/landmarks/tests/data)",
    "model.unet.kernels": "beside pixels that are twice as long along an axis (plugins/unet/tests)",
    "trainer.device": "where the same is computed (tests/run/test_processes.py)",
    "trainer.devices": "how many processes train (tests/run/test_processes.py)",
    "trainer.num_nodes": "how many machines train (tests/run/test_processes.py)",
    "trainer.cache_data": "whether images are kept in memory",
    "trainer.compile": "how the network is computed (tests/run/test_speed.py)",
    "trainer.channels_last": "how weights are laid out (tests/run/test_speed.py)",
    "trainer.fold": "landmarks: which file of a folder of folds (plugins/cluster/tests/test_folds.py)",
    "inference.coverage": "of predictions with a calibration (tests/cli/test_predict.py)",
    "inference.correct_offsets": "of networks that have learned (landmarks/tests/predict/test_offsets.py)",
    "inference.centre_prior": "in a second stage (landmarks/tests/predict/test_prior.py)",
    "inference.shape_prior": "where a map has several peaks (landmarks/tests/predict/test_shape.py)",
    "inference.confidence_radius": "with 20 validation points (landmarks/tests/predict/test_confident.py)",
    "output.full_report": "how many cases have pictures (evaluation/test_report.py of both tasks)",
    "dataset.format": "names what a plugin provides (tests/contract)",
    "trainer.weighted.folder": "needs weight maps (plugins/weighted/tests)",
    "trainer.observer.tensorboard": "needs a library that is not a requirement",
    "trainer.observer.trackers": "needs libraries too (plugins/observer/tests/test_tracking.py)",
    "trainer.observer.project": "has an effect only with trackers",
}
"""Keys whose effect this test does not see, with the reason."""

MIRRORS = ("sampler.data_aug=AffineComplex",)
PATCHES = ("sampler.sample_mode=patch_bias", "sampler.patch.sample_patch_size=[16, 16]")
STAYS = ("solver.max_epochs=4", "solver.base_lr=1e-12", "solver.optimizer=sgd", "sampler.data_aug=None")
CENTRED = ("sampler.sample_mode=patch_centred", "sampler.patch.sample_patch_size=[16, 16]")
PHDNET = ("model.architecture=phdnet",)

SOLVER = {
    "optimizer": "sgd",
    "base_lr": 0.1,
    "decay_policy": "none",
    "max_epochs": 1,
    "mini_batch_size": 1,
    "data_loader_batch_size_train": 1,
    "early_stopping_patience": (1, STAYS),
    "deep_supervision": False,
    "num_res_supervisions": 1,
    "clip_gradient_norm": 1e-6,
    "accumulate": 2,
    "seed": 1,
}
UNET_KEYS = {
    "init_features": 2,
    "max_features": 4,
    "min_feature_resolution": 8,
    "dropout": 0.5,
    "strides": [[2, 2]],
}
EVERY_TASK = {
    "task": "nothing",
    **{f"solver.{key}": tried for key, tried in SOLVER.items()},
    **{f"model.unet.{key}": tried for key, tried in UNET_KEYS.items()},
    "trainer.validate_every": 2,
    "trainer.monitor": "-validation_error",
    "trainer.inference_only": True,
    "trainer.plugins": ["observer"],
    "model.architecture": "nothing",
    "model.checkpoint": "nowhere",
    "sampler.data_aug": "None",
    "sampler.data_aug_package": "imgaug",
    "sampler.debug": True,
    "output.output_dir": "elsewhere",
    "output.provenance": "full",
}
TRIED = {
    "landmarks": EVERY_TASK
    | {
        "dataset.root": "nowhere",
        "dataset.src_targets": "nowhere.json",
        "dataset.landmarks": [0],
        "dataset.flip_pairs": ([[0, 1]], MIRRORS),
        "trainer.cache_dtype": "float16",
        "sampler.sample_mode": "patch_bias",
        "sampler.input_size": [32, 24],
        "sampler.resize": "stretch",
        "sampler.normalisation": "none",
        "sampler.clip": ([[0.0, 200.0, 100.0, 20.0]], ("sampler.normalisation=ct",)),
        "sampler.patch.sample_patch_size": ([8, 8], PATCHES),
        "sampler.patch.sampler_bias": (0.0, PATCHES),
        "sampler.patch.resolution_to_sample_from": ("full", PATCHES),
        "sampler.patch.inference_mode": ("patchify_and_stitch", PATCHES),
        "sampler.patch.centres": ("nowhere.csv", CENTRED),
        "sampler.patch.jitter": (1.0, CENTRED),
        "sampler.patch.deterministic_jitter": (True, CENTRED),
        "solver.loss_function": "mse",
        "solver.regress_sigma": "isotropic",
        "solver.regress_sigma_loss_weight": (1.0, ("solver.regress_sigma=true", "solver.loss_function=mse")),
        "model.gauss_sigma": 4.0,
        "model.hm_lambda_scale": (10.0, ("solver.loss_function=mse",)),
        "inference.split": "validation",
        "inference.evaluation_mode": "scale_pred_coords",
        "inference.decoder": "dark",
        "inference.tta": (True, MIRRORS),
        "inference.mc_dropout": (2, ("model.unet.dropout=0.5",)),
        "inference.confidence_radius": 1.0,
        "inference.presence": True,
        "inference.ensemble_inference": True,
        "inference.ensemble_checkpoints": ["nowhere"],
        "inference.debug": True,
        "output.xlsx": True,
        "output.success_radii": [1.0],
        "refine": {"sampler": {"patch": {"sample_patch_size": [16, 16]}}},
    },
    "segmentation": EVERY_TASK
    | {
        "trainer.fold": 1,
        "dataset.split_seed": (1, ("trainer.fold=0",)),
        "dataset.root": "nowhere",
        "sampler.data_aug_package": ("imgaug", ("sampler.data_aug=payer19",)),
        "sampler.sample_mode": "nothing",
        "sampler.foreground_share": 1.0,
        "sampler.patch.sample_patch_size": [24, 16],
        "solver.loss_function": "nothing",
        "inference.split": "validation",
        "inference.tta": True,
        "inference.ensemble_inference": True,
        "inference.ensemble_checkpoints": ["nowhere"],
        "output.compare_with": ["nowhere"],
        "preprocess.spacing": [2.0, 2.0],
        "preprocess.interpolation": ("linear", ("preprocess.spacing=[2.0, 2.0]",)),
        "preprocess.normalisation": ["none"],
        "preprocess.clip": (
            [[0.0, 200.0, 100.0, 20.0]],
            ("preprocess.normalisation=[ct]", "preprocess.clip=[[0.0, 100.0, 50.0, 20.0]]"),
        ),
        "preprocess.previous_stage": "nowhere",
        "refine": {"preprocess": {"spacing": [2.0, 2.0]}},
    },
}
"""A value for each key, and beside which others it acts. One that is refused for what it is was inspected."""
IN_SEGMENTATION = {"trainer.validate_every", "trainer.monitor", "solver.early_stopping_patience"}

WEIGHTED, CLASS_WEIGHTS = ("trainer.plugins=[weighted]",), ("trainer.plugins=[ce-dice-weighted]",)
GENERATED = (*WEIGHTED, "trainer.weighted.generate=unet_border")
OF_PLUGINS = {
    "landmarks": {
        "model.phdnet.variant": ("residual", PHDNET),
        "model.phdnet.maxpool_factor": (2, PHDNET),
        "model.phdnet.branch_scheme": ("heatmap", PHDNET),
        "model.phdnet.class_label_scheme": ("binary", PHDNET),
        "model.phdnet.weight_disp_loss_by_heatmap": (False, PHDNET),
        "model.phdnet.log_transform_displacements": (False, PHDNET),
        "model.phdnet.clamp_dist": (8.0, PHDNET),
        "trainer.observer.radius": (50.0, ("trainer.plugins=[observer]",)),
    },
    "segmentation": {
        "trainer.sparse.balance": ("classes", ("trainer.plugins=[sparse]",)),
        "trainer.sparse.offset": ("centre", ("trainer.plugins=[sparse]",)),
        "sampler.foreground_share": (1.0, ("trainer.plugins=[sparse-normal-sampling]",)),
        "trainer.weighted.generate": ("nearest_border", GENERATED),
        "trainer.weighted.w0": (100.0, GENERATED),
        "trainer.weighted.sigma": (1.0, GENERATED),
        "trainer.weighted.ce_factor": (0.5, GENERATED),
        "trainer.weighted.dice_factor": (0.5, GENERATED),
        "trainer.ce-dice-weighted.class_weights": ([1.0, 9.0, 1.0], CLASS_WEIGHTS),
        "trainer.ce-dice-weighted.beta": (
            0.5,
            (*CLASS_WEIGHTS, "trainer.ce-dice-weighted.class_weights=effective_number"),
        ),
        "trainer.ce-dice-weighted.ignore_label": (1, CLASS_WEIGHTS),
    },
}
CASES = [
    (task, key, tried)
    for kind in (TRIED, OF_PLUGINS)
    for task, keys in kind.items()
    for key, tried in keys.items()
    if not (task == "segmentation" and key in IN_SEGMENTATION)
]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The results of a run (weights, metrics, tables, names of files) that do not differ between runs."""
    base = tmp_path_factory.mktemp("acting")
    projects = {
        # Enough images are held out to calibrate the confidence.
        "landmarks": draw_project(
            base / "landmarks", sizes=((40, 32),), input_size=[24, 24], splits={**SPLITS, "validation": 10}
        ),
        "segmentation": draw_segmentation_project(
            base / "segmentation", size=(28, 24), ending=".png", training=5, testing=1, patch=(16, 16)
        ),
    }
    projects["phdnet"] = draw_project(base / "phdnet", sizes=((40, 32),), input_size=[24, 24])
    del projects["phdnet"].config["model"]
    for project in projects.values():
        project.set(solver={"mini_batch_size": 2})
        project.write()
    numbers = iter(range(1000))

    def of(task, *overrides):
        folder = base / task / f"run{next(numbers)}"
        output = () if any("output_dir" in one for one in overrides) else (f"output.output_dir={folder}",)
        try:
            project = projects["phdnet" if PHDNET[0] in overrides else task]
            loaded = load_config(project.yaml, [*overrides, *output])
            tasks.find(task).train(loaded, overwrite=True)
        except (UserError, RunFailed) as error:
            return str(error)
        from lannunet_core import load_checkpoint

        folder = loaded.run.output.output_dir
        found = {"folder": "" if output else str(folder)}
        files = [path for path in folder.rglob("*") if path.is_file()]
        found["run.json"] = sorted(json.loads((folder / "run.json").read_text()))
        found["files"] = sorted(str(path.relative_to(folder)) for path in files)
        learner = load_checkpoint(folder).learner
        found["weights"] = {name: weight.flatten()[:50].tolist() for name, weight in learner.items()}
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found["metrics"] = [{**row, "seconds": None} for row in rows]
        for name in ("predictions.csv", "cases.csv", "summary.json"):
            if (folder / name).exists():
                found[name] = (folder / name).read_text()
        return found

    return cache(of)


@pytest.fixture(autouse=True)
def without_report(monkeypatch, tmp_path):
    """This takes most of the time of a small run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lannunet_landmarks.evaluation.results.write_report", lambda *_, **__: None)
    for name in ("_charts", "training_charts", "write_page"):
        monkeypatch.setattr(f"lannunet_segmentation.evaluation.report.{name}", lambda *_, **__: [])


@pytest.mark.parametrize(("task", "key", "tried"), CASES, ids=[f"{task}-{key}" for task, key, _ in CASES])
def test_a_key_acts(outcome, task, key, tried):
    value, beside = tried if isinstance(tried, tuple) else (tried, ())
    before, after = outcome(task, *beside), outcome(task, *beside, f"{key}={inline_yaml(value)}")
    assert isinstance(before, dict)
    refused = isinstance(after, str) and (key.split(".")[-1] in after or "nowhere" in after)
    assert refused or (isinstance(after, dict) and after != before)


@pytest.mark.parametrize("task", ["landmarks", "segmentation"])
def test_every_key_is_tried(write, task):
    path = write(BASES[task])
    chosen = {
        "landmarks": ["observer"],
        "segmentation": ["observer", "sparse", "weighted", "ce-dice-weighted"],
    }
    runs = [(f"trainer.plugins=[{plugin}]",) for plugin in chosen[task]]
    runs += [PHDNET] if task == "landmarks" else []
    every = set[str]()
    for run in runs:
        every |= keys_of(load_config(path, run))
    tried = {*TRIED[task], *OF_PLUGINS[task], *UNSEEN}
    assert every - tried - {"trainer.observer.radius"} == set()  # which is refused for segmentation, below


def keys_of(loaded):
    return dict(dotted(loaded.run.model_dump(mode="json", by_alias=True))).keys()


# Keys without effect are refused

FULL = ("sampler.sample_mode=full",)
BIAS = ("sampler.sample_mode=patch_bias",)
IDLE = {
    "landmarks": {
        FULL: [f"sampler.patch.{key}" for key in PatchConfig.model_fields],
        BIAS: [f"sampler.patch.{key}" for key in ("centres", "jitter", "deterministic_jitter")],
        CENTRED: ["sampler.patch.sampler_bias", "sampler.patch.inference_mode"],
        (*CENTRED, "sampler.patch.jitter=0"): ["sampler.patch.deterministic_jitter"],
        ("solver.loss_function=kl",): ["solver.regress_sigma_loss_weight", "model.hm_lambda_scale"],
        ("solver.loss_function=kl", "solver.regress_sigma=true"): ["solver.regress_sigma_loss_weight"],
        ("solver.loss_function=BCE-TopK",): ["model.hm_lambda_scale"],
        ("solver.loss_function=mse",): ["solver.regress_sigma_loss_weight"],
        ("solver.deep_supervision=false",): ["solver.num_res_supervisions"],
        ("solver.max_epochs=3",): ["solver.budget_minutes"],
        ("trainer.plugins=[observer]",): ["trainer.observer.project"],
        ("model.unet.strides=[[2, 2]]",): ["model.unet.min_feature_resolution"],
        PHDNET: [
            "solver.loss_function",
            "solver.deep_supervision",
            "solver.num_res_supervisions",
            "model.hm_lambda_scale",
            *(f"sampler.patch.{key}" for key in ("centres", "jitter", "deterministic_jitter")),
        ],
        (*PHDNET, "model.phdnet.branch_scheme=heatmap"): [
            "model.phdnet.weight_disp_loss_by_heatmap",
            "model.phdnet.log_transform_displacements",
        ],
        (*PHDNET, "model.phdnet.branch_scheme=displacement"): ["model.phdnet.class_label_scheme"],
        (*PHDNET, "model.phdnet.branch_scheme=heatmap", "model.phdnet.class_label_scheme=binary"): [
            "model.gauss_sigma"
        ],
    },
    "segmentation": {
        ("trainer.plugins=[sparse]",): ["sampler.foreground_share", "sampler.sample_mode"],
        ("trainer.plugins=[observer]",): ["trainer.observer.radius", "trainer.observer.project"],
        WEIGHTED: ["trainer.weighted.w0", "trainer.weighted.sigma"],
        GENERATED: ["trainer.weighted.folder"],
        CLASS_WEIGHTS: ["trainer.ce-dice-weighted.beta"],
        ("solver.deep_supervision=false",): ["solver.num_res_supervisions"],
        ("solver.max_epochs=3",): ["solver.budget_minutes"],
    },
}
OTHER = {
    "solver.budget_minutes": 5.0,
    "trainer.observer.radius": 5.0,
    "trainer.observer.project": "hands",
    "sampler.sample_mode": "foreground",
    "model.phdnet.class_label_scheme": "gaussian",
}
REFUSED = [
    pytest.param(task, beside, key, id=f"{task}-{','.join(beside)}-{key}")
    for task, idle in IDLE.items()
    for beside, keys in idle.items()
    for key in keys
]


@pytest.mark.parametrize(("task", "beside", "key"), REFUSED)
def test_what_does_nothing_is_refused_where_it_is_set(write, task, beside, key):
    """Setting the default is refused too, but the recorded configuration of a run loads."""
    path = write(BASES[task])
    loaded = load_config(path, beside)
    assert key in loaded.idle
    assert key not in dict(dotted(loaded.resolved()))
    defaults = dict(dotted(loaded.run.model_dump(mode="json", by_alias=True)))
    other = OTHER.get(key, (TRIED[task] | OF_PLUGINS[task]).get(key))
    for value in {inline_yaml(defaults[key]), inline_yaml(other[0] if isinstance(other, tuple) else other)}:
        with pytest.raises(UserError) as refused:
            load_config(path, [*beside, f"{key}={value}"])
        (line,) = str(refused.value).splitlines()
        assert line.startswith(f"--set {key}={value}: {key}: found ")
        assert line.endswith(" Remove this key.")
    assert load_resolved(loaded.resolved(), "best.safetensors").run == loaded.run


def test_a_fold_of_one_file_is_said_to_do_nothing(make_project, capsys):
    """Whether the key has an effect is known after the data set is read."""
    project = make_project(splits={"training": 1, "testing": 1})
    project.config["trainer"] = {"fold": 2}
    project.write()
    assert project.lannunet("config", "check", project.yaml) == 0
    said = capsys.readouterr().err
    line = project.yaml.read_text().splitlines().index("trainer: {fold: 2}") + 1
    assert f"warning: {project.yaml}:{line}: trainer.fold does nothing: dataset.src_targets (" in said
    assert project.lannunet("config", "check", project.yaml, "--set", "trainer.fold=-1") == 0
    assert "does nothing" not in capsys.readouterr().err


def test_validations_where_nothing_is_held_out(make_project, capsys):
    project = make_project(splits={"training": 1, "testing": 1})
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1, "early_stopping_patience": 3})
    assert project.train() == 0
    said = capsys.readouterr().err
    for key in ("trainer.validate_every", "solver.early_stopping_patience"):
        assert f": {key} has no effect: there is no annotated validation sample." in said
    assert project.lannunet("train", project.out / "config.yaml", "--resume") == 0
    assert "does nothing" not in capsys.readouterr().err  # no user set them


def test_each_has_its_line_and_the_reason(write):
    path = write(SHORT + "sampler:\n  patch: {jitter: 3}\nsolver: {max_epochs: 2, budget_minutes: 30}\n")
    with pytest.raises(UserError) as refused:
        load_config(path)
    assert str(refused.value).replace(str(path), "run.yaml").splitlines() == [
        "run.yaml:4: sampler.patch.jitter: found 3, but it has no effect with sampler.sample_mode: full. "
        "Remove this key.",
        "run.yaml:5: solver.budget_minutes: found 30, but it has no effect with solver.max_epochs: 2. "
        "Remove this key.",
    ]


def test_what_the_command_line_overrules_does_no_harm(write):
    path = write(
        SHORT + "solver: {budget_minutes: 30}\nsampler: {sample_mode: patch_bias, patch: {sampler_bias: 1}}\n"
    )
    loaded = load_config(path, ["solver.max_epochs=2", "sampler.sample_mode=full"])
    assert loaded.warnings == ()
    assert loaded.run.solver.budget_minutes == 30
    assert "budget_minutes" not in loaded.resolved()["solver"]


OPTIMIZERS = {
    "module": ["base_lr", "decay_policy", "optimizer"],
    "module, base_lr, total_steps": ["decay_policy", "optimizer"],
    "module, solver": [],
    None: [],
}


@pytest.mark.parametrize("arguments", OPTIMIZERS)
def test_an_optimizer_of_a_plugin(write, distribution, arguments):
    """Keys that the plugin's optimizer uses keep their effect, and a wrapper keeps the effect of all."""
    method = f"@hookimpl\n    def optimizer_and_scheduler(self, {arguments}): ..."
    if arguments is None:
        method = "@hookimpl(wrapper=True)\n    def optimizer_and_scheduler(self): return (yield)"
    module = f"from lannunet_core import Plugin, hookimpl\nclass P(Plugin):\n    {method}\n"
    distribution("toys", {"climber": "climber:P"}, {"climber.py": module})
    path = write(SHORT + "trainer: {plugins: [climber]}\n")
    refused = []
    for key, value in (("base_lr", 0.1), ("decay_policy", "poly"), ("optimizer", "adamw")):
        try:
            load_config(path, [f"solver.{key}={value}"])
        except UserError as error:  # noqa: PERF203
            assert "replaces its default (hook 'optimizer_and_scheduler'). Remove this key." in str(error)
            refused.append(key)
    assert refused == OPTIMIZERS[arguments]


CONFIGURED = """
from lannunet_core import Plugin, PluginConfig, hookimpl
class Config(PluginConfig):
    shape: str = "square"
    radius: float = 1.0
    def idle_keys(self, task):
        return {} if self.shape == "round" else {"radius": "shape", "model.gauss_sigma": "shape"}
class P(Plugin):
    Config = Config
    @hookimpl
    def metrics(self): return {}
"""


def test_a_plugin_says_which_keys_do_nothing(write, distribution):
    """Keys of the plugin itself, and keys of the task."""
    distribution("toys", {"Shapes": "shapes:P"}, {"shapes.py": CONFIGURED})
    path = write(SHORT + "trainer: {plugins: [shapes], shapes: {radius: 2}}\nmodel: {gauss_sigma: 3}\n")
    with pytest.raises(UserError) as refused:
        load_config(path)
    assert sorted(str(refused.value).replace(str(path), "run.yaml").splitlines()) == [
        "run.yaml:3: trainer.shapes.radius: found 2, but it has no effect with trainer.Shapes.shape: "
        "square. Remove this key.",
        "run.yaml:4: model.gauss_sigma: found 3, but it has no effect with trainer.Shapes.shape: square. "
        "Remove this key.",
    ]
    assert load_config(path, ["trainer.shapes.shape=round"]).extensions[0].config.radius == 2


def test_what_a_run_wrote_down_of_itself_loads(write, tmp_path):
    """Configurations of an earlier version load too, which also contain keys without effect."""
    run = tmp_path / "run"
    run.mkdir()
    text = SHORT + "solver: {max_epochs: 2, budget_minutes: 30}\nmodel: {hm_lambda_scale: 100.0}\n"
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError):
        load_config(run / "config.yaml")
    (run / "run.json").write_text("{}")
    assert load_config(run / "config.yaml").warnings == ()


STAGES = (
    SHORT
    + "sampler: {patch: {sample_patch_size: [64, 64], jitter: 3}}\nrefine: {sampler: {patch: {jitter: 2}}}\n"
)


def test_a_key_of_the_first_stage_that_acts_in_the_second(write):
    with pytest.raises(
        UserError, match=r"run\.yaml:3: sampler\.patch\.jitter: found 3, but it has no effect"
    ):
        load_config(write(STAGES))
    loaded = load_config(write(STAGES.replace(", jitter: 3", "")))
    assert loaded.refine.run.sampler.patch.sample_patch_size == (64, 64)
    again = load_resolved(loaded.resolved(), "config.yaml")
    assert (again.run.sampler, again.refine.run) == (loaded.run.sampler, loaded.refine.run)
    with pytest.raises(UserError, match=r"refine .*run\.yaml:4: sampler\.patch\.sampler_bias: found 0\.5"):
        load_config(write(STAGES.replace(", jitter: 3", "").replace("jitter: 2", "sampler_bias: 0.5")))
