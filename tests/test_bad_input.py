"""Mistakes of users: exit code 2, one message with the place and the remedy, and no file is written."""

import re

import numpy as np
import pytest
from PIL import Image

from lannunet_core.record import RECORD

TINY_NETWORK = """
from lannunet_core import Plugin, hookimpl

class Tiny(Plugin):
    @hookimpl
    def network(self):
        from torch import nn
        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 3, padding=1)
"""


def files(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(project, capsys):
    """Check that a command (by default, training the project) is refused with one message with this text."""

    def check(*said, command=None):
        before = files(project.folder)
        assert project.lannunet(*(command or ("train", project.yaml))) == 2
        error = capsys.readouterr().err
        assert error.startswith("Error: ")
        assert error.count("Error: ") == 1
        assert "Traceback" not in error
        for part in said:
            assert str(part) in error
        assert files(project.folder) == before

    return check


CONFIGURATION = {
    "unknown key": ({"solver": {"max_epoch": 3}}, "solver.max_epoch", "Did you mean 'max_epochs'?"),
    "unknown section": ({"solvers": {"max_epochs": 3}}, "solvers", "Did you mean 'solver'?"),
    "wrong type": ({"solver": {"max_epochs": "many"}}, "solver.max_epochs", "'many'", "a valid integer"),
    "a word for a switch": ({"trainer": {"cache_data": "yes please"}}, "trainer.cache_data", "boolean"),
    "unknown plugin": ({"model": {"architecture": "u-nett"}}, "model.architecture", "'unet'"),
    "unknown extension": ({"trainer": {"plugins": ["unett"]}}, "trainer.plugins", "'unet'"),
    "unknown loss": ({"solver": {"loss_function": "kll"}}, "solver.loss_function", "Did you mean 'kl'?"),
    "unknown decoder": ({"inference": {"decoder": "peek"}}, "inference.decoder", "Did you mean 'peak'?"),
    "unknown scheme": (
        {"sampler": {"data_aug": "AffinSimple"}},
        "sampler.data_aug",
        "Did you mean 'AffineSimple'?",
    ),
    "negative size": ({"sampler": {"input_size": [-64, 64]}}, "sampler.input_size", "-64", "equal to 8"),
    "absurd size": ({"sampler": {"input_size": [64, 10**6]}}, "sampler.input_size", "1000000", "16384"),
    "too many pixels": ({"sampler": {"input_size": [16384] * 3}}, "sampler.input_size", "2^30 pixels"),
    "no batches": (
        {"solver": {"mini_batch_size": 0}},
        "solver.mini_batch_size",
        "equal to 1",
    ),
    "absurd batch": (
        {"solver": {"data_loader_batch_size_train": 10**9}},
        "solver.data_loader_batch_size_train",
        "65536",
    ),
    "absurd network": ({"model": {"unet": {"init_features": 10**6}}}, "model.unet.init_features", "1024"),
    "negative time": ({"solver": {"budget_minutes": -1}}, "solver.budget_minutes", "greater than 0"),
}


@pytest.mark.parametrize("case", CONFIGURATION.values(), ids=CONFIGURATION)
def test_configuration(project, refused, case):
    sections, key, *said = case
    project.set(**sections)
    project.write()
    line = line_of(f"{key.split('.')[-1]}:", project)
    refused(f"{project.yaml}:{line}: {key}", *said)


def line_of(text, project):
    return 1 + next(n for n, line in enumerate(project.yaml.read_text().splitlines()) if text in line)


def test_missing_yaml(project, refused):
    refused(project.folder / "no.yaml", "no such file", command=("train", project.folder / "no.yaml"))


def test_dimensions_of_the_input_size(project, refused):
    project.set(sampler={"input_size": [32, 32, 32]})
    project.write()
    refused("sampler.input_size", "[32, 32, 32]", project.json, "one per dimension")


def test_number_of_dimensions_of_an_image(project, refused):
    np.save(project.folder / "images" / "volume.npy", np.zeros((20, 64, 64, 9)))
    project.annotations["training"][2]["image"] = "images/volume.npy"
    project.write()
    refused("volume.npy", "(20, 64, 64, 9)", "2D")


def no_coordinates(annotations):
    annotations["training"][1]["coordinates"] = None


def one_landmark_less(annotations):
    annotations["testing"][1]["coordinates"].pop()


def same_id(annotations):
    annotations["validation"][1]["id"] = "training0"


def outside(annotations):
    annotations["testing"][0]["coordinates"][1] = [64.5, 3]


def infinite(annotations):
    annotations["training"][0]["coordinates"][0] = [float("inf"), 3]


def not_a_number(annotations):
    annotations["validation"][0]["coordinates"][0] = [float("nan"), 3]


def no_image(annotations):
    annotations["testing"][1]["image"] = "images/nowhere.png"


def negative_spacing(annotations):
    annotations["training"][2]["spacing"] = [-1, 1]


ANNOTATIONS = {
    no_coordinates: ('"training1" of training', "has no coordinates", "move it to another list"),
    one_landmark_less: ('"testing7" of testing', "has 1 landmarks where the others have 2", "Write null"),
    same_id: ('"training0" occurs twice', "Give every sample its own"),
    outside: ("testing6", "landmark 1 at (64.5, 3)", "outside of its image of 64×64", 'write "absent"'),
    infinite: ('"training0"', "landmark 0", "not finite", "Write null"),
    not_a_number: ('"validation4"', "landmark 0", "not finite", "Write null"),
    no_image: ('"testing7"', "nowhere.png does not exist", "dataset.root"),
    negative_spacing: ('"training2"', '"spacing"', "mm per pixel"),
}


@pytest.mark.parametrize(("spoil", "said"), ANNOTATIONS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_annotations(project, refused, spoil, said):
    spoil(project.annotations)
    project.write()
    refused(*said) if spoil is outside else refused(project.json, *said)


@pytest.mark.parametrize("split", ["training", "testing"])
def test_empty_split(project, refused, split):
    project.annotations[split] = []
    project.write()
    refused(project.json, f'"{split}" is empty')


def test_landmark_index_out_of_range(project, refused):
    project.set(dataset={"landmarks": [0, 2]})
    project.write()
    refused("dataset.landmarks", "2 is none of the 2 landmarks (0 to 1)", project.json)


def test_missing_json(project, refused):
    project.set(dataset={"src_targets": "no.json"})
    project.write()
    refused(project.folder / "no.json", "dataset.src_targets")


def test_malformed_json(project, refused):
    project.write()
    project.json.write_text('{"training": [\n  {"id": "a" "image": "b"}]}')
    refused(f"{project.json}, line 2, column 14", "malformed JSON")


def test_missing_fold(project, refused):
    project.write()
    (project.folder / "folds").mkdir()
    (project.folder / "folds" / "fold0.json").write_text(project.json.read_text())
    project.set(dataset={"src_targets": "folds", "root": "."}, trainer={"fold": 3})
    project.write()
    refused(project.folder / "folds", "no fold3.json", "trainer.fold", "it holds fold0.json")


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_truncated_image(project, refused, split, cache):
    """The mistake is found before training, also if images are not kept in memory."""
    project.set(trainer={"cache_data": cache})
    project.write()
    image = project.folder / project.annotations[split][1]["image"]
    image.write_bytes(image.read_bytes()[:-500])
    refused(image, "damaged", "Copy or convert it again")


def test_corrupt_image(project, refused):
    project.write()
    image = project.folder / project.annotations["training"][0]["image"]
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    refused(image, "damaged", "Copy or convert it again")


def test_empty_image_file(project, refused):
    project.write()
    image = project.folder / project.annotations["training"][2]["image"]
    image.write_bytes(b"")
    refused(image, "is empty", "Copy the image again")


def test_unsupported_suffix(project, refused):
    project.annotations["testing"][0]["image"] = "images/picture.xyz"
    project.write()
    (project.folder / "images" / "picture.xyz").write_bytes(b"no picture")
    refused("picture.xyz", 'unsupported image suffix ".xyz"', ".png")


@pytest.mark.parametrize("split", ["training", "testing"])
def test_channels_differ(project, refused, split):
    project.write()
    image = project.folder / project.annotations[split][-1]["image"]
    Image.new("RGB", (64, 64)).save(image)
    refused(image, "has 3 channel(s)", "has 1", "same number of channels")


def test_output_folder_below_a_file(project, refused):
    project.set(output={"output_dir": "points.json/out"})
    project.write()
    refused("output.output_dir", "points.json/out cannot be written", "name another folder")


def test_output_folder_is_a_file(project, refused):
    project.set(output={"output_dir": "run.yaml"})
    project.write()
    refused("output.output_dir", "run.yaml cannot be written", "name another folder")


def leave(folder, name):
    """A result of an earlier run."""
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("precious")
    (folder / RECORD).write_text(f"{name}\n")


def test_folder_holds_another_run(project, refused, capsys):
    project.write()
    leave(project.out, "predictions.csv")
    refused(project.out, "already holds a run", "--resume", "--overwrite")


def test_folder_holds_files_of_others(project, refused):
    project.write()
    project.out.mkdir()
    (project.out / "predictions.csv").write_text("precious")
    refused("predictions.csv", "lannunet did not write", command=("train", project.yaml, "--overwrite"))


def test_overwriting_begins_when_the_input_is_known_to_be_right(project, refused):
    project.write()
    leave(project.out, "checkpoints/best.safetensors")
    image = project.folder / project.annotations["testing"][1]["image"]
    image.write_bytes(image.read_bytes()[:-500])
    refused(image, "damaged", command=("train", project.yaml, "--overwrite"))


def test_overwriting_the_model_to_start_from(project, refused):
    project.set(model={"checkpoint": "out/checkpoints/best.safetensors"}, trainer={"inference_only": True})
    project.write()
    leave(project.out, "checkpoints/best.safetensors")
    refused("model.checkpoint", "--overwrite", "another", command=("train", project.yaml, "--overwrite"))


def test_resume_and_overwrite(project, capsys):
    project.write()
    assert project.lannunet("train", project.yaml, "--resume", "--overwrite") == 2
    assert "give one of them" in re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert not project.out.exists()


# Models


@pytest.mark.parametrize("inference_only", [False, True])
class TestCheckpoint:
    @pytest.fixture(autouse=True)
    def from_checkpoint(self, project, trained, inference_only):
        project.set(
            model={"checkpoint": str(trained.out / "checkpoints" / "best.safetensors")},
            trainer={"inference_only": inference_only},
        )

    def test_of_another_architecture(self, project, refused, distribution):
        distribution("tiny-net", {"tiny": "tiny_net:Tiny"}, {"tiny_net.py": TINY_NETWORK})
        project.set(model={"architecture": "tiny"})
        del project.config["model"]["unet"]
        project.write()
        refused("best.safetensors", "its architecture is unet, this run's is tiny", "of the same kind")

    def test_of_another_landmark_count(self, project, refused, inference_only, capsys):
        project.set(dataset={"landmarks": [1]})
        project.write()
        if not inference_only:  # training starts from the weights that fit
            assert project.train() == 0
            assert "62 of 70 weights" in capsys.readouterr().out
            return
        refused("best.safetensors", "its number of outputs is 2, this run's is 1", "of the same kind")

    def test_of_another_size(self, project, refused):
        project.set(model={"unet": {"init_features": 8}})
        project.write()
        refused("best.safetensors", "weights do not fit", "set model.unet")

    def test_missing(self, project, refused):
        project.set(model={"checkpoint": "nowhere.pt"})
        project.write()
        refused(project.folder / "nowhere.pt", "no such model file")

    def test_damaged(self, project, refused):
        project.set(model={"checkpoint": "model.pt"})
        project.write()
        (project.folder / "model.pt").write_bytes(b"PK\x03\x04" + bytes(100))
        refused(project.folder / "model.pt", "cannot be loaded", "lannunet train")


def test_nothing_to_infer_with(project, refused):
    project.set(trainer={"inference_only": True})
    project.write()
    refused("trainer.inference_only", "model.checkpoint")


# lannunet predict


@pytest.fixture
def predict(project, trained, refused):
    """Check that `lannunet predict` is refused; by default with a valid model and a valid image."""
    project.write()

    def check(*said, model=trained.out, images=(project.folder / "images" / "testing6.png",), out=None):
        command = ("predict", model, *images, "-o", out or project.folder / "found")
        refused(*said, command=command)

    return check


def test_predict_without_a_model(project, predict):
    predict(project.folder / "no.pt", "no such model file", "a run's folder", model=project.folder / "no.pt")


def test_predict_with_a_run_that_has_no_model(project, predict):
    predict("best.safetensors", "no such model file", model=project.folder)


def test_predict_a_missing_image(project, predict):
    predict("no.png", "no such image", images=[project.folder / "no.png"])


def test_predict_a_folder_without_images(tmp_path, predict):
    (tmp_path / "empty").mkdir()
    predict("there are no images", ".png", images=[tmp_path / "empty"])


def test_predict_a_truncated_image(project, predict):
    image = project.folder / "images" / "testing7.png"
    image.write_bytes(image.read_bytes()[:-500])
    predict(image, "damaged", "Copy or convert it again", images=[project.folder / "images"])


def test_predict_an_unsupported_suffix(project, predict):
    predict("run.yaml", 'unsupported image suffix ".yaml"', images=[project.yaml])


def test_predict_other_channels(project, predict):
    np.save(project.folder / "two.npy", np.zeros((2, 64, 64)))
    predict("two.npy", "has 2 channel(s)", "has 1", images=[project.folder / "two.npy"])


def test_predict_into_a_folder_that_cannot_be_written(project, predict):
    predict("--output", "cannot be written", "another folder", out=project.yaml / "found")


def test_predict_into_a_folder_that_holds_results(project, predict):
    leave(project.folder / "found", "predictions.csv")
    predict("--output", "already holds a run", "--overwrite")


# Through the operating system


def test_exit_code_and_streams_of_a_process(project):
    project.set(solver={"max_epoch": 3})
    before = files(project.folder) | {project.json: None, project.yaml: None}
    ended = project.start("train", project.yaml)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.strip().splitlines() == [
        f"Error: {project.yaml}:{line_of('max_epoch:', project)}: solver.max_epoch: unknown key. "
        "Did you mean 'max_epochs'?"
    ]
    assert files(project.folder).keys() == before.keys()


def test_damaged_image_in_a_process(project):
    image = project.folder / project.annotations["testing"][1]["image"]
    image.write_bytes(image.read_bytes()[:-500])
    ended = project.start("train", project.yaml)
    assert ended.returncode == 2
    (message,) = ended.stderr.strip().splitlines()
    assert message.startswith(f"Error: {image}: damaged")
    assert not project.out.exists()


def test_debug_shows_where_an_error_arose(project, capsys):
    project.set(dataset={"src_targets": "no.json"})
    project.write()
    assert project.lannunet("--debug", "train", project.yaml) == 2
    assert "Traceback" in capsys.readouterr().err
