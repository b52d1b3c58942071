"""Write a plugin package from templates: `lannunet plugins new`, given the answers to its questions."""

import importlib.util
import json
import keyword
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template

from lannunet_core import __version__
from lannunet_core.config.schema import ModelConfig, section_of
from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.names import plain
from lannunet_core.plugins import discovery, tasks

TEMPLATES = Path(__file__).parent

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/test.yml": "test.yml",
    "$package/__init__.py": "init.py",
    "$package/py.typed": "py.typed",
    "$package/plugin.py": "plugin.py",
    "$package/config.py": "config.py",
    "$package/network.py": "network.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/test_network.py": "test_network.py",
}
"""The files of a package, and the name of the template of each, without `.template`."""


@dataclass(frozen=True)
class Answers:
    """The names of a new package.

    Attributes:
        name: The plugin's name, as in `model.architecture`.
        distribution: Name for pip.
        package: Name for imports.
        description: One line.
        author: May be empty.
    """

    name: str
    distribution: str
    package: str
    description: str
    author: str = ""

    @property
    def class_name(self) -> str:
        """`my-model` is MyModel."""
        return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", self.name))


def defaults(name: str) -> Answers:
    word = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
    return Answers(
        name=name,
        distribution=f"lannunet-{word}",
        package=f"lannunet_{word.replace('-', '_')}",
        description=f"{name}, a network for LannU-Net.",
    )


def check_name(name: str) -> None:
    """Raise a UserError for a name that is not valid, or that a plugin has already."""
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?", name):
        raise UserError(
            f"'{name}' is not a plugin name: use letters, digits and hyphens, a letter first (my-model)."
        )
    sections = (section_of(task.config.model_fields["model"]) for task in tasks.every())
    taken = [key for section in (ModelConfig, *sections) if section for key in section.model_fields]
    keys = {plain(key): key for key in taken}
    if plain(name) in keys:
        raise UserError(
            f"'{name}' is not a possible plugin name: its settings would be model.{name}, and the core has a "
            f"key model.{keys[plain(name)]}. Choose another."
        )
    for plugin in discovery.installed():
        if plugin.answers_to(name):
            raise UserError(f"The name '{name}' is taken by the plugin {plugin}. Choose another.")


def check_package(answers: Answers) -> None:
    """Raise a UserError for names of distribution and package that are not valid, or exist already."""
    package, distribution = answers.package, answers.distribution
    if not package.isidentifier() or keyword.iskeyword(package):
        raise UserError(f"'{package}' is not a package name: use letters, digits and underscores.")
    if importlib.util.find_spec(package) is not None:
        raise UserError(f"There is a Python module '{package}' already. Choose another name for the package.")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", distribution):
        raise UserError(
            f"'{distribution}' is not a distribution name: use letters, digits and hyphens, as in "
            f"lannunet-my-model."
        )
    installed = {plain(found.metadata["Name"] or ""): found for found in metadata.distributions()}
    if found := installed.get(plain(distribution)):
        raise UserError(
            f"{found.metadata['Name']} {found.version} is installed already. Choose another name."
        )


def write_package(answers: Answers, folder: Path) -> list[Path]:
    """Write a complete plugin package into a new folder, and return its files, relative to the folder.

    Raises:
        UserError: The folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already. Choose another folder with -o, or remove it.")
    words = {
        **vars(answers),
        "description": json.dumps(answers.description),  # a JSON string is a TOML string
        "summary": answers.description,
        "class_name": answers.class_name,
        "authors": f"authors = [{{ name = {json.dumps(answers.author)} }}]\n" if answers.author else "",
        "core": core_requirement(__version__),
    }
    written = []
    for target, template in FILES.items():
        path = Path(Template(target).substitute(words))
        text = (TEMPLATES / f"{template}.template").read_text(encoding="utf-8")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / path, Template(text).substitute(words))
        written.append(path)
    return written


def core_requirement(version: str) -> str:
    """The requirement of a new plugin on the core: hooks change with major versions, and with minor ones of
    0.x."""
    major, minor = (int(part) for part in re.findall(r"\d+", version)[:2])
    above = f"{major + 1}" if major else f"0.{minor + 1}"
    return f"lannunet-core>={major}.{minor},<{above}"
