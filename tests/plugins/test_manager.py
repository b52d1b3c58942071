"""The plugins of one run, through `check`, `assemble` and `answers`."""

import inspect
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from lannunet_landmarks.defaults import LandmarkDefaults
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.schema import RunConfig
from torch import nn

from lannunet_core import Plugin, PluginConfig, RunInfo, __version__, hookimpl, hookspec, hookspecs
from lannunet_core.config.compose import replaced_keys
from lannunet_core.errors import RunFailed, UserError
from lannunet_core.hookspecs import Coordinates, Event
from lannunet_core.plugins import tasks
from lannunet_core.plugins.installed import InstalledPlugin, PluginWarning
from lannunet_core.plugins.manager import SPECS, answers, assemble, check, implemented_hooks, specs_of

RUN = RunInfo(
    task="landmarks",
    dimensions=2,
    in_channels=1,
    outputs=("tip", "root"),
    input_size=(64, 48),
    spacing=None,
    supervised_resolutions=1,
    device="cpu",
    seed=0,
)


class Net(Plugin):
    @hookimpl
    def network(self):
        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 3, padding=1)


class Quiet:
    """A loss of a plugin."""

    def __call__(self, outputs, labels):
        return {"quiet": outputs.sum() * 0}

    def activation(self, outputs):
        return outputs


class QuietLoss(Plugin):
    @hookimpl
    def loss(self):
        return Quiet()


def chosen(plugin_class, config=None, version="1.0"):
    name = plugin_class.__name__.lower()
    installed = InstalledPlugin(name, f"lannunet-{name}", version, f"m:{plugin_class.__name__}")
    return SimpleNamespace(
        installed=installed, plugin_class=plugin_class, config=config or plugin_class.Config()
    )


def loaded_with(architecture, *extensions):
    run = RunConfig(dataset={"src_targets": "a.json"}, output={"output_dir": "out"})
    return SimpleNamespace(
        run=run,
        architecture=chosen(architecture),
        extensions=[chosen(extension, version="2.0") for extension in extensions],
    )


def built(architecture, *extensions) -> LandmarkHooks:
    return assembled(loaded_with(architecture, *extensions))


def assembled(loaded, *specs) -> LandmarkHooks:
    plugins = [loaded.architecture, *loaded.extensions]
    check(plugins, "landmarks", specs_of(hookspecs, *specs))
    return assemble(plugins, RUN, LandmarkDefaults(loaded.run, RUN), LandmarkHooks, specs)


def refused(architecture, *extensions) -> str:
    with pytest.raises(UserError) as error:
        check([chosen(architecture), *(chosen(one, version="2.0") for one in extensions)], "landmarks")
    return str(error.value)


def test_an_architecture_is_one_hook_and_the_core_answers_the_rest():
    hooks = built(Net)
    assert isinstance(hooks.network(), nn.Conv2d)
    solver = loaded_with(Net).run.solver
    optimizer, scheduler = hooks.optimizer_and_scheduler(
        module=nn.Linear(1, 1), solver=solver, base_lr=0.5, total_steps=10
    )
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert scheduler is not None


def test_instances_get_their_section_and_the_run():
    class Config(PluginConfig):
        width: int = 3

    seen = []

    class Wide(Net):
        def __init__(self, config, run):
            super().__init__(config, run)
            seen.append((config, run))

    loaded = loaded_with(Wide)
    loaded.architecture = chosen(Wide, Config(width=7))
    assembled(loaded)
    assert seen == [(Config(width=7), RUN)]


def test_architecture_answers_over_the_core_and_an_extension_over_both():
    class Louder(Net):
        @hookimpl
        def loss(self):
            return "not reached"

    assert isinstance(built(Louder, QuietLoss).loss(), Quiet)


def test_none_passes_the_question_on():
    class Shy(Plugin):
        @hookimpl
        def network(self):
            return None

    class ShyLoss(Plugin):
        @hookimpl
        def optimizer_and_scheduler(self):
            return None

    assert built(Net, ShyLoss).optimizer_and_scheduler(
        module=nn.Linear(1, 1), solver=loaded_with(Net).run.solver, base_lr=0.1, total_steps=2
    )
    with pytest.raises(
        UserError, match=r"'network' must return a torch.nn.Module, but the result was None.*shy"
    ):
        built(Shy).network()


