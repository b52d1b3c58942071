"""Export of a trained model to a file that runs without LannU-Net: ONNX, or TorchScript.

The task defines the graph: a model that can be exported has a method `graph(size)`, which returns a
`lannunet_images.Graph`. torch.export traces it: it runs the network once and records the operations, and
refuses networks whose control flow depends on the values of tensors.
"""

from __future__ import annotations

import json
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core import UserError, __version__, api, atomic_path, write_text

if TYPE_CHECKING:
    import torch
    from lannunet_images import Graph

Format = Literal["onnx", "torchscript"]
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torchscript": ".pt"}
OPSET = 18
KEY = "lannunet"
"""Key of the metadata, a JSON: in ONNX's metadata, or TorchScript's extra files."""

NUDGE = 3e-6  # of a pixel's value

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: The graph.
        decoder: A Python file that decodes the graph's outputs, with NumPy alone; None: none is needed.
        about: The metadata of the graph.
    """

    path: Path
    decoder: Path | None
    about: Mapping[str, Any]


def export(
    model: Path, out: Path, to: Format, size: Sequence[int] | None = None, plugins: Sequence[Path] = ()
) -> Exported:
    """Export a model as a graph, and compare the graph with the model.

    Args:
        model: A model file or a run's folder.
        out: The file to write.
        to: Its format.
        size: (x, y[, z]) of all images; None: any size that the task supports.
        plugins: Files with plugins that the user trusts.

    Raises:
        UserError: The model, or one of its operations, cannot be exported, or the graph's outputs differ.
    """
    if to == "onnx":
        require_onnx()
    task = api.task_of_model(model)
    loaded = task.load(model, plugins=plugins)
    make: Callable[..., Graph] | None = getattr(loaded, "graph", None)
    if make is None:
        raise UserError(f"{model}: task {task.name} does not support the export of models.")
    graph = make(size)
    program = recorded(graph, model)
    with tempfile.TemporaryDirectory() as folder, quiet():
        made = Path(folder) / "graph"
        run = WRITERS[to](graph, program, made, model)
        about = {
            **graph.about,
            "exported": {"format": to, "lannunet": __version__, **({"opset": OPSET} if to == "onnx" else {})},
            "inputs": {name: shape_of(graph, place) for place, name in enumerate(graph.inputs)},
            "outputs": list(graph.outputs),
            "checked": checked(graph, run, model),
        }
        NOTERS[to](made, json.dumps(about))
        with atomic_path(out) as path:
            path.write_bytes(made.read_bytes())
    decoder = None
    if graph.decoder is not None:
        decoder = decoder_beside(out)
        write_text(decoder, graph.decoder)
    return Exported(out, decoder, about)


def decoder_beside(out: Path) -> Path:
    """The path of a graph's decoder, if it has one."""
    return out.with_name(f"{out.stem}_decode.py")


def require_onnx() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx: needs {' and '.join(missing)}. Run: pip install 'lannunet-bundles[onnx]'"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the log messages of torch's exporters, which are for developers."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def recorded(graph: Graph, model: Path) -> torch.export.ExportedProgram:
    """The operations of a graph, in order."""
    import torch

    free = ({axis: torch.export.Dim.DYNAMIC(min=max(least, 2)) for axis, least in graph.free.items()},)
    given = tuple(map(torch.from_numpy, graph.examples[0]))
    shapes = (*free, *[{} for _ in graph.inputs[1:]])
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(graph.module, given, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise UserError(f"{model}: cannot be exported: {why(error)}") from error


def why(error: BaseException) -> str:
    """The reason why the export failed, with the operation and the line if they are known."""
    said, causes = "", []
    one: BaseException | None = error
    while one is not None:
        causes.append(one)
        said += f"{type(one).__name__}: {one}\n"
        one = one.__cause__ or one.__context__
    line = next((found for one in causes if (found := place(one))), "")
    if "data-dependent" in said.lower() or "DataDependent" in said:
        return f"the control flow of its network depends on the values of a tensor{line}; a graph is fixed."
    operation = re.search(r"No (?:ONNX|decompositions)[^\n]*?aten[.:]+(\w+)", said) or re.search(
        r"target=(?:torch\.ops\.)?([\w.]+?)(?:\.default)?[\](]", said
    )
    if operation:
        name = operation[1].removeprefix("aten.")
        return f"its operation '{name}' does not exist in ONNX (opset {OPSET}){line}."
    last = " ".join(str(causes[-1]).split("\n")[0].split())[:200]
    return f"{type(causes[-1]).__name__}: {last}{line}."


def place(error: BaseException) -> str:
    """The last line of a network's own code in a traceback."""
    import torch

    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "onnxscript", "<")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


Run = Callable[[Arrays], Arrays]


