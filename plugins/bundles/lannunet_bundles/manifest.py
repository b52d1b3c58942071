"""The manifest of a bundle: `manifest.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lannunet_core import UserError, terminal_text

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"  # of the manifest's bytes, by Ed25519
CARD = "README.md"
CALIBRATION = "calibration.json"
POSTPROCESSING = "postprocessing.json"  # of a cross-validated run, if its task chose a postprocessing


class Part(BaseModel):
    """A part of the manifest; keys that a later version added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredFile(Part):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)

    @classmethod
    def of(cls, content: bytes) -> StoredFile:
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))

    def is_of(self, content: bytes) -> bool:
        return self == StoredFile.of(content)


def _plain(requirement: str) -> str:
    """Check that a requirement is a name with versions, so that pip downloads from its index only."""
    try:
        read = Requirement(requirement)
    except InvalidRequirement:
        raise ValueError("not a requirement") from None
    if read.url or read.marker or read.extras:
        raise ValueError("more than a name and versions")
    return requirement


class UsedPlugin(Part):
    """A plugin that the model was trained with; `versions` are those that can load the model."""

    name: str
    distribution: str
    version: str
    versions: str


class Card(BaseModel):
    """The author's description of the model, with the fields of Hugging Face's and MONAI's cards.

    Texts are Markdown. Missing fields are shown as not stated.
    """

    model_config = ConfigDict(extra="forbid")

    title: str = ""
    version: str = ""
    description: str = ""
    authors: list[str] = []
    data: str = ""
    intended_use: str = ""
    limits: str = ""
    license: str = ""
    citation: str = ""
    references: list[str] = []
    copyright: str = ""


class Manifest(Part):
    """Attributes:
    format: Format of the bundle.
    made_by: `lannunet-bundles` and its version.
    task: The task of the models.
    architecture: The plugin that provides the network.
    plugins: Plugins of the training, except for those in files.
    plugin_files: File names of the plugins in files.
    requires: Distributions that must be installed, with the versions that can load the models.
    models: The model files, one per fold.
    outputs: Names of the outputs: landmarks, or classes.
    dimensions: 2 or 3.
    in_channels: Channels of an image.
    input_size: Size of the network's input in training, (x, y[, z]).
    spacing: mm per input pixel, (x, y[, z]), the training set's median; None: unknown.
    intensity: How grey values are converted to the network's input, with the values measured for it.
    confidence: The calibration of confidences to probabilities, by model; None: not calibrated.
    metrics: Metrics on the model's own test images, by model, without single cases; empty: none.
    trained: Start of the training, by model.
    libraries: Versions of the libraries in training.
    card: The author's description.
    files: All files except this one and its signature.
    """

    format: int
    made_by: str
    task: str
    architecture: str
    plugins: list[UsedPlugin]
    plugin_files: list[str] = []
    requires: list[Annotated[str, AfterValidator(_plain)]]
    models: list[str] = Field(min_length=1)
    outputs: list[str]
    dimensions: int
    in_channels: int
    input_size: list[int]
    spacing: list[float] | None = None
    intensity: dict[str, Any] = {}
    confidence: list[dict[str, Any] | None] = []
    metrics: list[dict[str, Any]] = []
    trained: list[str] = []
    libraries: dict[str, str] = {}
    card: Card = Card()
    files: dict[str, StoredFile]

    def text(self) -> str:
        """The text of the file; the same bytes for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read_manifest(path: Path, content: bytes) -> Manifest:
    """The manifest of the bundle `path`.

    Raises:
        UserError: The content is not a manifest, or has a later format.
    """
    try:
        found = json.loads(content)
        made = found["format"]
        if isinstance(made, int) and made > FORMAT:
            raise UserError(
                f"{path}: is a bundle of format {made}, and this version of LannU-Net reads format {FORMAT}. "
                "Update LannU-Net: pip install --upgrade lannunet"
            )
        manifest = Manifest.model_validate(found)
        if manifest.format != FORMAT:
            raise ValueError
        return manifest
    except (ValidationError, ValueError, LookupError, TypeError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ()}
        place = terminal_text(".".join(map(str, first["loc"])) or "its text")
        raise UserError(
            f"{path}: {MANIFEST} in it is damaged ({place:.80}). Copy or download it again."
        ) from None