def test_a_wrapper_changes_an_answer_and_two_may():
    class Doubled(Plugin):
        @hookimpl(wrapper=True)
        def network(self):
            return nn.Sequential((yield), nn.Identity())

    class Tripled(Plugin):
        @hookimpl(wrapper=True)
        def network(self):
            return nn.Sequential((yield), nn.ReLU())

    network = built(Net, Doubled, Tripled).network()
    assert isinstance(network[1], nn.ReLU)  # the last listed is outermost
    assert isinstance(network[0][1], nn.Identity)
    assert isinstance(network[0][0], nn.Conv2d)


def test_collecting_hooks_gather_all_answers():
    told = []

    class First(Plugin):
        @hookimpl
        def metrics(self, predictions):
            return {"first": len(predictions)}

        @hookimpl
        def observe(self, event):
            told.append(("first", event.name))

        @hookimpl
        def losses(self):
            return {"quiet": Quiet}

    class Second(Plugin):
        @hookimpl
        def metrics(self):
            return {"second": 2.5}

        @hookimpl
        def observe(self, event):
            told.append(("second", event.name))

    hooks = built(Net, First, Second)
    assert hooks.metrics(predictions=[]) == {"first": 0, "second": 2.5}
    hooks.observe(event=Event("start", Path(), {}, nn.Identity()))
    assert told == [("second", "start"), ("first", "start")]
    assert hooks.losses()["quiet"] is Quiet


class Watching(Plugin):
    @hookimpl
    def observe(self, event):
        event.values["told"].append("watching")


class Failing(Plugin):
    @hookimpl
    def observe(self, event):
        raise event.values["error"]


@pytest.mark.parametrize("error", [ValueError("the server is away"), SystemExit(3), UserError("no token")])
@pytest.mark.parametrize("event", ["epoch", "end", "failure"])
def test_an_observer_that_fails_is_named_and_the_run_goes_on(event, error):
    told = []
    hooks = built(Net, Watching, Failing)  # the failing one is notified first
    with pytest.warns(
        PluginWarning, match=rf"'failing' \(lannunet-failing 2.0\) .*'{event}'.*{error}.*run continues"
    ):
        hooks.observe(event=Event(event, Path(), {"told": told, "error": error}, nn.Identity()))
    assert told == ["watching"]


def test_an_observer_that_fails_at_the_start_ends_the_run():
    def started(error):
        built(Net, Failing).observe(event=Event("start", Path(), {"error": error}, nn.Identity()))

    with pytest.raises(RunFailed, match=r"'failing' \(lannunet-failing 2.0\) .*ValueError: no disk"):
        started(ValueError("no disk"))
    with pytest.raises(UserError, match=r"^set trainer.failing.token$"):
        started(UserError("set trainer.failing.token"))
    with pytest.raises(KeyboardInterrupt):
        started(KeyboardInterrupt())


def test_one_name_from_two_plugins_is_refused():
    class First(Plugin):
        @hookimpl
        def augmentations(self):
            return {"Mine": Quiet}

    class Second(First):
        pass

    with pytest.raises(UserError, match=r"'Mine' more than once.*'second' .*'first'"):
        built(Net, First, Second).augmentations()


def test_two_runs_do_not_see_each_other():
    with_extension, without = built(Net, QuietLoss), built(Net)
    assert isinstance(with_extension.loss(), Quiet)
    assert not isinstance(without.loss(), Quiet)
    assert built(Net).network() is not built(Net).network()


def test_misspelt_hook_names_the_nearest():
    class Slip(Net):
        @hookimpl
        def generate_label(self):
            return None

    message = refused(Slip)
    assert "'slip' (lannunet-slip 1.0)" in message
    assert "no hook 'generate_label'; did you mean 'generate_labels'?" in message


def test_hook_of_a_later_core_may_be_optional():
    class Ahead(Net):
        @hookimpl(optionalhook=True)
        def hook_of_tomorrow(self, anything):
            return None

    assert built(Ahead).network()


def test_unknown_argument_names_the_nearest_and_what_there_is():
    class Slip(Net):
        @hookimpl
        def generate_labels(self, landmark, states):
            return {}

    message = refused(Slip)
    assert "'landmark' is not an argument of this hook" in message
    assert "Did you mean 'landmarks'?" in message
    assert "sigmas" in message


def test_arguments_that_would_silently_not_be_given():
    class WithDefault(Net):
        @hookimpl
        def metrics(self, predictions=()):
            return {}

    class WithRest(Net):
        @hookimpl
        def metrics(self, **rest):
            return {}

    assert "must have no default" in refused(WithDefault)
    assert "'**rest' is not an argument" in refused(WithRest)


