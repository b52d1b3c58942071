"""From runs to a bundle. A bundle contains no information about the machine that trained the models."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from lannunet_bundles.archive import in_order, packed
from lannunet_bundles.card import read_card, render_card
from lannunet_bundles.manifest import (
    CALIBRATION,
    CARD,
    FORMAT,
    MANIFEST,
    POSTPROCESSING,
    SIGNATURE,
    Card,
    Manifest,
    StoredFile,
    UsedPlugin,
)
from lannunet_bundles.signature import sign
from lannunet_core import (
    BEST_MODEL,
    SECOND_STAGE_FOLDER,
    UserError,
    api,
    atomic_path,
    is_among,
    load_checkpoint,
    located,
    models_of,
    refuse_existing,
    save_checkpoint,
    without_places,
)

CORE = "lannunet-core"
FILE = "file"  # the distribution in the record of a plugin that is a file
OF_PROVENANCE = ("started", "seed", "run", "plugins", "hooks", "libraries", "python", "precision", "sizing")
"""Keys of a model's training record that do not describe the machine."""
OF_SUMMARY = (
    *("unit", "images", "cases", "evaluated", "overall", "per_landmark", "per_class"),
    *("confidence", "metrics", "mean_position"),
)
"""Keys of a summary whose values name no case."""
ALIKE: dict[str, Callable[[Any], Any]] = {
    "task": lambda model: model.run["task"],
    "architecture": lambda model: model.plugins[0]["name"],
    "list of outputs": lambda model: list(model.run["outputs"]),
    "number of channels": lambda model: model.run["in_channels"],
    "number of dimensions": lambda model: model.run["dimensions"],
}
"""Properties that must be equal in models that predict together."""
THUMBNAILS, THUMBNAIL_PIXELS = 6, 256
CASE = re.compile(r'<script type="application/json" data-case="\d+">(.*?)</script>', re.DOTALL)
PICTURE = "data:image/webp;base64,"


@dataclass(frozen=True)
class Trained:
    """A model to be bundled.

    Attributes:
        path: The model file.
        run: The folder of its run; None: a standalone file.
        place: Its folder in the bundle.
        checkpoint: The content of the file.
    """

    path: Path
    run: Path | None
    place: str
    checkpoint: Any

    @property
    def results(self) -> Path | None:
        """The folder of the run's results; that of the second stage if there are two."""
        second = None if self.run is None else self.run / SECOND_STAGE_FOLDER
        return second if second is not None and self.refines and second.is_dir() else self.run

    @property
    def refines(self) -> bool:
        return bool(self.checkpoint.config.get("refine"))

    @cached_property
    def second(self) -> Any:
        """The content of the second stage's model file; None: there is none.

        Raises:
            UserError: It is not known where it is, or cannot be read.
        """
        if not self.refines:
            return None
        if self.run is None:
            raise UserError(f"{self.path}: is the first of two stages. Give the folder of the run.")
        return load_checkpoint(self.run / SECOND_STAGE_FOLDER)


def create_bundle(
    runs: Sequence[Path],
    output: Path,
    *,
    card: Path | None = None,
    calibration: Path | None = None,
    thumbnails: bool = False,
    key: Path | None = None,
    plugins: Sequence[Path] = (),
) -> Manifest:
    """Write the models of runs into a bundle; the same models give the same bytes.

    Args:
        runs: Folders of runs, of cross-validated runs, or model files.
        output: The bundle, `.lnb`.
        card: A YAML with the author's description (see `Card`).
        calibration: A file of `lannunet calibrate`; predictions with the bundle use it.
        thumbnails: Whether thumbnails of the evaluated images are included.
        key: An Ed25519 private key (PEM) that signs the bundle.
        plugins: Files with plugins that the models need; they are not included.

    Raises:
        UserError: A file is not a model, or the models cannot be used together.
    """
    if output.suffix.lower() != ".lnb":
        raise UserError(f"{output}: the name of a bundle must end in .lnb.")
    refuse_existing(output)
    said = Card() if card is None else read_card(card)
    models = find_models(runs)
    if calibration is not None and (task := models[0].checkpoint.run["task"]) != "landmarks":
        raise UserError(
            f"--calibration: applies to landmark models, and the task of {models[0].path} is {task}. Remove "
            "the option."
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for model in models:
            write_model(model, folder / model.place)
        load(folder, output, plugins, len(models))
        if calibration is not None:
            (folder / CALIBRATION).write_bytes(read_calibration(calibration))
            load(folder, calibration, plugins, len(models))  # checks that predictions accept it
        decided = located(runs[0]) / POSTPROCESSING
        if len(runs) == 1 and decided.is_file():
            (folder / POSTPROCESSING).write_bytes(decided.read_bytes())
        written = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in written}
    if thumbnails:
        files |= dict(pictures(models))
    title = said.title or (runs[0] if len(models) > 1 else models[0].run or runs[0]).resolve().name
    manifest = describe(models, said.model_copy(update={"title": title}))
    files[CARD] = render_card(manifest).encode()
    stored = {name: StoredFile.of(files[name]) for name in sorted(files)}
    manifest = manifest.model_copy(update={"files": stored})
    files[MANIFEST] = manifest.text().encode()
    if key is not None:
        files[SIGNATURE] = sign(key, files[MANIFEST])
    with atomic_path(output) as temporary_file, temporary_file.open("wb") as file:
        for piece in packed((name, files[name]) for name in in_order(files)):
            file.write(piece)
    return manifest


