from pathlib import Path

import pytest
import yaml

from lannunet_core.config.compose import load_config, load_resolved
from lannunet_core.errors import UserError

SHORT = "dataset: {src_targets: wings.json}\noutput: {output_dir: runs/wings}\n"

# Every documented key, except for those that have no effect with the others here.
EVERYTHING = """
task: landmarks
dataset:   {root: images/, src_targets: annotations.json, landmarks: [0, 1, 2], flip_pairs: [[0, 1]]}
sampler:   {sample_mode: full, input_size: [512, 512], resize: letterbox, data_aug: Upright,
            data_aug_package: torch, num_workers: auto, debug: false}
solver:    {optimizer: adamw, base_lr: auto, decay_policy: poly, budget_minutes: 30, max_epochs: auto,
            mini_batch_size: 150, data_loader_batch_size_train: 12, early_stopping_patience: 15,
            deep_supervision: true, num_res_supervisions: 5, loss_function: kl, regress_sigma: false,
            auto_mixed_precision: true, seed: 0}
trainer:   {fold: 0, validate_every: 10, cache_data: true, inference_only: false, plugins: []}
model:     {architecture: tiny, gauss_sigma: 2, checkpoint: null, tiny: {width: 32, stem: {kernel: 3}}}
inference: {split: testing, evaluation_mode: scale_heatmap_first, decoder: auto, tta: false, presence: false,
            ensemble_inference: false, ensemble_checkpoints: [], debug: false}
output:    {output_dir: runs/wings}
"""

MODULE = """
from pathlib import Path
from pydantic import BaseModel, Field
from lannunet_core import Plugin, PluginConfig, hookimpl

class Stem(PluginConfig):
    kernel: int = Field(5, ge=1, description="Side of the kernel.")

class TinyConfig(PluginConfig):
    width: int = Field(8, ge=1, description="Features.")
    stem: Stem = Field(default_factory=Stem, description="The first layer.")
    start: Path | None = Field(None, description="A file.")
    shape: tuple[int, int] = Field((1, 1), description="Two numbers.")
    rates: dict[str, float] = Field({}, description="By name.")

class Tiny(Plugin):
    Config = TinyConfig
    @hookimpl
    def network(self): ...

class SharpConfig(PluginConfig):
    strength: float = Field(description="How sharp.")

class Sharp(Plugin):
    Config = SharpConfig
    @hookimpl
    def loss(self): ...

class Names(Plugin):
    @hookimpl
    def losses(self): return {}

class Wraps(Plugin):
    @hookimpl(wrapper=True)
    def loss(self): return (yield)
"""


@pytest.fixture
def plugins(distribution):
    """Architecture tiny, extensions sharp (replaces the loss, needs a setting), names and wraps."""
    names = {"tiny": "Tiny", "My-Sharp": "Sharp", "SharpLoss": "Sharp", "names": "Names", "wraps": "Wraps"}
    distribution(
        "config-toys",
        {name: f"config_toys:{found}" for name, found in names.items()},
        {"config_toys.py": MODULE},
    )


@pytest.fixture
def load(tmp_path, plugins):
    """Load text as a YAML file; the architecture is `tiny` if the text names none."""

    def load(text, *overrides):
        path = tmp_path / "my.yaml"
        path.write_text(text)
        if "architecture" not in text.lower():
            overrides = ("model.architecture=tiny", *overrides)
        return load_config(path, overrides)

    return load


@pytest.fixture
def refusal(load, tmp_path):
    """The lines of the message that refuses the text, with a shortened file name."""

    def refusal(text, *overrides):
        with pytest.raises(UserError) as refused:
            load(text, *overrides)
        return str(refused.value).replace(str(tmp_path / "my.yaml"), "my.yaml").split("\n")

    return refusal


