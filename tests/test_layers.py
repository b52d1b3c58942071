"""Three layers: models → tasks → engine. Imports are read, lazy and `TYPE_CHECKING` ones included."""

import ast
import graphlib
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = "lannunet_core"
TASKS = ("lannunet_landmarks", "lannunet_segmentation")
LIBRARIES = (
    "lannunet_images",
    "lannunet_report",
)  # libraries of tasks and plugins: they import only the engine
FOLDERS = [ROOT / ENGINE, *(path.parent for path in ROOT.glob("plugins/*/lannunet*/__init__.py"))]
PACKAGES = {folder.name: folder for folder in FOLDERS}
MODULES = {
    ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in folder.rglob("*.py")
}
NEVER = [
    *((ENGINE, other) for other in PACKAGES if other != ENGINE),
    *((task, other) for task in TASKS for other in PACKAGES if other not in (ENGINE, task, *LIBRARIES)),
    *((library, other) for library in LIBRARIES for other in PACKAGES if other not in (ENGINE, library)),
]

WORDS = re.compile(r"landmark|heatmap|segmentation|(?<![^\W_])unet(?![^\W_])", re.IGNORECASE)
EXCEPTIONS = {
    "hookspecs.py": "the contract of every task, in one file",
    "config/schema.py": "the task of a YAML that names none",
}


def package_of(module: str) -> str:
    return module.partition(".")[0]


def imported(module: str) -> list[tuple[str, str | None]]:
    """Our modules that a module imports: (module, name), or (module, None) if all of it is imported."""
    found: list[tuple[str, str | None]] = []
    aliases: dict[str, str] = {}
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports from {'.' * node.level}{node.module or ''}"
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names if not alias.asname]
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
    used = {(node.value.id, node.attr) for node in ast.walk(tree) if is_attribute(node)}
    found += [(aliases[name], attribute) for name, attribute in used if name in aliases]
    return [(other, name) for other, name in found if package_of(other) in PACKAGES]


def is_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


def test_every_package_is_read():
    assert len(PACKAGES) >= 9
    assert {"lannunet_core.config.compose", "lannunet_landmarks.task", "lannunet_unet.plugin"} <= set(MODULES)
    assert ("lannunet_core", "Task") in imported("lannunet_landmarks.task")
    assert ("lannunet_core", "RunConfig") in imported("lannunet_landmarks.schema")  # as core.RunConfig
    assert ("lannunet_landmarks.session", "start_session") in imported(
        "lannunet_landmarks.task"
    )  # a lazy one


def test_the_engine_knows_no_task_and_tasks_know_no_other():
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other, _ in imported(module)
        if (package_of(module), package_of(other)) in NEVER
    ]
    assert wrong == []


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != ENGINE])
def test_what_is_imported_of_others_is_public(package):
    wrong = [
        f"{module} imports {name} of {other}"
        for module in MODULES
        if package_of(module) == package
        for other, name in imported(module)
        if package_of(other) != package and name not in public(other)
    ]
    assert wrong == []


def public(module: str) -> list[str]:
    """The names of a public API; empty if the module is inside of another package."""
    is_face = module in PACKAGES or module == f"{ENGINE}.testing"
    return getattr(importlib.import_module(module), "__all__", []) if is_face else []


def test_no_imports_go_in_a_circle():
    graph = {module: set() for module in MODULES}
    for module in MODULES:
        for other, name in imported(module):
            graph[module].add(inner if (inner := f"{other}.{name}") in MODULES else other)
    graphlib.TopologicalSorter(graph).prepare()  # names a circle if there is one


def test_the_engine_is_small_and_no_file_is_long():
    of_engine = {path: len(path.read_text().splitlines()) for path in PACKAGES[ENGINE].rglob("*.py")}
    for_authors = {"testing", "scaffold"}  # code that writes, inspects and checks plugins; no run imports it
    of_runs = [lines for path, lines in of_engine.items() if not for_authors & set(path.parts)]
    assert sum(of_runs) < 9000
    of_tasks = {path: len(path.read_text().splitlines()) for t in TASKS for path in PACKAGES[t].rglob("*.py")}
    long = {
        str(path.relative_to(ROOT)): lines for path, lines in (of_engine | of_tasks).items() if lines > 450
    }
    assert list(long) == ["lannunet_core/hookspecs.py"], long


def test_the_engine_has_no_word_of_a_task_or_model():
    files = [
        path for path in PACKAGES[ENGINE].rglob("*") if path.suffix in (".py", ".pyi", ".j2", ".template")
    ]
    found = {
        str(path.relative_to(PACKAGES[ENGINE])): words
        for path in files
        if (words := sorted(set(WORDS.findall(path.read_text()))))
    }
    assert {file: words for file, words in found.items() if file not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(found)  # an exception that is not needed any more must be removed
