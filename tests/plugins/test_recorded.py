"""The plugins that a model was trained with are missing, changed or installed."""

import warnings

import pytest

from lannunet_core.errors import UserError
from lannunet_core.plugins.installed import PluginWarning
from lannunet_core.plugins.recorded import require


def record(version="1.4.2", name="Acme", distribution="acme-nets"):
    return {"name": name, "distribution": distribution, "version": version}


@pytest.mark.parametrize(
    ("then", "now"),
    [("1.4.2", "1.4.9"), ("0.3.1", "0.3.0"), ("1.4.2+local", "1.4.2"), ("1.4", "1.4.0"), ("2024a", "2024a")],
)
def test_same_minor_version_is_the_same(distribution, then, now):
    distribution("Acme_Nets", {"ac-me": "m:A"}, version=now)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require([record(then)], "model.pt")


def test_one_that_was_renamed_with_its_old_name_kept(distribution):
    distribution("acme-nets", {"Apex": "m:A", "acme": "m:A"}, version="1.4.2")
    require([record()], "model.pt")


@pytest.mark.parametrize("now", ["1.5", "1.3.9"])
def test_another_minor_version_is_a_warning(distribution, now):
    distribution("acme-nets", {"Acme": "m:A"}, version=now)
    with pytest.warns(
        PluginWarning, match=rf"^model.pt: .*'Acme' \(acme-nets 1\.4\.2\); {now} is installed\. Results may"
    ):
        require([record()], "model.pt")


@pytest.mark.parametrize(
    ("then", "now"), [("1.4.2", "2.0"), ("0.3.1", "0.4.0"), ("0.3", "1.3"), ("1!1.0", "1.0"), ("odd", "1.0")]
)
def test_another_major_version_is_refused(distribution, then, now):
    distribution("acme-nets", {"Acme": "m:A"}, version=now)
    with pytest.raises(UserError) as error:
        require([record(then)], "model.pt")
    assert str(error.value) == (
        f"model.pt: it was trained with plugin 'Acme' (acme-nets {then}), but {now} is installed, which may "
        f"not be compatible. To continue: lannunet plugins install {quoted(then)}"
    )


def quoted(version):
    return f"'acme-nets=={version}'" if "!" in version else f"acme-nets=={version}"


def test_missing_ones_are_named_together(distribution):
    distribution("there", {"There": "m:A"}, version="1.0")
    missing = [record("0.3+g12"), record("1.0", "There", "there"), record("2.1", "Other", "other-net")]
    with pytest.raises(UserError) as error:
        require(missing, "model.pt")
    assert str(error.value) == (
        "model.pt: it was trained with plugin 'Acme' (acme-nets 0.3+g12), which is not installed; and with "
        "plugin 'Other' (other-net 2.1), which is not installed. "
        "To continue: lannunet plugins install acme-nets==0.3 other-net==2.1"
    )


def test_the_name_in_another_distribution_is_not_the_same(distribution):
    distribution("rival", {"acme": "m:A"}, version="7.0")
    with pytest.raises(
        UserError, match=r"'acme' \(rival 7.0\) has its name: lannunet plugins uninstall rival"
    ):
        require([record()], "model.pt")


def test_a_hidden_one_says_so(distribution, monkeypatch):
    distribution("acme-nets", {"Acme": "m:A"}, version="1.4.2")
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", "acme")
    with pytest.raises(UserError, match=r"which LANNUNET_DISABLE_PLUGINS hides: remove it there\.$"):
        require([record()], "model.pt")
