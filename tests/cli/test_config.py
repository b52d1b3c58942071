"""`lannunet config`: its commands as a user calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lannunet_core import cli

HEAVY = ("torch", "imgaug", "SimpleITK", "matplotlib", "lightning_fabric", "numpy", "scipy", "cv2")
SAMPLE = {"image": "a.png", "coordinates": [[3, 4], [5, 6]]}
ANNOTATIONS = json.dumps({split: [SAMPLE | {"id": split}] for split in ("training", "validation", "testing")})
SHORT = "dataset: {src_targets: wings.json}\noutput: {output_dir: runs}\n"
NETWORK = """
from typing import Literal
from pydantic import Field
from lannunet_core import Plugin, PluginConfig, hookimpl
class Inner(PluginConfig):
    depth: int = Field(3, description="Layers.")
class C(PluginConfig):
    width: int = Field(8, ge=1, description="Features.")
    unit: Literal["mm", "px"] = "px"
    inner: Inner = Inner()
class P(Plugin):
    Config = C
    @hookimpl
    def network(self): ...
"""
LOSS = """
from lannunet_core import Plugin, PluginConfig, hookimpl
class P(Plugin):
    @hookimpl
    def loss(self): ...
"""


def run(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(["config", *map(str, arguments)])
    return end.value.code or 0


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A valid YAML in the working directory, with its annotations."""
    monkeypatch.chdir(tmp_path)
    Path("wings.json").write_text(ANNOTATIONS)
    Path("a.png").touch()  # `check` opens no image
    Path("my.yaml").write_text(SHORT)
    return Path("my.yaml")


def test_check_says_that_a_configuration_is_valid(config, capsys):
    assert run("check", config) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("my.yaml: OK ('unet' (lannunet-unet ")
    assert printed.err == ""


def test_check_names_mistakes(config, capsys):
    config.write_text(SHORT + "solver:\n  max_epoch: 3\n  seed: x\n")
    assert run("check", config, "--set", "trainer.fold=-2") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    for line in (
        "my.yaml:4: solver.max_epoch: unknown key. Did you mean 'max_epochs'?",
        "my.yaml:5: solver.seed: found 'x', should be a valid integer.",
        "--set trainer.fold=-2: trainer.fold: found -2, should be greater than or equal to -1.",
    ):
        assert line in printed.err
    assert "Traceback" not in printed.err


def test_check_shows_warnings(config, capsys):
    config.write_text(SHORT + "OUTPUT: {VERBOSE: True}\n")
    assert run("check", config) == 0
    assert "Warning: my.yaml:3: OUTPUT.VERBOSE is ignored: it had no effect." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dataset.src_targets=nope.json",
            "dataset.src_targets: {here}/nope.json does not exist; give the JSON",
        ),
        ("dataset.root=nope", "dataset.root: {here}/nope does not exist; give the folder of the images"),
        ("model.checkpoint=nope.pt", "model.checkpoint: {here}/nope.pt does not exist; give a model file"),
    ],
)
def test_check_misses_files(config, capsys, override, message):
    assert run("check", config, "--set", override) == 2
    assert f"--set {override}: {message.format(here=Path.cwd())}" in capsys.readouterr().err


def test_check_looks_for_the_fold(config, capsys):
    folds = Path("folds")
    folds.mkdir()
    (folds / "a.png").touch()
    for fold in (0, 1):
        (folds / f"fold{fold}.json").write_text(ANNOTATIONS)
    config.write_text(SHORT.replace("wings.json", "folds") + "trainer: {fold: 0}\n")
    assert run("check", config) == 0
    assert run("check", config, "--set", "trainer.fold=2") == 2
    assert (
        f"fold2.json does not exist; {folds.absolute()} has fold0.json, fold1.json."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("command", "needs"), [("check", {"numpy"}), ("explain", set())])