def find_models(runs: Sequence[Path]) -> list[Trained]:
    """The best models of runs, each with its folder in the bundle.

    Raises:
        UserError: There is no model, or the models cannot predict together.
    """
    paths = [path for run in runs for path in models_of(run)]
    checkpoints = [load_checkpoint(path) for path in paths]
    folds = [one.config.get("trainer", {}).get("fold") for one in checkpoints]
    known = len(set(folds)) == len(folds) and all(isinstance(fold, int) and fold >= 0 for fold in folds)
    numbers = folds if known else range(len(paths))
    found = []
    for path, number, checkpoint in zip(paths, numbers, checkpoints, strict=True):
        inside_run = path.parts[-2:] == BEST_MODEL.parts
        run = path if path.is_dir() else path.parents[1] if inside_run else None
        place = "" if len(paths) == 1 else f"fold{number}"
        found.append(Trained(path, run, place, checkpoint))
    first = found[0]
    for other in found[1:]:
        for what, of in ALIKE.items():
            if of(other.checkpoint) != of(first.checkpoint):
                raise UserError(
                    f"{other.path}: its {what} is {of(other.checkpoint)}, that of {first.path} is "
                    f"{of(first.checkpoint)}; the models of a bundle must predict together."
                )
    return sorted(found, key=lambda one: (len(one.place), one.place))