def test_order_is_the_configurations_alone():
    class Pushy(Net):
        @hookimpl(tryfirst=True)
        def loss(self):
            return Quiet()

    assert "tryfirst" in refused(Pushy)


def test_wrapper_that_does_not_yield():
    class NoYield(Net):
        @hookimpl(wrapper=True)
        def loss(self):
            return Quiet()

    assert "must yield once" in refused(NoYield)


def test_two_extensions_that_answer_the_same_hook():
    class OtherLoss(QuietLoss):
        pass

    message = refused(Net, QuietLoss, OtherLoss)
    assert "'quietloss' (lannunet-quietloss 2.0) and 'otherloss' (lannunet-otherloss 2.0)" in message
    assert "'loss'" in message


def test_two_extensions_may_answer_a_collecting_hook_and_wrap_each_other():
    class Counting(Plugin):
        @hookimpl
        def metrics(self):
            return {"n": 1}

        @hookimpl(wrapper=True)
        def loss(self):
            return (yield)

    assert built(Net, QuietLoss, Counting).metrics(predictions=[]) == {"n": 1}


def test_two_plugins_that_bring_a_network():
    class Other(Net):
        pass

    assert (
        "Plugins 'net' (lannunet-net 1.0) and 'other' (lannunet-other 2.0) both provide a network"
        in refused(Net, Other)
    )


def test_architecture_without_a_network():
    class Forgot(Plugin):
        def network(self):
            return nn.Identity()

    assert "'quietloss' (lannunet-quietloss 1.0) provides no network" in refused(QuietLoss)
    assert "'network' lacks @hookimpl" in refused(Forgot)


def test_a_plugin_that_does_not_serve_the_task():
    class Masks(Plugin):
        tasks = ("segmentation",)

        @hookimpl
        def network(self):
            raise AssertionError("it is refused before anything is made")

        def __init__(self, config, run):
            raise AssertionError("it is refused before anything is made")

    class Patches(Plugin):
        tasks = ("segmentation",)

        @hookimpl
        def sampling(self): ...

    assert refused(Masks) == (
        "model.architecture: plugin 'masks' (lannunet-masks 1.0) does not serve `task: landmarks`; it serves "
        "segmentation. To continue, choose another architecture, or set `task: segmentation`."
    )
    assert refused(Net, Patches) == (
        "trainer.plugins: plugin 'patches' (lannunet-patches 2.0) does not serve `task: landmarks`; it "
        "serves segmentation. To continue, remove it there, or set `task: segmentation`."
    )


def test_a_plugin_whose_hooks_the_task_does_not_ask_for():
    class Masks(Plugin):
        @hookimpl
        def get_segmentation(self, maps): ...

    class Both(Masks, QuietLoss):
        pass

    assert refused(Net, Masks) == (
        "trainer.plugins: plugin 'masks' (lannunet-masks 2.0) would have no effect: `task: landmarks` does "
        "not call get_segmentation, which is all that it implements. Remove it there."
    )
    check([chosen(Net), chosen(Both), chosen(Plugin)], "landmarks")


def test_hooks_take_arguments_in_their_order_too():
    net = built(Net)
    assert net.network_inputs({}) == net.network_inputs(batch={}) == {}
    with pytest.raises(TypeError, match="missing a required argument: 'batch'"):
        net.network_inputs()


@pytest.mark.parametrize("tasks", ["landmarks", (), ["landmarks"], (1,)])
def test_tasks_that_are_none(tasks):
    wrong = type("Wrong", (Net,), {"tasks": tasks})
    assert f"Wrong.tasks is {tasks!r}, should be a tuple of task names" in refused(wrong)