def test_two_keys_are_enough(load, tmp_path):
    loaded = load(SHORT)
    assert loaded.run.dataset.src_targets == tmp_path / "wings.json"
    assert loaded.run.dataset.images_folder == tmp_path
    assert loaded.run.output.output_dir == tmp_path / "runs/wings"
    assert loaded.warnings == ()
    assert (loaded.run.solver.base_lr, loaded.run.solver.max_epochs) == ("auto", "auto")


def test_the_example_of_every_documented_key_loads(load, tmp_path):
    loaded = load(EVERYTHING)
    assert loaded.warnings == ()
    assert loaded.run.dataset.root == tmp_path / "images"
    assert loaded.run.dataset.flip_pairs == [(0, 1)]
    assert loaded.architecture.config.width == 32
    assert loaded.architecture.config.stem.kernel == 3
    # Every documented value but the plugin's is also what is used when it is left out.
    short = load(SHORT).resolved()
    for section, keys in yaml.safe_load(EVERYTHING).items():
        if section not in ("task", "dataset", "output"):
            for key, value in keys.items():
                if key not in ("architecture", "tiny"):
                    assert short[section][key] == value, f"{section}.{key}"


def test_the_plugins_are_those_that_are_named(load):
    loaded = load(SHORT + "trainer: {plugins: [SHARP-LOSS, names], my_sharp: {strength: 2}}\n")
    assert loaded.architecture.installed.name == "tiny"
    assert loaded.architecture.plugin_class.__name__ == "Tiny"
    assert [plugin.installed.distribution for plugin in loaded.extensions] == ["config-toys", "config-toys"]
    assert loaded.extensions[0].config.strength == 2.0
    # The canonical names, whatever was written.
    assert loaded.run.model.architecture == "tiny"
    assert loaded.run.trainer.plugins == [loaded.extensions[0].installed.name, "names"]


@pytest.mark.parametrize("spelling", ["tiny", "TINY", "Ti-ny"])
def test_a_section_and_its_plugin_in_any_spelling(load, spelling):
    text = SHORT + f"model: {{architecture: {spelling}, {spelling}: {{WIDTH: 3, Stem: {{KERNEL: 7}}}}}}\n"
    config = load(text).architecture.config
    assert (config.width, config.stem.kernel) == (3, 7)


def test_an_alias_names_the_section_too(load):
    loaded = load(SHORT + "trainer: {plugins: [my-sharp], sharploss: {strength: 3}}\n")
    assert loaded.extensions[0].config.strength == 3.0


def test_upper_case_keys_are_the_same_keys(load):
    lower = load(EVERYTHING)
    upper = load(
        "\n".join(
            line.replace("solver:", "SOLVER:")
            .replace("mini_batch_size", "MINI_BATCH_SIZE")
            .replace("fold", "FOLD")
            for line in EVERYTHING.split("\n")
        )
    )
    assert upper.run == lower.run


@pytest.mark.parametrize("key", ["trainer.fold", "solver.seed"])
def test_zero_is_a_value(load, key):
    section, name = key.split(".")
    loaded = load(SHORT + f"{section}: {{{name}: 7}}\n", f"{key}=0")
    assert getattr(getattr(loaded.run, section), name) == 0
    assert loaded.given[key] == f"--set {key}=0"


def test_landmark_zero_is_chosen(load):
    assert load(SHORT, "dataset.landmarks=[0]").run.dataset.landmarks == [0]


def test_overrides_win_and_the_last_most(load):
    loaded = load(
        SHORT
        + "SOLVER: {MAX_EPOCHS: 1}\nmodel: {architecture: tiny, Ti-ny: {width: 3, stem: {kernel: 7}}}\n",
        "solver.max_epochs=2",
        "Solver.Max_Epochs=3",
        "model.tiny.width=4",
    )
    assert loaded.run.solver.max_epochs == 3
    assert (loaded.architecture.config.width, loaded.architecture.config.stem.kernel) == (4, 7)


