"""Any text gives a configuration or one error message, in bounded time and memory."""

import string
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st
from lannunet_landmarks.lannunet_yaml import import_config

from lannunet_core.config.compose import load_config, load_resolved
from lannunet_core.errors import UserError

SHORT = "dataset: {src_targets: a.json}\noutput: {output_dir: x}\n"
LETTERS = string.ascii_lowercase


def ten_of_the_one_before(line):
    """Nine lines, each of which repeats the one before ten times."""
    return "".join(line.format(a=LETTERS[n + 1], many=",".join([f"*{LETTERS[n]}"] * 10)) for n in range(9))


def checkpoint(value):
    return f"model: {{checkpoint: {value}}}"


TEXTS = {
    "alias bomb": ("a: &a [x]\n" + ten_of_the_one_before("{a}: &{a} [{many}]\n"), "more than 20000 values"),
    "merged bomb": (
        "a: &a {x: 1}\n" + ten_of_the_one_before("{a}: &{a} {{<<: [{many}], {a}: 1}}\n"),
        "more than 20000 values",
    ),
    "itself": ("a: &a [*a]", "alias"),
    "itself merged": ("a: &a {<<: *a}", "alias"),
    "deep": ("solver: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "many keys": ("solver: {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}", "more."),
    "long": ("#" * 300_000, "more than 262144 bytes"),
    "a long number": ("solver: {seed: " + "9" * 5000 + "}", ":3:"),
    "a long hexadecimal": ("solver: {seed: 0x" + "f" * 5000 + "}", "larger than any allowed number"),
    "a large number": ("solver: {base_lr: " + "9" * 400 + "}", "larger than any allowed number"),
    "infinite": ("solver: {base_lr: 1e999}", "finite number"),
    "surrogate": (checkpoint('"\\uD800"'), "no file can have"),
    "a surrogate as key": ('"\\uD800": 1', "no file can have"),
    "no byte": (checkpoint('"a\\0b"'), "no file can have"),
    "beyond Unicode": (checkpoint('"\\U00110000"'), "not YAML"),
    "beyond C": (checkpoint('"\\UFFFFFFFF"'), "not YAML"),
    "long name": (checkpoint("a" * 300), "at most 255 bytes"),
    "long name of two bytes a letter": (checkpoint("ä" * 200), "at most 255 bytes"),
    "long path": (checkpoint("a/" * 3000), "a path that the system supports"),
    "long plugin": ("model: {architecture: " + "a" * 300 + ".py}", "model.architecture"),
    "no user": (checkpoint("~nobody-at-all/x"), "no such user"),
    "windows": (checkpoint('"C:\\Users\\me"'), "a backslash begins an escape"),
    "windows, read as a tab": (checkpoint('"C:\\temp\\x"'), "a backslash begins an escape"),
    "backslashes": (checkpoint("runs\\first"), "backslashes"),
    "no number": ('solver: {seed: !!int ""}', "or its tag"),
    "no boolean": ("solver: {seed: !!bool x}", "or its tag"),
    "no date": ("solver: {seed: !!timestamp x}", "or its tag"),
    "an object": ("solver: !!python/object:os.system {}", "is not understood"),
    "a list as key": ("? [a]\n: 1", "a key should be a word"),
    "a list as section": ("solver: [1]", "section of keys"),
    "a scalar over the second stage": ("refine: {sampler: 5}", "refine"),
    "no plugin's name": ("trainer: {plugins: ['']}", "trainer.plugins: No plugin ''"),
    "a directive": ("%YAML 1.1\n", "not YAML"),
    "two sections": ("OUTPUT: 5", "section|also given"),
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("kind", TEXTS)
def test_a_hostile_text_gets_a_sentence(write, kind):
    text, said = TEXTS[kind]
    started = time.perf_counter()
    with pytest.raises(UserError, match=said) as refused:
        load_config(write(SHORT + text))
    assert len(str(refused.value)) < 20_000
    ends_well(import_config, write(SHORT + text))
    ends_well(import_config, write((SHORT + text).upper()))
    assert time.perf_counter() - started < 10


def ends_well(read, path):
    try:
        return read(path)
    except UserError as error:
        assert str(error)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(["auto", "full", "unet"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = yaml.safe_load("""
DATASET: [SRC_TARGETS, ROOT, LANDMARKS, NAME]
SAMPLER: [SAMPLE_MODE, INPUT_SIZE, DATA_AUG, DATA_AUG_PACKAGE, PATCH]
SOLVER: [SEED, BASE_LR, DECAY_POLICY, EARLY_STOPPING_PATIENCE, LOSS_FUNCTION, REGRESS_SIGMA]
TRAINER: [VALIDATE_EVERY, FOLD, INFERENCE_ONLY]
MODEL: [ARCHITECTURE, CHECKPOINT, UNET, PHDNET, GPFLOW]
INFERENCE: [FIT_GAUSS, SPLIT, ENSEMBLE_CHECKPOINTS]
OUTPUT: [OUTPUT_DIR, VERBOSE]
""")
PATCH = ["SAMPLE_PATCH_SIZE", "CENTRED_PATCH_JITTER", "CENTRED_PATCH_COORDINATE_PATH", "JITTER"]


@st.composite
def lannunets(draw):
    """A YAML with LaNNU-Net's words, and anything as values."""
    tree = {"DATASET": {"SRC_TARGETS": "a.json"}, "OUTPUT": {"OUTPUT_DIR": "x"}}
    for section in draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=4)):
        keys = draw(st.lists(st.sampled_from(KEYS[section]), max_size=3))
        tree[section] = {key: draw(values) for key in keys} if draw(st.integers(0, 9)) else draw(values)
    if isinstance(tree["DATASET"], dict):
        tree["DATASET"]["SRC_TARGETS"] = "a.json"
    if isinstance(tree.get("SAMPLER"), dict) and draw(st.booleans()):
        tree["SAMPLER"]["PATCH"] = {key: draw(values) for key in draw(st.lists(st.sampled_from(PATCH)))}
    return tree


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=lannunets(), lower=st.booleans())
def test_any_values_give_a_configuration_or_a_sentence(write, tree, lower):
    text = yaml.safe_dump(tree)
    path = write(text.lower() if lower else text)
    ends_well(load_config, path)
    if (written := ends_well(import_config, path)) and "src_targets is missing" not in written[0]:
        load_config(write(written[0]))  # the written file is valid


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab:,[]{}&*<>!|#'\"\\-?% \n\t0x1.eä\u2028", max_size=60))
def test_any_text_gives_a_configuration_or_a_sentence(write, text):
    ends_well(load_config, write(SHORT + text))
    ends_well(load_config, write(text))
    ends_well(import_config, write(SHORT.upper() + text))


DAMAGED = {
    "keys": {1: 2},
    "a tuple as key": {(1,): 2},
    "bytes": b"x",
    "a set": {1},
    "a long number": 10**5000,
    "a large number": 10**400,
    "surrogate": "\ud800",
    "nothing": None,
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("place", ["solver", "solver.base_lr", "output.output_dir", "model.unet"])
def test_a_damaged_configuration_of_a_model_gets_a_sentence(write, kind, place):
    data = load_config(write(SHORT)).resolved()
    *sections, name = place.split(".")
    inner = data
    for section in sections:
        inner = inner[section]
    inner[name] = DAMAGED[kind]
    if (kind, place) in (("nothing", "solver"), ("nothing", "model.unet")):
        load_resolved(data, "best.safetensors")  # a section without keys
        return
    with pytest.raises(UserError, match=r"best\.safetensors"):
        load_resolved(data, "best.safetensors")


def test_an_override_of_many_keys(write):
    with pytest.raises(UserError, match="should be KEY=VALUE"):
        load_config(write(SHORT), [".".join(["a"] * 5000) + "=1"])
