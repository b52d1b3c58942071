"""docs/hooks.md agrees with the specifications and docs/hook_examples.py, and every hook is tested.

Run as a script, this file writes the page.
"""

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lannunet_core import RunInfo, hookspecs
from lannunet_core.hookspecs import (
    Augmenter,
    BalancedLoss,
    Coordinates,
    Event,
    ExtraMap,
    Loss,
    Normalisation,
    ReportPart,
    Sampling,
    SigmaLoss,
    StridedLoss,
    TrainingStep,
)
from lannunet_core.plugins.manager import SPECS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "hooks.md"
SECTIONS = ("Args", "Attributes", "Returns")
WIDTH = 100

HEAD = """# Hooks

<!-- Written by `python tests/test_docs.py` from lannunet_core/hookspecs.py and
hook_examples.py. -->

"""
TYPES = """Types are those of `lannunet_core.hookspecs`. With `plugins = ["lannunet_core.mypy"]` in its
settings, mypy checks a plugin's hooks against these signatures. [The tutorial](tutorial.md) builds a plugin
and tests it."""


KINDS = (
    *(Loss, SigmaLoss, StridedLoss, BalancedLoss, TrainingStep, Sampling, Augmenter, Normalisation),
    *(Coordinates, ExtraMap, ReportPart, Event),
)


