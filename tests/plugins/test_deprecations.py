"""Old names of hooks and arguments, through plugins that still use them."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version
from torch import nn

from lannunet_core import Plugin, RunInfo, __version__, hookimpl
from lannunet_core.config.schema import RunConfig
from lannunet_core.errors import UserError
from lannunet_core.plugins import deprecations, manager
from lannunet_core.plugins.defaults import Defaults
from lannunet_core.plugins.deprecations import DEPRECATED, Deprecated
from lannunet_core.plugins.discovery import InstalledPlugin, PluginWarning

RUN = RunInfo(
    task="landmarks",
    dimensions=2,
    in_channels=1,
    outputs=("tip",),
    input_size=(16, 16),
    spacing=None,
    supervised_resolutions=1,
    device="cpu",
    seed=0,
)


class Old(Plugin):
    """Written for a core whose hooks had other names."""

    @hookimpl
    def model(self):
        return nn.Identity()

    @hookimpl
    def generate_labels(self, points, states):
        return {"state": states, "points": points}

    @hookimpl(specname="make_loss")
    def anything(self):
        return self

    def __call__(self, outputs, labels):
        return {}

    def activation(self, outputs):
        return outputs


class OldWrapper(Plugin):
    @hookimpl(wrapper=True)
    def generate_labels(self, points):
        labels = yield
        return {**labels, "wrapped": points}


def loaded(architecture, *extensions):
    def chosen(plugin_class):
        name = plugin_class.__name__.lower()
        installed = InstalledPlugin(name, (), f"{name}-net", "1.5", f"m:{plugin_class.__name__}", None)
        return SimpleNamespace(installed=installed, plugin_class=plugin_class, config=plugin_class.Config())

    run = RunConfig(dataset={"src_targets": "a.json"}, output={"output_dir": "out"})
    return SimpleNamespace(
        run=run, architecture=chosen(architecture), extensions=[chosen(e) for e in extensions]
    )


@pytest.fixture
def renamed(monkeypatch):
    renames = (
        Deprecated("model", since="0.3", renamed_to="network"),
        Deprecated("make_loss", since="0.4", renamed_to="loss"),
        Deprecated("generate_labels", since="1.9", argument="points", renamed_to="landmarks"),
    )
    monkeypatch.setattr(deprecations, "DEPRECATED", renames)


def labels_of(hooks):
    landmarks, states = torch.ones(1, 1, 2), torch.zeros(1, 1)
    return hooks.generate_labels(landmarks, states, None, (16, 16), None, 1, [(16, 16)], 1.0, {})


def test_old_names_work_and_are_warned_about(renamed):
    run = loaded(Old)
    with pytest.warns(PluginWarning) as caught:
        hooks = manager.build(run, RUN, Defaults(run.run, RUN))
    messages = sorted({str(warning.message) for warning in caught})
    assert messages == [
        f"Plugin 'old' (old-net 1.5) uses an old name: the {what}; the old form works until lannunet-core "
        f"{until}. Update old-net, or tell its author."
        for what, until in (
            ("argument 'points' is now called 'landmarks'", "1.11"),
            ("hook 'make_loss' is now called 'loss'", "0.6"),
            ("hook 'model' is now called 'network'", "0.5"),
        )
    ]
    assert isinstance(hooks.network(), nn.Identity)
    assert isinstance(hooks.loss(), Old)
    assert labels_of(hooks)["points"].shape == (1, 1, 2)


@pytest.mark.filterwarnings("ignore::lannunet_core.plugins.discovery.PluginWarning")
def test_an_old_name_counts_as_the_present_one(renamed):
    class Other(Old):
        pass

    assert manager.implemented_hooks(Old) == {"network": False, "generate_labels": False, "loss": False}
    assert manager.replaced_keys(Old) == {"solver.loss_function": "loss"}
    assert dict(manager.answers(loaded(Old)))["network"] == [("old", "1.5")]
    with pytest.raises(UserError, match="both bring a network"):
        manager.check(loaded(Old, Other))


@pytest.mark.filterwarnings("ignore::lannunet_core.plugins.discovery.PluginWarning")
def test_an_old_wrapper_wraps(renamed):
    run = loaded(Old, OldWrapper)
    labels = labels_of(manager.build(run, RUN, Defaults(run.run, RUN)))
    assert labels["wrapped"] is labels["points"]


def test_what_goes_without_successor_says_what_to_do(monkeypatch):
    class Pictures(Plugin):
        @hookimpl
        def debug_sample(self, batch, folder):
            return True

    going = Deprecated("debug_sample", since="0.2", instead="Write pictures from `observe`.")
    monkeypatch.setattr(deprecations, "DEPRECATED", (going,))
    plugin = loaded(Pictures).architecture
    with pytest.warns(PluginWarning, match=r"'debug_sample' is going away; .* 0\.4\. Write pictures from"):
        manager.check_class(plugin.installed, plugin.plugin_class)


def test_without_the_entry_an_old_name_is_refused():
    with pytest.raises(UserError, match=r"Old\.\w+: there is no hook '.*Update old-net"):
        manager.check(loaded(Old))


def test_present_names_are_handed_through_as_they_are():
    class Present(Plugin):
        @hookimpl
        def network(self):
            return nn.Identity()

    method = Present(None, RUN).network
    assert deprecations.under_present_names(method, "network") == method
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager.check(loaded(Present))


def test_no_entry_is_past_its_time_or_out_of_step_with_the_hooks():
    for entry in DEPRECATED:
        assert Version(__version__) < Version(entry.until), f"take out {entry}"
        hook = deprecations.present_hook(entry.hook)
        assert hook in manager.SPECS
        if entry.argument:
            known = manager.SPECS[hook].arguments
            assert (entry.renamed_to or entry.argument) in known