def test_an_override_may_give_a_whole_section(load):
    loaded = load(SHORT, "sampler={debug: true, sample_mode: patch_bias, patch: {sampler_bias: 0}}")
    assert (loaded.run.sampler.debug, loaded.run.sampler.patch.sampler_bias) == (True, 0)


def test_sections_without_keys_are_left_out(load):
    assert (
        load(SHORT + "solver:\nmodel:\n  architecture: tiny\n  tiny:\n").resolved() == load(SHORT).resolved()
    )


def test_relative_paths_start_where_they_are_written(load, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = "dataset: {src_targets: ../a.json, root: ''}\noutput: {output_dir: /runs}\n"
    loaded = load(text, "model.checkpoint=best.safetensors", "model.tiny.start=x.bin")
    assert loaded.run.dataset.src_targets == tmp_path.parent / "a.json"
    assert loaded.run.output.output_dir == Path("/runs")
    assert loaded.run.model.checkpoint == elsewhere / "best.safetensors"
    assert loaded.architecture.config.start == elsewhere / "x.bin"
    given = load(SHORT + "model: {architecture: tiny, tiny: {start: x.bin}}")
    assert given.architecture.config.start == tmp_path / "x.bin"


def test_images_lie_beside_the_annotations_unless_said_otherwise(load, tmp_path):
    folder = tmp_path / "data" / "folds.v1"
    folder.mkdir(parents=True)
    text = "dataset: {src_targets: data/folds.v1}\noutput: {output_dir: x}\n"
    assert load(text).run.dataset.images_folder == folder
    assert load(text, "dataset.src_targets=/data/all.json").run.dataset.images_folder == Path("/data")
    assert load(text, "dataset.root=/images").run.dataset.images_folder == Path("/images")
    for nothing in ("''", "null"):
        assert (
            load(text.replace("folds.v1}", f"folds.v1, root: {nothing}}}")).run.dataset.images_folder
            == folder
        )


FULL = SHORT + "trainer: {plugins: [names, wraps]}\nmodel: {architecture: tiny, tiny: {rates: {A: 1e-3}}}\n"
REPLACING = SHORT + "trainer: {plugins: [my-sharp], my-sharp: {strength: 1}}\n"


@pytest.mark.parametrize("text", [SHORT, EVERYTHING, FULL, REPLACING])
def test_what_a_run_resolved_is_the_same_run(load, tmp_path, text):
    loaded = load(text, "solver.base_lr=1e-4", "model.checkpoint=best.safetensors")
    resolved = loaded.resolved()
    written = tmp_path / "other" / "config.yaml"
    written.parent.mkdir()
    written.write_text(yaml.safe_dump(resolved))
    for again in (load_config(written), load_resolved(resolved, "best.safetensors")):
        assert again.run == loaded.run
        assert again.architecture == loaded.architecture
        assert again.extensions == loaded.extensions
        assert again.resolved() == resolved
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved


def test_keys_inside_a_value_keep_their_case(load):
    loaded = load(FULL)
    assert loaded.architecture.config.rates == {"A": 0.001}
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SHORT + "solver:\n  max_epoch: 3\n",
            "my.yaml:4: solver.max_epoch: unknown key. Did you mean 'max_epochs'?",
        ),
        (
            SHORT + "solver: {MAXEPOCHS: 3}",
            "my.yaml:3: solver.MAXEPOCHS: unknown key. Did you mean 'max_epochs'?",
        ),
        (SHORT + "solvr: {seed: 1}", "my.yaml:3: solvr: unknown key. Did you mean 'solver'?"),
        (
            SHORT + "solver: {input_size: [64, 64]}",
            "my.yaml:3: solver.input_size: unknown key. Did you mean 'sampler.input_size'?",
        ),
        (
            SHORT + "trainer: {qqq: 1}",
            "my.yaml:3: trainer.qqq: unknown key. Known here: device, devices, num_nodes, validate_every, "
            "monitor, inference_only, plugins, fold, cache_data, cache_dtype, compile, channels_last.",
        ),
        (
            SHORT + "solver:\n  base_lr: fast",
            "my.yaml:4: solver.base_lr: found 'fast', should be a valid number or 'auto'.",
        ),
        (
            SHORT + "solver: {base_lr: -1}",
            "my.yaml:3: solver.base_lr: found -1, should be greater than 0 or 'auto'.",
        ),
        (
            SHORT + "solver: {base_lr: .nan}",
            "my.yaml:3: solver.base_lr: found nan, should be a finite number or 'auto'.",
        ),
        (SHORT + "solver: {seed: '5'}", "my.yaml:3: solver.seed: found '5', should be a valid integer."),
        (SHORT + "solver: {seed: true}", "my.yaml:3: solver.seed: found True, should be a valid integer."),
        (
            SHORT + "trainer: {cache_data: 1}",
            "my.yaml:3: trainer.cache_data: found 1, should be a valid boolean.",
        ),
        (
            SHORT + "sampler: {resize: crop}",
            "my.yaml:3: sampler.resize: found 'crop', should be 'letterbox' or 'stretch'.",
        ),
        (
            SHORT + "sampler:\n  input_size:\n  - 64\n  - -3\n",
            "my.yaml:6: sampler.input_size.1: found -3, should be greater than or equal to 8.",
        ),
        (
            SHORT + "sampler: {input_size: [64, 1000000]}",
            "my.yaml:3: sampler.input_size.1: found 1000000, should be less than or equal to 16384.",
        ),
        (
            SHORT + "sampler: {input_size: [9000, 9000, 9000]}",
            "my.yaml:3: sampler.input_size: found [9000, 9000, 9000], should be at most 2^30 pixels in all.",
        ),
        (
            SHORT + "sampler: {input_size: [64]}",
            "my.yaml:3: sampler.input_size: found [64], should have at least 2 items, not 1.",
        ),
        (
            SHORT + "sampler: {input_size: 64}",
            "my.yaml:3: sampler.input_size: found 64, should be a list.",
        ),
        (SHORT + "sampler: 64", "my.yaml:3: sampler: found 64, should be a section of keys."),
        (
            SHORT + "dataset: {src_targets: a.json}",
            "my.yaml:3:1: 'dataset' is given twice, in lines 1 and 3. Remove one of them.",
        ),
        (
            SHORT + "SOLVER: {SEED: 1}\nsolver: {seed: 2}",
            "my.yaml:4: solver.seed: solver.seed is also given in my.yaml:3: SOLVER.SEED. Remove one of "
            "them.",
        ),
        (
            "dataset: {src_targets: a.json, landmarks: [1, 1]}\noutput: {output_dir: x}",
            "my.yaml:1: dataset.landmarks: found [1, 1], should name each landmark once.",
        ),
        (
            "dataset: {src_targets: a.json, landmarks: [-1]}\noutput: {output_dir: x}",
            "my.yaml:1: dataset.landmarks.0: found -1, should be greater than or equal to 0.",
        ),
        (
            "dataset: {src_targets: a.json}\noutput: {output_dir: ''}",
            "my.yaml:2: output.output_dir: found '', should be a path.",
        ),
        (
            "dataset: {src_targets: 3}\noutput: {output_dir: x}",
            "my.yaml:1: dataset.src_targets: found 3, should be a path.",
        ),
        (
            SHORT + "model: {architecture: 3}",
            "my.yaml:3: model.architecture: found 3, should be a valid string.",
        ),
        (
            SHORT + "model: {architecture: tiny, tiny: {width: 0}}",
            "my.yaml:3: model.tiny.width: found 0, should be greater than or equal to 1.",
        ),
        (
            SHORT + "model: {architecture: tiny, TINY: {stem: {kernle: 3}}}",
            "my.yaml:3: model.TINY.stem.kernle: unknown key. Did you mean 'kernel'?",
        ),
        (
            SHORT + "trainer: {plugins: [my-sharp]}",
            "my.yaml:3: trainer.My-Sharp.strength: is missing. How sharp.",
        ),
        (
            SHORT + "trainer: {plugins: my-sharp}",
            "my.yaml:3: trainer.plugins: found 'my-sharp', should be a list.",
        ),
        (
            SHORT + "model: {architecture: tiny, names: {}}",
            "my.yaml:3: model.names: these are settings of the plugin 'names' (config-toys 1.0), which this "
            "run does "
            "not use. Name it in model.architecture or trainer.plugins, or remove them.",
        ),
        (
            SHORT + "trainer: {tiny: {width: 3}}",
            "my.yaml:3: trainer.tiny: the settings of the plugin 'tiny' (config-toys 1.0) are in model.tiny.",
        ),
        (
            SHORT + "model: {architecture: tiny, qqqq: {width: 3}}",
            "my.yaml:3: model.qqqq: unknown section; no plugin 'qqqq' is installed. Known here: "
            "architecture, checkpoint, gauss_sigma, hm_lambda_scale, tiny.",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(refusal, text, expected):
    assert refusal(text) == [expected]


def test_several_mistakes_are_told_at_once(refusal):
    lines = refusal("dataset: {root: x}\nsolver:\n  base_lr: -1\n  seeds: 2\n", "solver.mini_batch_size=0")
    assert sorted(lines) == [
        "--set solver.mini_batch_size=0: solver.mini_batch_size: found 0, should be greater than or "
        "equal to 1.",
        "my.yaml: output: is missing. Output files.",
        "my.yaml:1: dataset.src_targets: is missing. The JSON of annotations, a folder of foldK.json, or "
        "annotations of another format.",
        "my.yaml:3: solver.base_lr: found -1, should be greater than 0 or 'auto'.",
        "my.yaml:4: solver.seeds: unknown key. Did you mean 'seed'?",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("solver.max_epochs=x", "solver.max_epochs: found 'x', should be a valid integer or 'auto'."),
        ("SOLVER.max_epoch=3", "SOLVER.max_epoch: unknown key. Did you mean 'max_epochs'?"),
        ("sampler=5", "sampler: found 5, should be a section of keys."),
        ("output.output_dir=", "output.output_dir: found None, should be a path."),
    ],
)
def test_a_wrong_override_is_named(refusal, override, message):
    assert refusal(SHORT, override) == [f"--set {override}: {message}"]


