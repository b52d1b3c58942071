"""Every tracker, offline or in a folder: the logged values are read from the tracker's files."""

import importlib.util
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from lannunet_landmarks import Prediction
from lannunet_observer.config import ObserverConfig
from lannunet_observer.plugin import ObserverPlugin
from PIL import Image
from torch import nn

from lannunet_core import Event, RunInfo, State, UserError

SECRET = "secret-0123456789abcdef0123456789abcdef01"
MODULES = {"mlflow": "mlflow", "comet": "comet_ml", "wandb": "wandb"}
CONFIG = {
    "task": "landmarks",
    "solver": {"base_lr": 0.002, "seed": None},
    "dataset": {"root": "/home/someone/images"},
    "inference": {"evaluation_mode": "scale_heatmap_first"},
    "output": {"output_dir": "/home/someone/out"},
}
pytestmark = pytest.mark.filterwarnings("default")  # the trackers' own


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Each tracker writes only to disk; a key is in the environment, as on a user's machine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("COMET_START_ONLINE", "false")
    monkeypatch.setenv("COMET_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)


def run_info(task="landmarks") -> RunInfo:
    return RunInfo(
        task=task,
        dimensions=2,
        in_channels=1,
        outputs=("tip", "root"),
        input_size=(64, 48),
        spacing=None,
        supervised_resolutions=1,
        device="cpu",
        seed=0,
    )


def predictions(folder):
    path = folder / "image.png"
    Image.fromarray(np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)).save(path)
    target = np.array([[10.0, 20.0], [40.0, 30.0]])
    return [
        Prediction(
            id=f"case {number}",
            image=path,
            coordinates=target + number,
            confidence=np.ones(2),
            target=target,
            states=np.full(2, State.VISIBLE),
        )
        for number in range(8)
    ]


def logged(tracker, out, epochs, *, done=0, end="end", start_only=False):
    """The observer, with the events of a run."""
    out.mkdir(exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    plugin = ObserverPlugin(ObserverConfig(trackers=[tracker], project="hands"), run_info())
    tell = lambda name, values: plugin.observe(Event(name, out, values, nn.Identity()))  # noqa: E731
    tell("start", {"epoch": done})
    for number in epochs:
        tell("epoch", {"epoch": number, "loss": 1 / number, "terms": {"kl": 1 / number}, "lr": 0.1})
    if end == "end":
        plugin.metrics(predictions(out.parent))
        (out / "report.html").write_text("<html>the report</html>")
        tell("end", {"overall": {"px": {"mean": 3.5}}, "failed": ["a"]})
    else:
        tell("failure", {"error": "stopped"})


def read_mlflow(out):
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("hands")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "terms/kl")
    artifacts = [one.path for one in client.list_artifacts(run.info.run_id)]
    pictures = [one.path for one in client.list_artifacts(run.info.run_id, "predictions")]
    text = Path(client.download_artifacts(run.info.run_id, "report.html")).read_text() if pictures else ""
    return {
        "name": run.info.run_name,
        "config": run.data.params,
        "kl": [(one.step, one.value) for one in history],
        "mean": run.data.metrics.get("summary/overall/px/mean"),
        "pictures": len(pictures),
        "report": "report.html" in artifacts and "the report" in text,
        "failed": run.info.status == "FAILED",
    }


def read_comet(out):
    found = {"config": {}, "kl": [], "mean": None, "pictures": 0, "report": False}
    archives = sorted((out / "comet").glob("*.zip"), key=lambda path: path.stat().st_mtime_ns)
    assert len({path.name.partition("-")[0] for path in archives}) == 1  # one run, also when it was resumed
    for path in archives:
        archive = zipfile.ZipFile(path)
        for line in archive.read("messages.json").decode().splitlines():
            message = json.loads(line)
            told = message["payload"]
            if message["type"] == "parameter_msg" and told["param"]["source"] == "manual":
                found["config"][told["param"]["paramName"]] = str(told["param"]["paramValue"])
            elif message["type"] == "metric_msg" and told["metric"]["metricName"] == "terms/kl":
                found["kl"].append((told["metric"]["step"], told["metric"]["metricValue"]))
            elif message["type"] == "metric_msg" and told["metric"]["metricName"].startswith("summary/"):
                found["mean"] = told["metric"]["metricValue"]
            elif message["type"] == "log_other" and told["key"] in ("Name", "failed"):
                found[told["key"].lower()] = told["value"]
            elif message["type"] == "file_upload":
                content = archive.read(told["file_path"])
                found["pictures"] += content.startswith(b"\x89PNG")
                found["report"] |= b"the report" in content
    return found