def page() -> str:
    parts = [HEAD + in_words(hookspecs), TYPES, table()]
    for name in SPECS:
        parts += [f"## {name}", signature(getattr(hookspecs, name)), rendered(getattr(hookspecs, name))]
        parts.append(f"```python\n{EXAMPLES[name]}```")
    parts.append("## Types of arguments and results")
    for kind in KINDS:
        parts += [f"### {kind.__name__}", rendered(kind)]
        for name, member in vars(kind).items():
            if isinstance(member, property):
                parts.append(f"`{name}`: {rendered(member)}")
            elif inspect.isfunction(member) and member.__doc__ and member.__module__ == hookspecs.__name__:
                parts += [signature(member), rendered(member)]
    parts += ["## What a plugin knows of its run: `self.run`", rendered(RunInfo)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table() -> str:
    rows = ["| hook | in runs of | results | what it is |", "|---|---|---|---|"]
    for name, spec in SPECS.items():
        words = in_words(getattr(hookspecs, name)).replace("\n", " ") + " "
        first = re.split(r"[.;] ", words)[0]
        tasks = ", ".join(spec.tasks) or "every task"
        counts = "one is used" if spec.single else "all are used"
        rows.append(f"| [`{name}`](#{name}) | {tasks} | {counts} | {first} |")
    return "\n".join(rows)


def signature(function) -> str:
    """The signature of the function as a method of a class."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    arguments = [ast.unparse(argument) for argument in node.args.args]
    if "self" not in arguments:
        arguments.insert(0, "self")
    answer = f" -> {ast.unparse(node.returns)}"
    line = f"def {node.name}({', '.join(arguments)}){answer}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){answer}"
    return f"```python\n{line}\n```"


def sections(documented) -> dict[str, str]:
    """A docstring's text under "", and its sections by name."""
    found, current = {"": ""}, ""
    for line in (inspect.getdoc(documented) or "").splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            current = line[:-1]
            found[current] = ""
        else:
            found[current] += line + "\n"
    return {name: textwrap.dedent(text).strip() for name, text in found.items()}


def in_words(documented) -> str:
    return sections(documented)[""]


def rendered(documented) -> str:
    found = sections(documented)
    parts = [found[""]]
    for name in ("Args", "Attributes"):
        if name in found:
            lines = [f"- `{key}`: {text}" for key, text in entries(found[name])]
            parts += ["\n".join(lines)]
    if "Returns" in found:
        parts.append(f"**Returns.** {found['Returns']}")
    return "\n\n".join(parts)


def entries(text: str) -> list[tuple[str, str]]:
    """`name: description` each, of one or several lines."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(" "):
            key, before = found[-1]
            found[-1] = key, f"{before} {line.strip()}"
        else:
            key, _, rest = line.partition(": ")
            found.append((key, rest))
    return found


def examples() -> dict[str, str]:
    """The method of docs/hook_examples.py for each hook, its decorator included."""
    lines = (DOCS / "hook_examples.py").read_text().splitlines(keepends=True)
    (plugin,) = [node for node in ast.parse("".join(lines)).body if isinstance(node, ast.ClassDef)]
    methods = [node for node in plugin.body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: textwrap.dedent("".join(lines[node.decorator_list[0].lineno - 1 : node.end_lineno]))
        for node in methods
    }


EXAMPLES = examples()


def source_of_examples(*hooks) -> str:
    """A module with a plugin of the examples of these hooks."""
    methods = "\n".join(textwrap.indent(EXAMPLES[hook], "    ") for hook in hooks)
    return f"from lannunet_core import Plugin, hookimpl\n\nclass Examples(Plugin):\n{methods}"


def test_the_page_is_in_step():
    assert PAGE.read_text() == page(), f"run python {__file__}"


def test_every_hook_says_what_its_arguments_and_answer_are():
    for name, spec in SPECS.items():
        function = getattr(hookspecs, name)
        assert function.__doc__, name
        documented = [key for key, _ in entries(sections(function).get("Args", ""))]
        assert documented in ([], list(spec.arguments)), name
        assert "return" in function.__annotations__, name


def test_every_hook_has_an_example_of_itself():
    assert set(EXAMPLES) == set(SPECS)
    for hook, text in EXAMPLES.items():
        (method,) = ast.parse(text).body
        assert {argument.arg for argument in method.args.args} <= {"self", *SPECS[hook].arguments}, hook


RECORDER = """
from lannunet_core import Plugin, hookimpl
from lannunet_core.plugins.manager import SPECS

called = set()

def wrapping(name):
    def wrapper(self):
        called.add(name)
        return (yield)
    return hookimpl(wrapper=True, specname=name)(wrapper)

class Recorder(Plugin):
    pass

for name in SPECS:
    setattr(Recorder, name, wrapping(name))
"""


OF_SEGMENTATION = {name for name, spec in SPECS.items() if spec.tasks == ("segmentation",)}


def test_a_run_asks_every_hook_and_uses_what_the_examples_answer(project, distribution):
    distribution(
        "examples",
        {"examples": "examples:Examples"},
        {"examples.py": source_of_examples(*[hook for hook in SPECS if hook not in ("loss", "sampling")])},
    )
    distribution("recorder", {"recorder": "recorder:Recorder"}, {"recorder.py": RECORDER})
    patch = {"sample_patch_size": [24, 16], "inference_mode": "patchify_and_stitch"}
    project.config["model"] = {"architecture": "examples"}
    project.set(
        sampler={
            "data_aug": "UpsideDown",
            "data_aug_package": "examples",
            "debug": True,
            "sample_mode": "patch_bias",
            "patch": patch,
        },
        solver={"loss_function": "mse-of-peak-1"},
        trainer={"plugins": ["recorder"]},
        inference={"debug": True},
    )
    assert project.train() == 0
    assert sys.modules["recorder"].called == set(SPECS) - OF_SEGMENTATION
    assert len((project.out / "losses.txt").read_text().splitlines()) == 2  # observe
    assert "share without a point" in (project.out / "summary.json").read_text()  # metrics
    assert (project.out / "debug" / "batch.npz").is_file()  # debug_sample
    assert (project.out / "debug" / "confidence.txt").is_file()  # debug_prediction
    assert project.metrics()[0]["lr"] != pytest.approx(2e-3)  # optimizer_and_scheduler starts low


def test_a_segmentation_run_asks_its_hooks_and_uses_what_the_examples_answer(segmentation, distribution):
    distribution(
        "examples", {"examples": "examples:Examples"}, {"examples.py": source_of_examples(*OF_SEGMENTATION)}
    )
    distribution("recorder", {"recorder": "recorder:Recorder"}, {"recorder.py": RECORDER})
    segmentation.set(trainer={"plugins": ["examples", "recorder"]})
    (segmentation.raw / "trust").mkdir()
    np.save(segmentation.raw / "trust" / "Tr0.npy", np.full((16, 24, 20), np.nan))
    assert segmentation.train() == 2  # extra_maps: NaN weights are refused
    for number in range(5):
        np.save(segmentation.raw / "trust" / f"Tr{number}.npy", np.ones((16, 24, 20)))
    assert segmentation.train() == 0
    assert sys.modules["recorder"].called >= OF_SEGMENTATION
    predicted = sitk.ReadImage(str(segmentation.out / "predictions" / "Ts0.nii.gz"))
    assert not sitk.GetArrayFromImage(predicted).any()  # get_segmentation: no voxel is certain


def test_the_examples_of_loss_sampling_and_decoders_train(project, distribution):
    """Three examples that would exclude others in the same run."""
    distribution(
        "examples",
        {"examples": "examples:Examples"},
        {"examples.py": source_of_examples("network", "loss", "sampling", "decoders")},
    )
    project.config["model"] = {"architecture": "examples"}
    assert project.train("--set", "inference.decoder=unsure") == 0
    assert all(0 <= float(row["confidence"]) <= 0.5 for row in project.rows())


if __name__ == "__main__":
    PAGE.write_text(page())
