"""The core without a task or an architecture: the message names what is missing and how to install it."""

import json

import pytest

NEEDED = {
    "nothing": "A run needs a task and an architecture: pip install lannunet",
    "an architecture": "A run needs a task: pip install lannunet",
}


@pytest.fixture(scope="module", params=NEEDED)
def environment(request, wheels_to_train, fresh_environment):
    core, architecture, *_ = wheels_to_train
    made = fresh_environment(core, *([architecture] if request.param == "an architecture" else []))
    made.needed = NEEDED[request.param]
    return made


@pytest.mark.parametrize(
    "command",
    [
        ("train", "run.yaml"),
        ("config", "check", "run.yaml"),
        ("config", "explain", "run.yaml"),
        ("config", "import", "run.yaml"),
        ("plan", "images"),
        ("predict", "model", "images", "-o", "found"),
    ],
)
def test_without_a_task_both_are_named_with_the_command(environment, trained, command):
    trained.write()
    arguments = [str(trained.out) if word == "model" else word for word in command]
    said = environment.call("lannunet", *arguments, cwd=trained.folder, code=2).stderr
    assert said.startswith("Error: ")
    assert said.endswith(f"{environment.needed}\n")
    assert len(said.splitlines()) == 1


def test_a_command_of_ours_is_named_with_what_brings_it(environment, trained):
    for command, bringing in {"demo": "lannunet-landmarks", "weightmaps": "lannunet-weighted"}.items():
        said = environment.call("lannunet", command, cwd=trained.folder, code=2).stderr
        hint = f"{bringing} provides it: pip install lannunet"
        assert said == f"Error: There is no command '{command}' here. {hint}\n"
    said = environment.call("lannunet", "weightmap", cwd=trained.folder, code=2).stderr
    assert "No such command 'weightmap'" in said


def test_what_is_there_is_listed(environment, tmp_path):
    assert environment.needed in environment.call("lannunet", "plugins", "list", cwd=tmp_path).stdout
    listed = json.loads(environment.call("lannunet", "plugins", "list", "--json", cwd=tmp_path).stdout)
    assert (listed["tasks"], listed["problems"]) == ([], [])
    schema = environment.call("lannunet", "config", "schema", cwd=tmp_path)
    assert json.loads(schema.stdout)["$defs"] == {}


def test_with_a_task_alone_the_architecture_is_named(wheels_to_train, fresh_environment, trained, tmp_path):
    core, _, *task = wheels_to_train
    environment = fresh_environment(core, *task)
    said = environment.call("lannunet", "config", "check", "run.yaml", cwd=trained.folder, code=2).stderr
    assert "model.architecture: No plugin 'unet' is installed." in said
    assert "To add it: lannunet plugins install lannunet-unet." in said
    assert "Traceback" not in said
    said = environment.call("lannunet", "demo", "here", cwd=tmp_path, code=2).stderr
    assert "To add it: lannunet plugins install lannunet-unet." in said
    assert not list(tmp_path.rglob("*.*"))  # nothing was drawn
    said = environment.call("lannunet", "weightmaps", cwd=tmp_path, code=2).stderr
    assert "lannunet-weighted provides it: lannunet plugins install lannunet-weighted" in said


def test_without_image_formats_their_distribution_is_named(wheels_to_train, fresh_environment, trained):
    environment = fresh_environment(wheels_to_train[0])
    code = "import pathlib, lannunet_core; lannunet_core.image_format(pathlib.Path('run.yaml'))"
    said = environment.call("python", "-c", code, cwd=trained.folder, code=1).stderr
    assert "no image format is installed. To add them: lannunet plugins install lannunet-images." in said


def test_the_augmentation_package_is_named_with_the_command(wheels_to_train, fresh_environment, trained):
    environment = fresh_environment(*wheels_to_train)
    override = "sampler.data_aug_package=imgaug"
    said = environment.call(
        "lannunet", "config", "check", "run.yaml", "--set", override, cwd=trained.folder, code=2
    ).stderr
    assert said == (
        f"Error: --set {override}: sampler.data_aug_package: No plugin 'imgaug' is installed. Installed: "
        "unet. To add it: lannunet plugins install lannunet-imgaug. data_aug_package: torch applies the same "
        "schemes without it.\n"
    )