def wandb_records(path):
    """The records of a file of W&B: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            record = b""
            yield message


def read_wandb(out):
    found = {"config": {}, "kl": [], "mean": None, "pictures": 0, "report": False, "failed": None}
    files = sorted((out / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert len({path.name for path in files}) == 1
    for path in files:
        for record in wandb_records(path):
            if record.HasField("run"):
                found["name"] = record.run.display_name
                found["config"] |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            if record.HasField("history"):
                row = {
                    one.key or one.nested_key[0]: json.loads(one.value_json) for one in record.history.item
                }
                if "terms/kl" in row:
                    found["kl"].append((row["epoch"], row["terms/kl"]))
            if record.HasField("summary"):
                for one in record.summary.update:
                    if (one.key or "/".join(one.nested_key)) == "summary/overall/px/mean":
                        found["mean"] = json.loads(one.value_json)
            if record.HasField("exit"):
                found["failed"] = record.exit.exit_code != 0
        media = path.parent / "files" / "media"
        found["pictures"] += len(list((media / "images").glob("**/*.png")))
        found["report"] |= any("the report" in page.read_text() for page in media.glob("html/**/*.html"))
    found["config"] = {key: str(value) for key, value in found["config"].items() if key != "_wandb"}
    return found


READ = {"mlflow": read_mlflow, "comet": read_comet, "wandb": read_wandb}


@pytest.mark.parametrize("tracker", list(READ))
def test_what_was_logged_is_read_back(tracker, offline, tmp_path):
    pytest.importorskip(MODULES[tracker], reason=f"the extra {tracker} is not installed")
    out = tmp_path / "first"
    logged(tracker, out, [1, 2], end="failure")
    found = READ[tracker](out)
    assert (found["kl"], found["failed"], found["pictures"]) == ([(1, 1.0), (2, 0.5)], True, 0)

    logged(tracker, out, [3], done=2)  # the resumed run is the same run in the tracker
    found = READ[tracker](out)
    assert found["name"] == "first"
    assert found["kl"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["config"] == {
        "task": "landmarks",
        "solver.base_lr": "0.002",
        "dataset.root": "images",  # the name alone, as in the report
        "inference.evaluation_mode": "scale_heatmap_first",
        "output.output_dir": "out",
    }
    assert (found["mean"], found["pictures"], found["report"]) == (3.5, 6, True)
    assert found["failed"] is False

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            contents += [archive.read(name) for name in archive.namelist()]
        assert not any(SECRET.encode() in content for content in contents), path


def test_mlflow_takes_any_name_and_any_number_of_figures(offline, tmp_path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from lannunet_observer.to_mlflow import MLflow
    from lannunet_observer.tracker import Start
    from mlflow.tracking import MlflowClient

    many = {f"summary/{number}": float(number) for number in range(1200)}
    tracked = MLflow(Start("hands", "first", tmp_path, {"dataset.classes.T1+C": 1}, None))
    tracked.log(many | {"summary/per_landmark/Gonion (left)/mm": 2.5, "α'": 1.5}, 1)
    found = MlflowClient().get_run(tracked.run).data
    assert len(found.metrics) == 1202 and found.metrics["summary/1199"] == 1199
    assert found.metrics["summary/per_landmark/Gonion _28left_29/mm"] == 2.5
    assert found.params == {"dataset.classes.T1_2bC": "1"}


def test_a_tracker_that_fails_keeps_no_other_from_its_results(tmp_path, monkeypatch):
    from lannunet_observer import tracking

    class Told:
        run = "a"

        def __init__(self, fails):
            self.fails, self.told = fails, []

        def log(self, figures, epoch):
            self.told.append("log")
            if self.fails:
                raise ConnectionError("the server is down")

        def results(self, figures, pictures, report):
            self.told.append("results")
            if self.fails:
                raise ConnectionError("the server is down")

        def close(self, failed):
            self.told.append("close")

    both = {"mlflow": Told(fails=True), "wandb": Told(fails=False)}
    monkeypatch.setattr(tracking, "start", lambda name, given: both[name])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    trackers = tracking.Trackers(["mlflow", "wandb"], "hands", tmp_path, 0)
    with pytest.raises(ConnectionError):
        trackers.log({"epoch": 1, "loss": 2.0})
    with pytest.raises(ConnectionError):
        trackers.end(Event("end", tmp_path, {"overall": {}}, nn.Identity()), [])
    assert [one.told for one in both.values()] == [["log", "results", "close"]] * 2


@pytest.mark.parametrize(
    ("tracker", "variables", "said"),
    [
        ("mlflow", ["MLFLOW_TRACKING_URI"], "MLFLOW_TRACKING_URI"),
        ("comet", ["COMET_API_KEY", "COMET_START_ONLINE"], "COMET_API_KEY .*COMET_START_ONLINE"),
        ("wandb", ["WANDB_API_KEY", "WANDB_MODE"], "WANDB_API_KEY .*WANDB_MODE"),
    ],
)
def test_what_is_missing_is_said_at_the_start(tracker, variables, said, offline, tmp_path, monkeypatch):
    installed = importlib.util.find_spec(MODULES[tracker]) is not None
    for name in variables:
        monkeypatch.delenv(name)
    install = rf"not installed.*lannunet-observer\[{tracker}\]"
    with pytest.raises(
        UserError, match=rf"trainer.observer.trackers: {tracker}: .*{said if installed else install}"
    ):
        logged(tracker, tmp_path / "out", [1])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


def test_pictures_of_a_segmentation(tmp_path):
    from lannunet_observer.pictures import draw_predictions
    from lannunet_segmentation import Geometry, SegmentedCase

    size = (20, 16)
    image, label = tmp_path / "image.png", tmp_path / "label.png"
    Image.fromarray(np.full((16, 20), 80, np.uint8)).save(image)
    Image.fromarray((np.arange(320).reshape(16, 20) > 200).astype(np.uint8)).save(label)
    geometry = Geometry(size, (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), 2)
    case = SegmentedCase("a", (image,), label, None, geometry=geometry)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"task": "segmentation"}))
    (path,) = draw_predictions([case], tmp_path, tmp_path)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 40
    assert (
        coloured.any() and coloured[len(coloured) // 2 :].mean() > 2 * coloured[: len(coloured) // 2].mean()
    )