def test_nothing_heavy_is_imported(config, command, needs):
    """`check` reads the annotations, and no image."""
    heavy = [name for name in HEAVY if name not in needs]
    script = (
        "import sys\nfrom lannunet_core.cli import main\n"
        f"try:\n    main(['config', {command!r}, 'my.yaml'])\n"
        f"finally:\n    print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "[]"
    assert ended.returncode == 0


def test_explain_shows_values_with_their_place_and_who_answers(config, capsys, distribution):
    distribution("toys", {"toyloss": "toy_loss:P"}, {"toy_loss.py": LOSS}, version="3.1")
    config.write_text(SHORT + "trainer:\n  plugins: [toyloss]\nsolver:\n  base_lr: 1e-3\n")
    assert run("explain", config, "--set", "solver.seed=0") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        f"output.output_dir: {Path.cwd() / 'runs'} # my.yaml:2",
        "solver.base_lr: 0.001 # my.yaml:6",
        "solver.seed: 0 # --set solver.seed=0",
        "solver.max_epochs: auto # default",
        "model.unet.init_features: 32 # default",
        "trainer.plugins: [toyloss] # my.yaml:4",
        "solver.loss_function: - # replaced by plugin 'toyloss' (toys 3.1)",
    ):
        assert line in lines
    hooks = lines[lines.index("Hooks, and the plugins that implement them, in the order of the calls:") + 1 :]
    assert "loss: toyloss 3.1, lannunet-core 0.1.0" in hooks
    assert "network: unet 0.1.0" in hooks
    assert "observe: nobody" in hooks


def refused(value, schema, root) -> list[str]:
    """Violations of a JSON Schema (the part of it that pydantic writes), by their path."""
    if "$ref" in schema:
        part = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            part = part[key]
        return refused(value, part, root)
    if "if" in schema:
        branch = "then" if not refused(value, schema["if"], root) else "else"
        return refused(value, schema[branch], root)
    if "anyOf" in schema:
        tried = [refused(value, alternative, root) for alternative in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return [""]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "null": value is None,
        "number": is_number,
        "integer": is_number and value == int(value),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    if "type" in schema and not fits[schema["type"]]:
        return [""]
    found = []
    if is_number:
        bounds = {
            "minimum": float.__ge__,
            "maximum": float.__le__,
            "exclusiveMinimum": float.__gt__,
            "exclusiveMaximum": float.__lt__,
        }
        found += [
            ""
            for key, holds in bounds.items()
            if key in schema and not holds(float(value), float(schema[key]))
        ]
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99):
            found.append("")
        kinds = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        for i, (item, kind) in enumerate(zip(value, kinds, strict=False)):
            found += [f".{i}{path}" for path in refused(item, kind, root)]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f".{key}" for key in schema.get("required", ()) if key not in value]
        for key, inner in value.items():
            if key in properties:
                found += [f".{key}{path}" for path in refused(inner, properties[key], root)]
            elif schema.get("additionalProperties") is False:
                found.append(f".{key}")
    return found


@pytest.fixture(scope="module")
def kept():
    """The schema, once it is made."""
    return {}


@pytest.fixture
def schema(kept, distribution, tmp_path):
    if kept:
        return kept
    distribution(
        "toys",
        {"toynet": "toy_net:P", "Toy-Net-2": "toy_net:P", "toyloss": "toy_loss:P"},
        {"toy_net.py": NETWORK, "toy_loss.py": LOSS},
    )
    assert run("schema", "-o", tmp_path / "schema.json") == 0
    kept |= json.loads((tmp_path / "schema.json").read_text())
    return kept


