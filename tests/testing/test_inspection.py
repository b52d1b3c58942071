"""Plugins inspected in separate processes."""

import sys

import pytest

from lannunet_core.plugins.discovery import find
from lannunet_core.testing import inspection
from lannunet_core.testing.inspection import look, look_here
from lannunet_core.testing.listing import WRONG_ANSWERS

HEAD = "from lannunet_core import Plugin, PluginConfig, hookimpl\n"
GOOD = (
    HEAD
    + '''
class P(Plugin):
    """Does one thing
    well.

    More of it."""

    @hookimpl
    def network(self):
        from torch import nn
        return nn.Identity()

    @hookimpl
    def metrics(self, predictions):
        raise ValueError("needs data")
'''
)


@pytest.fixture
def seen(distribution, request):
    """An inspection of a plugin with this source."""

    def see(source, **options):
        module = f"seen_{abs(hash(request.node.name))}"
        distribution("acme", {"Acme": f"{module}:P"}, {f"{module}.py": source}, version="3.1")
        (found,) = look([find("acme")], **options)
        assert module not in sys.modules
        return found

    return see


@pytest.fixture
def asked(distribution, request):
    """An inspection in this process, with the plugin's results and without importing torch."""

    def ask(source):
        module = f"seen_{abs(hash(request.node.name))}"
        distribution("acme", {"Acme": f"{module}:P"}, {f"{module}.py": source}, version="3.1")
        return look_here(find("acme"), WRONG_ANSWERS)

    return ask


def problem(found) -> str:
    (only,) = found.problems
    assert "'Acme' (acme 3.1)" in only
    assert "acme" in only.rpartition(". ")[2]  # the last sentence states what to do
    return only


def test_description_hooks_and_schema(seen):
    found = seen(GOOD)
    assert found.description == "Does one thing well."
    assert found.hooks == ["network", "metrics"]
    assert found.schema["properties"] == {}
    assert (found.problems, found.warnings) == ([], [])


def test_description_is_the_classes_own(seen):
    assert seen(HEAD + "class P(Plugin): pass").description == ""


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ValueError('the licence ran out')", "ValueError: the licence ran out"),
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("import sys; sys.exit()", "SystemExit"),
        (
            "import sys\nprint('last words', file=sys.stderr)\nimport os; os._exit(0)",
            "ended the interpreter (exit",
        ),
        ("import os\nos.write(1, b'{}'); os.close(1); os._exit(3)", "(exit code 3)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "(exit code -9)"),
        ("P = 3", "not a class derived from lannunet_core.Plugin"),
        (HEAD + "class P(Plugin):\n    Config = dict", "Config is not a pydantic model"),
        (HEAD + "class P(Plugin):\n    @hookimpl\n    def sampler(self): ...", "did you mean 'sampling'?"),
        (HEAD + "class P(Plugin):\n    @hookimpl\n    def loss(self, x): ...", "'x' is not an argument"),
    ],
)
def test_whatever_it_does_is_a_problem(seen, source, cause):
    assert cause in problem(seen(source))


def test_last_words_are_told(seen):
    found = seen("import os, sys\nprint('licence')\nprint('server away')\nsys.stdout.flush()\nos._exit(1)")
    assert "after writing: server away" in problem(found)


def test_reserved_name_is_a_problem(distribution):
    distribution("acme", {"checkpoint": "reserved:P"}, {"reserved.py": GOOD})
    (found,) = look([find("checkpoint")])
    assert "the core has a key model.checkpoint" in found.problems[0]


def test_one_that_hangs_is_ended_at_the_limit(seen, monkeypatch):
    monkeypatch.setattr(inspection, "TIME_LIMIT", 0.5)
    assert "did not respond within 0.5 s" in problem(seen("import time\ntime.sleep(300)"))


def test_what_it_leaves_running_does_not_hold_us_up(seen):
    threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()\n"
    child = (
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
    )
    exits = "import atexit, time\natexit.register(time.sleep, 300)\n"
    assert seen(threads + child + exits + GOOD).problems == []


def test_what_it_reads_is_empty(seen):
    assert "EOFError" in problem(seen("input()"))


def test_prints_are_a_warning(seen, capfd):
    found = seen("print('hello')\nimport os\nos.write(1, b'hello')\n" + GOOD)
    assert found.problems == []
    assert found.warnings == ["Plugin 'Acme' (acme 3.1) prints while it is imported; this went to stderr."]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_ten_seconds_are_a_warning(seen):
    found = seen(
        "import time\nend = time.process_time() + 10\nwhile time.process_time() < end: pass\n" + GOOD
    )
    assert found.problems == []
    assert found.warnings == ["Plugin 'Acme' (acme 3.1) took 10 s to import."]


def test_answers_are_asked_for_on_request(seen):
    wrong = GOOD.replace("nn.Identity()", "nn.Identity")
    assert seen(wrong).problems == []


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("nn.Identity()", None),
        ("nn.Identity", "'network' must return a torch.nn.Module"),
        ("None", "the result was None"),
        ("1 / 0", "failed in its hook 'network': ZeroDivisionError"),
        ("nn.Identity() if self.run.dimensions == 3 else 1 / 0", None),
        ("self.refuse()", None),
        ("__import__('sys').exit()", "failed in its hook 'network': SystemExit"),
    ],
)
def test_answers(asked, answer, cause):
    refuse = (
        "\n    def refuse(self):\n        from lannunet_core.errors import UserError\n"
        "        raise UserError('not for such runs')\n"
    )
    found = asked(GOOD.replace("nn.Identity()", answer) + refuse)
    if cause is None:
        assert found.problems == []
    else:
        assert cause in problem(found)


@pytest.mark.parametrize(("answer", "cause"), [("None", None), ("3", "'loss' must return a callable")])
def test_it_is_asked_about_a_task_that_it_serves(asked, answer, cause):
    source = (
        "class P(Plugin):\n    tasks = ('segmentation',)\n    @hookimpl\n    def loss(self):\n"
        f"        assert self.run.task == 'segmentation'\n        return {answer}\n"
    )
    found = asked(HEAD + source)
    if cause is None:
        assert found.problems == []  # the results of the core
    else:
        assert cause in problem(found)


def test_one_with_settings_that_must_be_given_is_not_asked(asked):
    needy = (
        "    class Config(PluginConfig):\n        must: int\n    @hookimpl\n    def loss(self): return 3\n"
    )
    assert asked(HEAD + "class P(Plugin):\n" + needy).problems == []


def test_many_keep_their_order(distribution):
    count = 7
    for i in range(count):
        distribution(
            f"acme-{i}", {f"acme{i}": f"acme_seen_{i}:P"}, {f"acme_seen_{i}.py": GOOD.replace("one", str(i))}
        )
    found = look([find(f"acme{i}") for i in range(count)])
    assert [one.description for one in found] == [f"Does {i} thing well." for i in range(count)]