LABELLED = {
    "landmarks": None,
    "corner": None,
    "image_size": (8, 8),
    "sigmas": None,
    "num_res_levels": 1,
    "level_sizes": [(8, 8)],
    "lambda_scale": 1.0,
    "sample": {},
}
DECODED = {
    "heatmaps": torch.ones(2, 3, 2),
    "affine": torch.eye(3),
    "original_sizes": torch.zeros(2, 2),
    "evaluation_mode": "use_input_size",
    "image_size": (8, 8),
}
WRONG = {
    "network": (lambda: 3, {}),
    "optimizer_and_scheduler": (
        lambda: torch.optim.SGD([torch.zeros(1)], lr=1.0),
        {"module": None, "solver": None, "base_lr": 0.1, "total_steps": 1},
    ),
    "loss": (lambda: abs, {}),
    "sampling": (lambda: "full", {}),
    "generate_labels": (
        lambda: {"state": torch.zeros(1)},
        LABELLED | {"states": torch.zeros(2, 3)},
    ),
    "get_coords_from_heatmap": (
        lambda: Coordinates(torch.zeros(2, 5, 3), torch.zeros(2, 5)),
        DECODED,
    ),
    "losses": (lambda: ["kl"], {}),
    "decoders": (lambda: {"peak": "peak"}, {}),
    "augmentations": (lambda: {"None": None}, {}),
    "metrics": (lambda: {"error": "small"}, {"predictions": []}),
}


@pytest.mark.parametrize("hook", WRONG)
def test_wrong_answer_names_the_plugin_and_what_was_expected(hook):
    answer, arguments = WRONG[hook]

    def wrong(self):
        return answer()

    wrong.__name__ = hook
    plugin = type("Wrong", (Net,), {hook: hookimpl(wrong)})
    with pytest.raises(UserError, match=rf"'{hook}' must return .*'wrong' \(lannunet-wrong 1\.0\)"):
        getattr(built(plugin), hook)(**arguments)


def test_right_answers_pass():
    class Right(Net):
        @hookimpl
        def generate_labels(self, states):
            return {"state": states}

        @hookimpl
        def get_coords_from_heatmap(self, heatmaps):
            return Coordinates(heatmaps, heatmaps[..., 0])

    hooks = built(Right)
    states = torch.zeros(2, 3)
    labels = hooks.generate_labels(**LABELLED, states=states)
    assert labels["state"] is states
    found = hooks.get_coords_from_heatmap(**DECODED)
    assert found.points.shape == (2, 3, 2)


def failure(error_type, *plugins, hook="network") -> str:
    with pytest.raises(error_type) as error:
        getattr(built(*plugins), hook)()
    return str(error.value)


def test_what_a_plugin_raises_in_a_hook_is_a_message_that_names_it():
    class Crashing(Plugin):
        @hookimpl
        def network(self):
            return self.helper()

        def helper(self):
            raise ValueError("bad width\nand more")

        @hookimpl
        def loss(self):
            import not_there_at_all  # noqa: F401

        @hookimpl
        def sampling(self):
            raise SystemExit(3)

    class Around(Plugin):
        @hookimpl(wrapper=True)
        def network(self):
            return (yield)

    named = r"Plugin 'crashing' (lannunet-crashing 1.0) failed in its hook"
    message = failure(RunFailed, Crashing, Around)
    assert f"{named} 'network': ValueError: bad width. To continue, update or reinstall" in message
    assert "install the missing 'not_there_at_all'" in failure(RunFailed, Crashing, hook="loss")
    assert f"{named} 'sampling': SystemExit: 3" in failure(RunFailed, Crashing, hook="sampling")


def test_what_a_wrapper_raises_is_its_own():
    class Around(Plugin):
        @hookimpl(wrapper=True)
        def network(self):
            yield
            raise ValueError("cannot")

    assert "'around' (lannunet-around 2.0) failed in its hook 'network'" in failure(RunFailed, Net, Around)


def test_messages_of_plugins_to_users_and_ctrl_c_pass():
    class Picky(Plugin):
        @hookimpl
        def network(self):
            raise UserError("model.picky.size is too small")

    class Interrupted(Plugin):
        @hookimpl
        def network(self):
            raise KeyboardInterrupt

    assert failure(UserError, Picky) == "model.picky.size is too small"
    failure(KeyboardInterrupt, Interrupted)


def test_errors_of_the_core_are_not_a_plugins():
    with pytest.raises(AttributeError):
        built(Net).optimizer_and_scheduler(module=nn.Linear(1, 1), solver=None, base_lr=0.1, total_steps=1)


def test_a_plugin_that_cannot_be_made_is_named():
    class Unmakable(Net):
        def __init__(self, config, run):
            raise OSError("no licence")

    message = failure(RunFailed, Unmakable)
    assert (
        "Plugin 'unmakable' (lannunet-unmakable 1.0) failed when it is created for a run: OSError" in message
    )