def test_an_unknown_plugin_is_named_with_the_nearest(refusal):
    (line,) = refusal(SHORT + "model: {architecture: tinny}")
    assert line.startswith(
        "my.yaml:3: model.architecture: No plugin 'tinny' is installed. Did you mean 'tiny'?"
    )
    (line,) = refusal(SHORT + "trainer: {plugins: [namse]}")
    assert line.startswith(
        "my.yaml:3: trainer.plugins: No plugin 'namse' is installed. Did you mean 'names'?"
    )


@pytest.mark.parametrize("name", ["wraps", "sharp-loss"])
def test_an_architecture_brings_a_network(refusal, name):
    settings = ", sharp-loss: {strength: 1}" if name == "sharp-loss" else ""
    (line,) = refusal(SHORT + f"model: {{architecture: {name}{settings}}}")
    assert "model.architecture" in line
    assert "provides no network" in line


@pytest.mark.parametrize(
    ("key", "value", "known", "nearest"),
    [
        ("solver.loss_function", "msee", "kl, mse", "mse"),
        ("inference.decoder", "peek", "auto, peak", "peak"),
        ("sampler.data_aug", "AffineSimpel", "Upright, UprightElastic, Turned", "AffineSimple"),
    ],
)
def test_names_are_those_of_the_core_or_of_a_plugin(refusal, key, value, known, nearest):
    section, name = key.split(".")
    (line,) = refusal(SHORT + f"{section}: {{{name}: {value}}}")
    assert line.startswith(f"my.yaml:3: {key}: found '{value}', should be {known}")
    assert line.endswith(f"or a name that a plugin of this run provides. Did you mean '{nearest}'?")


