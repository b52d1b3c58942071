"""Hooks read from source that is never run."""

import sys

import pytest

from lannunet_core.plugins.source import SourceError, hooks_in_source

PLUGIN = """
import not_installed_anywhere
from lannunet_core import Plugin, hookimpl
from .base import Base as Ground
raise RuntimeError("was run")

class Net(Ground):
    @hookimpl
    def network(self): ...

    @hookimpl(wrapper=True)
    def loss(self): ...

    @hookimpl(specname="generate_labels")
    def cut(self): ...

    def metrics(self): "not marked"

    @property
    def sampling(self): "marked as something else"
"""
BASE = """
import lannunet_core
class Base(lannunet_core.Plugin):
    @lannunet_core.hookimpl
    def observe(self, event): ...
    @lannunet_core.hookimpl
    def network(self): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_hooks_of_a_class_and_its_bases_without_running_them(folder):
    write(folder, far_pkg__sub__plugin=PLUGIN, far_pkg__sub__base=BASE)
    (folder / "far_pkg" / "__init__.py").write_text("raise RuntimeError('was run')")
    (folder / "far_pkg" / "sub" / "__init__.py").write_text("raise RuntimeError('was run')")
    assert hooks_in_source("far_pkg.sub.plugin:Net") == ["observe", "network", "loss", "generate_labels"]
    assert not any(name.startswith("far_pkg") for name in sys.modules)


def test_class_is_followed_through_imports(folder):
    write(folder, re_pkg__inner="from .deep import Net as Shown", re_pkg__deep=BASE.replace("Base", "Net"))
    (folder / "re_pkg" / "__init__.py").write_text("from re_pkg.inner import Shown as Net")
    assert hooks_in_source("re_pkg:Net") == ["observe", "network"]


def test_namespace_packages_are_found(folder):
    write(folder, name_space__net=BASE)
    assert hooks_in_source("name_space.net:Base") == ["observe", "network"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("flat_net:Other", "no class 'Other' in module 'flat_net'"),
        ("flat_nothing:Net", "no module 'flat_nothing'"),
        ("flat_net.sub:Net", "no module 'flat_net.sub'"),
        ("broken_net:Net", "cannot be read"),
        ("circle_net:Net", "no class 'Net'"),
        ("math:Net", "no Python source"),
    ],
)
def test_what_cannot_be_read_says_why(folder, value, message):
    write(folder, flat_net=BASE, broken_net="class (:", circle_net="from circle_net import Net")
    with pytest.raises(SourceError, match=message):
        hooks_in_source(value)


def test_a_class_that_is_its_own_base_ends(folder):
    write(folder, own_base=BASE.replace("lannunet_core.Plugin", "Base"))
    assert hooks_in_source("own_base:Base") == ["observe", "network"]