def test_schema_is_of_its_dialect_and_has_every_installed_plugin(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    model = schema["$defs"]["landmarks.ModelConfig"]["properties"]
    assert {"unet", "toynet", "Toy-Net-2"} <= set(model)
    assert {"unet", "toynet"} <= set(model["architecture"]["anyOf"][0]["enum"])
    assert "toyloss" in schema["$defs"]["landmarks.TrainerConfig"]["properties"]
    # The definitions of one plugin do not collide with those of another.
    assert schema["$defs"]["toynet.Inner"]["properties"]["depth"]["description"] == "Layers."


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")))
def test_schema_takes_our_own_configurations(schema, path):
    assert refused(yaml.safe_load(path.read_text()), schema, schema) == []


def test_schema_takes_what_is_valid_and_refuses_what_is_wrong(schema, config):
    config.write_text(
        SHORT + "sampler: {input_size: [64, 48, 32], num_workers: auto}\n"
        "model: {architecture: toynet, toynet: {width: 4, inner: {depth: 2}, unit: mm}}\n"
        "trainer: {plugins: [toyloss], toyloss: {}}\nsolver: {loss_function: of_a_plugin, base_lr: 0.01}\n"
    )
    assert refused(yaml.safe_load(config.read_text()), schema, schema) == []
    config.write_text(
        "dataset: {root: images}\noutput: {output_dir: runs}\nsampler: {input_size: [64]}\n"
        "model: {architecture: 3, toynet: {widht: 4, width: 0, inner: {depth: x}, unit: cm}}\n"
        "trainer: {plugins: toyloss, fold: -2}\nsolver: {seed: 1.5, deep_supervision: maybe}\nsolvr: {}\n"
    )
    assert refused(yaml.safe_load(config.read_text()), schema, schema) == [
        ".dataset.src_targets",
        ".sampler.input_size",
        ".model.architecture",
        ".model.toynet.widht",
        ".model.toynet.width",
        ".model.toynet.inner.depth",
        ".model.toynet.unit",
        ".trainer.plugins",
        ".trainer.fold",
        ".solver.seed",
        ".solver.deep_supervision",
        ".solvr",
    ]


@pytest.mark.slow
def test_schema_leaves_out_what_does_not_load_and_names_it(capfd, distribution):
    odd = LOSS + "    class Config(PluginConfig):\n        key: Callable[[], int] = len\n"
    distribution("broken", {"broken": "broken_toy:P"}, {"broken_toy.py": "raise RuntimeError('no')"})
    distribution("gone", {"gone": "gone_toy:P"}, {"gone_toy.py": "import os\nprint('bye')\nos._exit(0)"})
    distribution("one", {"same": "toy_loss:P"}, {"toy_loss.py": LOSS})
    distribution("other", {"same": "toy_loss:P"})
    distribution("odd", {"odd": "odd_toy:P"}, {"odd_toy.py": "from collections.abc import Callable\n" + odd})
    assert run("schema") == 0
    printed = capfd.readouterr()
    definitions = json.loads(printed.out)["$defs"]
    sections = {
        **definitions["landmarks.ModelConfig"]["properties"],
        **definitions["landmarks.TrainerConfig"]["properties"],
    }
    assert "unet" in sections
    assert not {"broken", "gone", "same", "odd"} & set(sections)
    for message in (
        "Left out: Plugin 'broken' (broken 1.0) cannot be imported",
        "Left out: Plugin 'gone' (gone 1.0) ended the interpreter (exit code 0)",
        "Left out: The plugin name 'same' is claimed by one 1.0",
        "Left out: Plugin 'odd' (odd 1.0): its Config cannot be described: ",
    ):
        assert message in printed.err


def test_import_writes_ours_and_lists_what_it_dropped(config, capsys):
    Path("old.yaml").write_text(
        "DATASET: {SRC_TARGETS: wings.json, NAME: wings}\nOUTPUT: {OUTPUT_DIR: out}\n"
        "MODEL: {ARCHITECTURE: U-Net}\n"
    )
    assert run("import", "old.yaml") == 0
    printed = capsys.readouterr()
    assert printed.err == "old.yaml: DATASET.NAME is dropped: the JSON has the name.\n"
    assert yaml.safe_load(printed.out)["solver"]["optimizer"] == "sgd"

    assert run("import", "old.yaml", "-o", "new.yaml") == 0
    assert Path("new.yaml").read_text() == printed.out
    assert run("check", "new.yaml") == 0
    assert "Warning" not in capsys.readouterr().err


def test_import_does_not_overwrite(config, capsys):
    assert run("import", config, "-o", config) == 2
    assert "my.yaml: the file exists already" in capsys.readouterr().err
    assert config.read_text() == SHORT
