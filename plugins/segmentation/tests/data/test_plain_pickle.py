"""Pickles of plain data; what is hostile is refused, and never crashes the process that reads it."""

import pickle
import pickletools
import random
from collections import OrderedDict

import numpy as np
import pytest
from lannunet_segmentation.data import plain_pickle
from lannunet_segmentation.data.plain_pickle import read_pickle

from lannunet_core.errors import UserError
from tests.fixtures.nnunet import refused

PLAIN = {
    "text": ["ä", "case_1", ""],
    "numbers": (1, -(2**40), 2**63, 0.5, True, None),
    "one": np.float64(3.5),
    "flag": np.bool_(True),
    "word": np.str_("abc"),
    "array": np.arange(6, dtype=np.int64).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3)),
    "names": np.array(["case_1", "é"]),
    "set": {1, "a"},
    "slice": slice(1, None),
    "ordered": OrderedDict([(0, "nonCT"), ((1, 2), b"bytes")]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path, protocol):
    shared = [1, 2]
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({**PLAIN, "shared": [shared, shared]}, protocol))
    found = read_pickle(tmp_path / "plain.pkl")
    for key in ("array", "columns", "big-endian", "flags", "none"):
        assert found[key].dtype == PLAIN[key].dtype
        np.testing.assert_array_equal(found.pop(key), PLAIN[key])
    assert found.pop("names") == ["case_1", "é"]
    assert found.pop("shared") == [[1, 2], [1, 2]]
    assert found == {key: value for key, value in PLAIN.items() if key in found}
    assert len(found) == 8


def state(*arguments):
    """An instruction BUILD with a state, on what lies on the stack."""
    return pickle.dumps(arguments, 2)[2:-1] + b"b"


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
TYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00i8I00\nI01\ntR"
OBJECT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8I00\nI01\ntR"
PARTS = b"(I3\nX\x01\x00\x00\x00<NX\x01\x00\x00\x00a}I8\nI1\nI0\ntb"
HOSTILE = {
    "a type that is rebuilt with parts": (TYPE + PARTS + b".", "several parts"),
    "an array of objects at an address": (OBJECT + b".", "O8"),
    "a shape beyond the bytes": (
        ARRAY
        + b"(I1\n(I1000\nt"
        + TYPE
        + state(3, "<", None, None, None, -1, -1, 0)
        + b"I00\nC\x08AAAAAAAAtb.",
        "do not fit",
    ),
    "an array without a state": (b"]" + ARRAY + b"a.", "does not use"),
    "a state for an array's array": (ARRAY + b"(tb.", "not enough values"),
    "a type of its own name": (b"cnumpy\nrecarray\n.", "numpy.recarray"),
    "a call of what it made": (b"]q\x00)R.", "it calls"),
    "a list in itself": (b"]q\x00h\x00a h\x00K\x01a.".replace(b" ", b""), "it changes"),
    "a list that grows by itself": (
        b"](K\x01K\x01eq\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60)) + b".",
        "values",
    ),
    "deep lists": (b"]" * 1000 + b"a" * 999 + b".", "levels"),
    "endless instructions": (b"\x80\x02]" + b"2" * 1_000_001 + b".", "instructions"),
    "a huge number": (b"\x8b" + (10**6).to_bytes(4, "little") + b"\x7f" * 10**6 + b".", "64 bits"),
    "a length beyond the file": (b"\x8e" + b"\xff" * 7 + b"\x7f" + b"a.", "plain pickle"),
    "an attribute": (pickle.dumps(np.random.default_rng(0)), "numpy.random"),
    "a persistent id": (b"Pa\n.", "PERSID"),
    "an extension": (b"\x82\x01.", "EXT1"),
    "no end": (b"]", "plain pickle"),
    "nothing": (b"", "plain pickle"),
}


@pytest.mark.parametrize(("content", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused(tmp_path, content, said):
    path = tmp_path / "splits_final.pkl"
    path.write_bytes(content)
    refused(path, said, call=lambda: read_pickle(path))


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 1000)
    (tmp_path / "large.pkl").write_bytes(pickle.dumps(b"0" * 2000))
    refused("large.pkl", "more than", call=lambda: read_pickle(tmp_path / "large.pkl"))


def test_mutated_pickles_are_read_or_refused(tmp_path):
    splits = [OrderedDict(train=np.array(["case_1"]), val=np.array(["case_0"]), n=np.float64(1))]
    seeds = [pickle.dumps(content, protocol) for content in (PLAIN, splits) for protocol in range(6)]
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    chance, path, ends = random.Random(0), tmp_path / "mutated.pkl", set()
    for _ in range(1000):
        content = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 2, 8))):
            at = chance.randrange(len(content))
            new = bytes(chance.choice(codes) for _ in range(chance.randrange(4)))
            content[at : at + chance.randrange(3)] = new or bytes([chance.randrange(256)])
        path.write_bytes(content)
        try:
            read_pickle(path)
            ends.add("read")
        except UserError as error:
            assert "\n" not in str(error)
            ends.add("refused")
    assert ends == {"read", "refused"}