def test_a_plugin_of_the_run_may_bring_the_name(load):
    text = SHORT + "trainer: {plugins: [names]}\nsolver: {loss_function: sharpest}\n"
    assert load(text).run.solver.loss_function == "sharpest"


def test_the_cores_names_are_those_that_exist():
    from lannunet_landmarks import schema
    from lannunet_landmarks.maps.decode import DECODERS
    from lannunet_landmarks.maps.losses import LOSSES

    from lannunet_core.augment.schemes import SCHEMES
    from lannunet_core.config.schema import SCHEME_NAMES

    assert set(SCHEME_NAMES) == set(SCHEMES)
    assert set(schema.DECODERS) == set(DECODERS)
    assert set(schema.LOSSES) == set(LOSSES)


def test_a_key_whose_hook_a_plugin_replaced_is_refused_where_it_is_set(load, refusal):
    chosen = "trainer: {plugins: [my-sharp], my-sharp: {strength: 1}}\n"
    (line,) = refusal(SHORT + chosen + "solver: {loss_function: kl}\n")
    assert line.startswith("my.yaml:4: solver.loss_function: found 'kl', but the plugin ")
    assert "(config-toys 1.0) replaces its default (hook 'loss'). Remove this key." in line
    loaded = load(SHORT + chosen)
    assert list(loaded.replaced) == ["solver.loss_function"]
    assert "loss_function" not in loaded.resolved()["solver"]


