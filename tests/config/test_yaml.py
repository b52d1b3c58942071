import math

import pytest

from lannunet_core.config.yaml import inline_yaml, parse, read_override, read_yaml
from lannunet_core.errors import UserError


def read(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return read_yaml(path)


def test_each_value_knows_its_line(tmp_path):
    text = "solver:\n  base_lr: 1\n  seed:\n    0\nsampler: {input_size:\n  [64,\n   32]}\noutput: {}\n"
    found = {".".join(e.path): (e.value, e.where()) for e in read(tmp_path, text)}
    file = tmp_path / "my.yaml"
    assert found == {
        "solver.base_lr": (1, f"{file}:2"),
        "solver.seed": (0, f"{file}:3"),
        "sampler.input_size": ([64, 32], f"{file}:5"),
        "output": ({}, f"{file}:8"),
    }


def test_a_list_item_has_its_own_line(tmp_path):
    (entry,) = read(tmp_path, "a:\n  b:\n    - 1\n    - 2\n")
    assert entry.where(("a", "b", 1)) == f"{tmp_path / 'my.yaml'}:4"
    assert entry.where(("a",)) == f"{tmp_path / 'my.yaml'}:1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E5", -2e5),
        ("1.5e+3", 1500.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("12", 12),
        ("0", 0),
        (".inf", math.inf),
        ("true", True),
        ("null", None),
        ("", None),
        ("None", "None"),
        ("2024-01-31", "2024-01-31"),
        ("e3", "e3"),
        ("'1e-3'", "1e-3"),
        ("[0, 1]", [0, 1]),
    ],
)
def test_scalars(text, value):
    found, _ = parse(text, "x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\nb: 2\n", ":3:1: this is not YAML: while parsing a flow sequence from line 1 on, expected"),
        ("a:\n\t- b\n", ":2:1: this is not YAML: while scanning for the next token, found character '\\t'"),
        ("a: 1\nb: 2\na: 3\n", ":3:1: 'a' is given twice, in lines 1 and 3."),
        ("s:\n  k: 1\n  k: 1\n", ":3:3: 'k' is given twice, in lines 2 and 3."),
        ("a: !python/object:os.system {}\n", ":1:4: the YAML tag !python/object:os.system is not understood"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("[a]: 1\n", ":1:1: a key should be a word."),
        ("a: 1\n---\nb: 1\n", "expected a single document"),
        ("a: &x [*x]\n", "alias"),
        ("", "the file is empty, should be sections of keys (`dataset:`, `output:` …)."),
        ("# nothing\n", "the file is empty"),
        ("- a\n", ":1: found ['a'], should be sections of keys"),
        ("just words\n", ":1: found 'just words', should be sections of keys"),
        ("a: '\x07'\n", "special characters are not allowed"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith(str(tmp_path / "my.yaml"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"nope\.yaml: there is no such file"):
        read_yaml(tmp_path / "nope.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: not a text file in UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert [entry.path for entry in read_yaml(tmp_path / "bom.yaml")] == [("a",)]


def test_a_merged_mapping_gives_way_to_what_is_written(tmp_path):
    found = {e.path: e.value for e in read(tmp_path, "x: &x {a: 1, b: 2}\ny:\n  a: 3\n  <<: *x\n")}
    assert found[("y", "a")] == 3
    assert found[("y", "b")] == 2


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("solver.max_epochs=5", ("solver", "max_epochs"), 5),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("sampler.input_size=[64, 48]", ("sampler", "input_size"), [64, 48]),
        ("solver.base_lr=1e-3", ("solver", "base_lr"), 0.001),
        ("task=", ("task",), None),
        ("sampler={debug: true}", ("sampler", "debug"), True),
    ],
)
def test_overrides(text, path, value):
    (entry,) = read_override(text)
    assert (entry.path, entry.value, entry.where()) == (path, value, f"--set {text}")


@pytest.mark.parametrize("text", ["solver.max_epochs", "=5", "solver.=5", "a..b=1"])
def test_an_override_without_key_or_value(text):
    with pytest.raises(UserError, match=r"--set .*: should be KEY=VALUE"):
        read_override(text)


def test_an_override_that_is_no_yaml():
    with pytest.raises(UserError, match=r"^--set a=\[1: this is not YAML"):
        read_override("a=[1")


@pytest.mark.parametrize("value", [None, True, 0.001, "a: b", [1, 2], {}, "x" * 300])
def test_inline_is_one_line_that_reads_back(value):
    assert "\n" not in inline_yaml(value)
    assert parse(inline_yaml(value), "x")[0] == value