def test_every_hook_has_a_typed_method_in_each_task_that_asks_for_it():
    for task in tasks.every():
        typed = {name for owner in task.hooks.__mro__ for name in vars(owner) if name in SPECS}
        assert typed == {name for name, spec in SPECS.items() if spec.asked_in(task.name)}
        for name in typed - {"observe", "initial_weights"}:  # methods of their own
            assert inspect.getattr_static(task.hooks, name).name == name
    assert SPECS["network"].single
    assert not SPECS["observe"].single


def test_implemented_hooks_tell_wrappers_and_look_at_the_class_only():
    class Mixed(Net):
        @property
        def costly(self):
            raise AssertionError("was evaluated")

        @hookimpl(wrapper=True)
        def loss(self):
            return (yield)

        @hookimpl(specname="sampling")
        def where_to_cut(self):
            return None

        def metrics(self):
            return "not marked"

    assert implemented_hooks(Mixed) == {"network": False, "loss": True, "sampling": False}


def test_replaced_keys():
    class All(Net):
        @hookimpl
        def loss(self): ...

        @hookimpl
        def get_coords_from_heatmap(self): ...

        @hookimpl
        def sampling(self): ...

    class Wraps(Net):
        @hookimpl(wrapper=True)
        def loss(self):
            return (yield)

    assert replaced_keys(All, LandmarkDefaults.replaced) == {
        "solver.loss_function": "loss",
        "inference.decoder": "get_coords_from_heatmap",
        "inference.shape_prior": "get_coords_from_heatmap",
        "sampler.sample_mode": "sampling",
    }
    assert replaced_keys(Wraps, LandmarkDefaults.replaced) == {}


def test_answers_are_in_the_order_in_which_they_are_asked():
    class LossNet(Net):
        @hookimpl
        def loss(self):
            return Quiet()

    class Wraps(Plugin):
        @hookimpl(wrapper=True)
        def loss(self):
            return (yield)

        @hookimpl
        def metrics(self):
            return {}

    class Counts(Wraps):
        pass

    found = dict(answers(loaded_with(LossNet, Wraps, QuietLoss, Counts), LandmarkDefaults))
    core = ("lannunet-core", __version__)
    wrapping = [("counts", "2.0"), ("wraps", "2.0")]
    assert found["loss"] == [*wrapping, ("quietloss", "2.0"), ("lossnet", "1.0"), core]
    assert found["metrics"] == wrapping
    assert found["network"] == [("lossnet", "1.0")]
    assert found["generate_labels"] == [core]
    assert list(found) == [name for name, spec in SPECS.items() if spec.asked_in("landmarks")]


# None is an answer to these: the order is drawn, the core augments on the device, no picture is written.
UNANSWERED = {"training_order", "augmenter", "debug_sample", "debug_prediction"}


def test_the_tasks_answer_every_hook_that_needs_an_answer_but_network():
    for task in tasks.every():
        need = {name for name, spec in SPECS.items() if spec.single and spec.asked_in(task.name)}
        answered = set(implemented_hooks(task.defaults))
        assert need - answered - UNANSWERED == {"network"}, task.name
        assert answered <= {name for name, spec in SPECS.items() if spec.asked_in(task.name)}


def test_what_a_specification_says_of_old_names_reaches_the_author_with_his_plugin():
    later = ModuleType("later")

    @hookspec(firstresult=True, warn_on_impl=FutureWarning("'old_name' is 'new_name' since 0.4; gone in 0.6"))
    def old_name(): ...

    @hookspec(firstresult=True, warn_on_impl_args={"points": FutureWarning("'points' is gone in 0.6")})
    def other(points, places): ...

    later.old_name, later.other = old_name, other

    class Old(Net):
        @hookimpl
        def old_name(self): ...

        @hookimpl
        def other(self, points): ...

    class Present(Net):
        @hookimpl
        def other(self, places): ...

    with pytest.warns(PluginWarning) as caught:
        assembled(loaded_with(Old), later)
    assert sorted(str(warning.message) for warning in caught) == [
        "Plugin 'old' (lannunet-old 1.0): 'old_name' is 'new_name' since 0.4; gone in 0.6",
        "Plugin 'old' (lannunet-old 1.0): 'points' is gone in 0.6",
    ]
    assembled(loaded_with(Present), later)  # prints no warning: a warning would be an error here


def test_the_examples_of_the_documentation_work_together():
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    network = built(names["TinyNet"], names["Frozen"]).network()
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]
    assert network(torch.zeros(3, 1, 48, 64)).shape == (3, 2, 48, 64)