def test_a_plugin_that_only_changes_the_answer_leaves_the_key(load):
    assert load(SHORT + "trainer: {plugins: [wraps]}\nsolver: {loss_function: mse}\n").replaced == {}


def test_a_plugin_may_not_have_the_name_of_a_key(distribution, refusal):
    module = (
        "from lannunet_core import Plugin, hookimpl\n"
        "class P(Plugin):\n    @hookimpl\n    def network(self): ...\n"
    )
    distribution("bad-name", {"GaussSigma": "bad_name:P"}, {"bad_name.py": module}, version="0.3")
    assert refusal(SHORT + "model: {architecture: gauss-sigma}") == [
        "Plugin 'GaussSigma' (bad-name 0.3) cannot be used: its settings would be model.GaussSigma, and "
        "the core has "
        "a key model.gauss_sigma. Its author has to give it another name."
    ]


def test_settings_that_are_no_pydantic_model_are_refused(distribution, refusal):
    module = (
        "from lannunet_core import Plugin, hookimpl\n"
        "class P(Plugin):\n    Config = dict\n    @hookimpl\n    def network(self): ...\n"
    )
    distribution("bad-config", {"bad": "bad_config:P"}, {"bad_config.py": module}, version="0.4")
    (line,) = refusal(SHORT + "model: {architecture: bad}")
    assert "'bad' (bad-config 0.4)" in line
    assert "Config is not a pydantic model" in line


def test_a_broken_plugin_that_is_not_named_does_no_harm(distribution, load):
    distribution("broken", {"broken": "broken_module:P"}, {"broken_module.py": "raise RuntimeError"})
    assert load(SHORT).architecture.installed.name == "tiny"


def test_two_configurations_do_not_see_each_other(load):
    with_extension = load(SHORT + "trainer: {plugins: [my-sharp], my-sharp: {strength: 1}}\n")
    without = load(SHORT)
    assert list(with_extension.replaced) == ["solver.loss_function"]
    assert without.replaced == {}
    assert "My-Sharp" not in str(without.resolved())


# A second stage