def write_model(model: Trained, folder: Path) -> None:
    """Write a model, and its second stage if it has one, in the layout of a run's folder."""
    stages = [(model.checkpoint, model.run, folder)]
    if model.second is not None and model.run is not None:
        stages.append((model.second, model.run / SECOND_STAGE_FOLDER, folder / SECOND_STAGE_FOLDER))
    for checkpoint, run, place in stages:
        (place / BEST_MODEL).parent.mkdir(parents=True)
        config = without_places(checkpoint.config)
        config["output"] = {**config.get("output", {}), "provenance": "names"}
        kept = {key: checkpoint.provenance[key] for key in OF_PROVENANCE if key in checkpoint.provenance}
        rest: dict[str, Any] = {key: {} for key in ("progress", "optimizer", "scheduler")}
        learned = without_places(checkpoint.learned)
        whole = replace(checkpoint, config=config, provenance=kept, learned=learned, **rest)
        save_checkpoint(place / BEST_MODEL, whole)
        resolved = resolved_config(run) or config
        (place / "config.yaml").write_text(
            yaml.safe_dump(without_places(resolved), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )


def resolved_config(run: Path | None) -> dict[str, Any] | None:
    """The configuration that a run wrote, with measured values; None: there is none."""
    try:
        found = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if run else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


def load(folder: Path, named: Path, plugins: Sequence[Path], models: int) -> None:
    """Load the models as a user will; errors name the file that the user gave.

    Raises:
        UserError: The models cannot be loaded.
    """
    try:
        api.load(folder, plugins=plugins)
    except UserError as error:
        alone = " Try a bundle of one run." if models > 1 and named.suffix == ".lnb" else ""
        text = str(error).replace(str(folder / CALIBRATION), str(named)).replace(str(folder), str(named))
        raise UserError(f"{text} Models that cannot be loaded are not bundled.{alone}") from None


def read_calibration(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        json.loads(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is not a calibration. Give a file of `lannunet calibrate`.") from None
    return content


def pictures(models: Sequence[Trained]) -> Iterator[tuple[str, bytes]]:
    """Thumbnails of the first pictures in the runs' reports; the files contain only pixels."""
    from PIL import Image

    reports = [one.results / "report.html" for one in models if one.results is not None]
    found = [
        json.loads(text)["planes"][0]
        for report in reports
        if report.is_file()
        for text in CASE.findall(report.read_text(encoding="utf-8"))
    ]
    for number, plane in enumerate(found[:THUMBNAILS]):
        content = base64.b64decode(plane["href"].removeprefix(PICTURE))
        stacked = Image.open(io.BytesIO(content)).convert("RGB")  # the slices of a volume below each other
        slices = plane.get("slices", [0])
        height = stacked.height // len(slices)
        top = height * slices.index(plane["start"]) if plane["start"] in slices else 0
        picture = stacked.crop((0, top, stacked.width, top + height))
        picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=80)
        yield f"thumbnails/{number}.jpg", written.getvalue()


def describe(models: Sequence[Trained], card: Card) -> Manifest:
    """The manifest of the models, without the list of files."""
    first = models[0].checkpoint
    used = {
        (one["name"], one["distribution"], one["version"])
        for model in models
        for stage in (model.checkpoint, model.second)
        if stage is not None
        for one in stage.plugins
    }
    installed = sorted(one for one in used if one[1] != FILE)
    libraries = {**first.provenance.get("libraries", {})}
    needed = {CORE: libraries.get(CORE, metadata.version(CORE)), **distribution_of_task(first.run["task"])}
    needed |= {distribution: version for _, distribution, version in installed}
    return Manifest(
        format=FORMAT,
        made_by=f"lannunet-bundles {metadata.version('lannunet-bundles')}",
        task=first.run["task"],
        architecture=first.plugins[0]["name"],
        plugins=[
            UsedPlugin(name=name, distribution=by, version=version, versions=understood(by, version))
            for name, by, version in installed
        ],
        plugin_files=sorted(f"{name}.py" for name, by, _ in used if by == FILE),
        requires=[f"{name}{understood(name, version)}" for name, version in needed.items()],
        models=[(Path(one.place) / BEST_MODEL).as_posix() for one in models],
        outputs=list(first.run["outputs"]),
        dimensions=first.run["dimensions"],
        in_channels=first.run["in_channels"],
        input_size=list(first.run["input_size"]),
        spacing=None if first.run["spacing"] is None else list(first.run["spacing"]),
        intensity=intensity(first),
        confidence=[calibrated(one.checkpoint.learned) for one in models],
        metrics=[summary(one.results) for one in models],
        trained=[str(one.checkpoint.provenance.get("started", "")) for one in models],
        libraries=libraries,
        card=card,
        files={},
    )


def distribution_of_task(name: str) -> dict[str, str]:
    for entry in metadata.entry_points(group="lannunet.tasks"):
        if is_among(entry.name, [name]) and entry.dist is not None:
            return {entry.dist.name: entry.dist.version}
    return {}


def understood(distribution: str, version: str) -> str:
    """The versions of a distribution that can load a model of this version: docs/compatibility.md."""
    try:
        made = Version(version)
    except InvalidVersion:
        return f"==={version}"
    least = f">={made.major}.{made.minor}"
    extras = [text for text in metadata.requires(CORE) or [] if "extra ==" in text]
    ours = [CORE, *(re.split(r"[^\w.-]", text)[0] for text in extras)]
    if is_among(distribution, ours):
        return least
    return f"{least},<{made.major + 1}" if made.major else f"{least},<0.{made.minor + 1}"


def intensity(checkpoint: Any) -> dict[str, Any]:
    """How grey values are converted to the network's input, by the keys of the task."""
    found = {}
    for section in ("sampler", "preprocess"):
        for name in ("normalisation", "clip"):
            if (value := checkpoint.config.get(section, {}).get(name)) is not None:
                found[name] = value
    if "preparation" in checkpoint.learned:
        found["preparation"] = without_places(checkpoint.learned["preparation"])
    return found


def calibrated(learned: Mapping[str, Any]) -> dict[str, Any] | None:
    known = learned.get("confidence")
    return dict(known) if isinstance(known, Mapping) and {"radius", "unit"} <= known.keys() else None


def summary(run: Path | None) -> dict[str, Any]:
    """A run's metrics; empty if it has none."""
    try:
        found = json.loads((run / "summary.json").read_text(encoding="utf-8")) if run else None
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: found[key] for key in OF_SUMMARY if key in found} if isinstance(found, dict) else {}