def to_onnx(graph: Graph, program: torch.export.ExportedProgram, path: Path, model: Path) -> Run:
    """Write ONNX; return a function that runs it."""
    import onnxruntime
    import torch

    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"{model}: cannot be exported: {why(error)}") from error
    assert made is not None
    made.save(str(path), external_data=False)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{model}: cannot be exported: onnxruntime does not run it ({reason}).") from error
    return lambda given: session.run(None, dict(zip(graph.inputs, given, strict=True)))


def note_in_onnx(path: Path, text: str) -> None:
    import onnx

    made = onnx.load(str(path))
    onnx.helper.set_model_props(made, {KEY: text})
    onnx.save(made, str(path))


def to_torchscript(graph: Graph, program: torch.export.ExportedProgram, path: Path, model: Path) -> Run:
    """Write TorchScript; return a function that runs it."""
    import torch

    given = tuple(map(torch.from_numpy, graph.examples[0]))
    with torch.no_grad():
        made = torch.jit.trace(graph.module, given, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(made, str(path))
    loaded: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]

    def run(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            return [one.numpy() for one in loaded(*map(torch.from_numpy, arrays))]

    return run


def note_in_torchscript(path: Path, text: str) -> None:
    import torch

    loaded: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    torch.jit.save(loaded, str(path), _extra_files={KEY: text})


WRITERS = {"onnx": to_onnx, "torchscript": to_torchscript}
NOTERS = {"onnx": note_in_onnx, "torchscript": note_in_torchscript}


def shape_of(graph: Graph, place: int) -> dict[str, Any]:
    """The type and the shape of an input; None for a side of any length."""
    one = graph.examples[0][place]
    sides = [None if place == 0 and axis in graph.free else side for axis, side in enumerate(one.shape)]
    return {"type": one.dtype.name, "shape": sides}


def checked(graph: Graph, run: Run, model: Path) -> dict[str, Any]:
    """The largest difference between graph and model, by output, and the share of values compared.

    Other values are not defined to that precision: the model itself moves them when the image changes by
    `NUDGE`, such as a point in a map without a peak.

    Raises:
        UserError: A difference is too large.
    """
    sizes: list[str] = []
    most: dict[str, float] = {}
    shares: dict[str, list[float]] = {}
    for given in graph.examples:
        found = dict(zip(graph.outputs, run(given), strict=True))
        if graph.decoder is not None:
            namespace: dict[str, Any] = {}
            exec(compile(graph.decoder, "decoder", "exec"), namespace)
            found = namespace["decoded"](found, json.loads(json.dumps(graph.about)))
        wanted, again = wanted_of(graph, given), wanted_of(graph, (nudged(given[0]), *given[1:]))
        sizes.append("×".join(map(str, given[0].shape[:0:-1])))
        for name, value in wanted.items():
            limit = graph.tolerance.get(name, 1e-3 * max(1.0, float(np.nanmax(np.abs(value)))))
            settled = apart(value, again[name]) <= limit / 10
            off = float(apart(found[name], value)[settled].max(initial=0))
            most[name] = max(most.get(name, 0.0), off)
            shares.setdefault(name, []).append(float(settled.mean()))
            if not off <= limit:
                raise UserError(
                    f"{model}: the exported graph differs from the model: {name} differs by {off:.3g} for an "
                    f"image of {sizes[-1]}, more than {limit:g}. The control flow of its network may depend "
                    "on the image's size: give the size of all images (--size)."
                )
    compared = {name: float(np.mean(share)) for name, share in shares.items()}
    if not min(compared.values()) > 0:
        raise UserError(
            f"{model}: cannot be checked: in random images, a change of pixels by 1 in "
            f"{round(1 / NUDGE):,} moves all of its predictions. Train it longer."
        )
    return {"sizes": sizes, "most_off": most, "compared": compared}


def wanted_of(graph: Graph, given: tuple[NDArray[Any], ...]) -> dict[str, NDArray[Any]]:
    """The outputs of the model, or the module if the model defines none."""
    import torch

    if wanted := graph.wanted(*given):
        return {name: np.asarray(value, float) for name, value in wanted.items()}
    with torch.no_grad():
        outputs = graph.module(*map(torch.from_numpy, given))
    return {name: one.double().numpy() for name, one in zip(graph.outputs, outputs, strict=True)}


def nudged(image: NDArray[Any]) -> NDArray[Any]:
    noise = np.random.default_rng(0).uniform(-NUDGE, NUDGE, image.shape)
    return (image * (1 + noise)).astype(image.dtype)


def apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The absolute differences; infinite where one of the numbers is NaN, 0 where both are."""
    gap = np.where(np.isnan(one) & np.isnan(other), 0, np.abs(one - other))
    return np.where(np.isnan(gap), np.inf, gap)