STAGES = (
    SHORT
    + """sampler: {input_size: [160, 120], patch: {jitter: 3}}
solver: {seed: 7, max_epochs: 5}
model: {tiny: {width: 9}, checkpoint: first.pt}
refine:
  sampler: {patch: {sample_patch_size: [64, 48]}}
  solver: {max_epochs: 2}
"""
)


def test_a_second_stage_is_the_first_with_its_own_keys_over_it(load, tmp_path):
    loaded = load(STAGES)
    second = loaded.refine
    assert second.refine is None
    run = second.run
    assert (run.sampler.sample_mode, run.sampler.patch.resolution_to_sample_from) == ("patch_centred", "full")
    assert (run.sampler.patch.sample_patch_size, run.sampler.patch.jitter) == ((64, 48), 3)
    assert (run.solver.seed, run.solver.max_epochs) == (7, 2)
    assert run.output.output_dir == loaded.run.output.output_dir / "refine"
    assert run.dataset == loaded.run.dataset
    assert second.architecture.config.width == 9
    assert run.model.checkpoint is None  # it is a key of the first stage
    assert load(SHORT).refine is None
    assert load(STAGES, "refine.solver.max_epochs=3").refine.run.solver.max_epochs == 3
    assert load(STAGES, "refine=null").refine is None
    assert load(SHORT, "refine={}").refine.run.sampler.sample_mode == "patch_centred"
    resized = load(STAGES, "refine.sampler.patch.resolution_to_sample_from=input_size")
    assert resized.refine.run.sampler.image_size == (160, 120)


def test_a_second_stage_is_read_back(load, tmp_path):
    loaded = load(STAGES, "refine.model.checkpoint=there.pt")
    again = load_resolved(loaded.resolved(), str(tmp_path / "elsewhere" / "config.yaml"))
    assert again.refine.run == loaded.refine.run
    assert again.resolved() == loaded.resolved()
    assert again.refine.run.model.checkpoint.is_absolute()
    assert "refine" not in load(SHORT).resolved()


def test_a_second_stage_of_another_architecture(load, distribution):
    module = MODULE.replace("Tiny", "Other")
    distribution("lannunet-other", {"other": "other_net:Other"}, {"other_net.py": module})
    loaded = load(STAGES, "refine.model={architecture: other, other: {rates: {a: 1.0}}}")
    assert loaded.architecture.installed.name == "tiny"
    assert loaded.refine.architecture.installed.name == "other"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "refine.sampler.sample_mode=full",
            "refine.sampler.sample_mode: a second stage uses the first's predictions",
        ),
        (
            "refine.sampler.patch.centres=a.csv",
            "refine.sampler.patch.centres: a second stage uses the first's predictions",
        ),
        ("refine.trainer.fold=1", "refine.trainer.fold: the first stage has 0. Both stages hold out"),
        ("refine.dataset.root=x", "refine.dataset.root: a second stage has its own sampler, solver"),
        ("inference.evaluation_mode=use_input_size", "evaluation_mode cannot be use_input_size"),
        ("refine=3", "refine: found 3, should be a valid dictionary"),
    ],
)
def test_what_a_second_stage_cannot_have(load, override, message):
    with pytest.raises(UserError) as error:
        load(STAGES, override)
    assert message in str(error.value)


def test_a_mistake_in_the_second_stage_has_its_line(refusal):
    (line,) = refusal(STAGES.replace("max_epochs: 2", "max_epoch: 2"))
    assert line.startswith(
        "refine (the second stage): my.yaml:8: solver.max_epoch: unknown key. Did you mean"
    )


def test_the_cores_own_names_are_kept_in_one_spelling(tmp_path):
    (tmp_path / "my.yaml").write_text(SHORT + "model: {architecture: unet}\n")
    overrides = ["sampler.data_aug_package=Torch", "dataset.format=AUTO"]
    run = load_config(tmp_path / "my.yaml", overrides).run
    assert (run.sampler.data_aug_package, run.dataset.format) == ("torch", "auto")
