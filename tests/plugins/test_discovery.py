"""Discovery with real metadata on PYTHONPATH: `.dist-info` folders and modules."""

import sys

import pytest

from lannunet_core import Plugin, __version__
from lannunet_core.errors import UserError
from lannunet_core.names import plain
from lannunet_core.plugins import discovery, installed as installing
from lannunet_core.plugins.discovery import find, installed

GOOD = "from lannunet_core import Plugin\nclass Good(Plugin): pass\n"


def names():
    return [plugin.name for plugin in installed()]


@pytest.mark.parametrize("spelling", ["U-Net", "unet", "UNet", "u_net", "U Net"])
def test_spelling_of_a_name_does_not_matter(spelling):
    assert plain(spelling) == "unet"


def test_names_with_different_letters_or_digits_differ():
    assert len({plain(name) for name in ("unet", "unet2", "unets", "ünet")}) == 4


def test_find_reads_metadata_and_imports_nothing(distribution):
    distribution("acme-nets", {"Acme-Net": "acme_nets_a:Good"}, {"acme_nets_a.py": GOOD}, version="1.2.3")
    plugin = find("ACMENET")
    assert (plugin.name, plugin.distribution, plugin.version) == ("Acme-Net", "acme-nets", "1.2.3")
    assert (plugin.value, plugin.requires_core) == ("acme_nets_a:Good", None)
    assert "acme_nets_a" not in sys.modules
    loaded = plugin.load()
    assert issubclass(loaded, Plugin)
    assert loaded.__name__ == "Good"


def test_the_shortest_name_of_a_class_is_canonical_and_the_others_aliases(distribution):
    distribution("acme", {"Zeta": "m:A", "alpha": "m:A", "other": "m:B"})
    assert find("alpha") is find("zeta")
    assert (find("ALPHA").name, find("alpha").aliases) == ("Zeta", ("alpha",))
    assert find("other").aliases == ()


def test_the_name_that_the_distribution_bears_is_canonical_however_entries_are_sorted(distribution):
    distribution("lannunet-sparser", {"nnUNetTrainerV2Sparser": "m:A", "sparser": "m:A"})
    assert find("nnUNetTrainerV2Sparser").name == "sparser"


def test_unknown_name_names_the_nearest_and_what_is_installed(distribution):
    distribution("acme", {"Hourglass": "m:A"})
    with pytest.raises(
        UserError, match=r"No plugin 'hourglas' is installed. Did you mean 'Hourglass'\?"
    ) as error:
        find("hourglas")
    assert "lannunet plugins install" in str(error.value)


def test_editable_installation_listed_twice_is_one_plugin(distribution, tmp_path, monkeypatch):
    distribution("acme", {"acme": "m:A"})
    source_folder = tmp_path / "source" / "acme.egg-info"
    source_folder.mkdir(parents=True)
    (source_folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: Acme\nVersion: 0.9\n")
    (source_folder / "entry_points.txt").write_text("[lannunet.plugins]\nacme = m:A\n")
    monkeypatch.syspath_prepend(source_folder.parent)
    discovery.scan.cache_clear()
    assert names().count("acme") == 1


def test_metadata_is_scanned_once(distribution, monkeypatch):
    distribution("acme", {"acme": "m:A"})
    find("acme")
    monkeypatch.setattr(discovery.metadata, "distributions", lambda: pytest.fail("scanned again"))
    find("acme")
    installed()


def test_two_distributions_that_claim_one_name_are_both_named(distribution):
    distribution("first", {"Acme": "m:A"}, version="1.0")
    distribution("second", {"other": "n:B", "ac-me": "n:B"}, version="2.0")
    with pytest.raises(UserError, match=r"first 1\.0 .*second 2\.0") as error:
        find("acme")
    assert "Uninstall one" in str(error.value)
    assert find("other").distribution == "second"


def test_one_distribution_with_one_name_for_two_classes_is_refused(distribution):
    distribution("first", {"Acme": "m:A", "acme": "m:B"})
    with pytest.raises(UserError, match=r"m:A.*m:B"):
        find("acme")


def test_disabled_plugins_are_not_seen(distribution, monkeypatch):
    distribution("acme", {"Acme": "m:A", "Apex": "m:A", "Bold": "m:B"})
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", "nothing,A-P-E-X")
    assert "Acme" not in names()
    assert "Bold" in names()
    with pytest.raises(UserError, match="LANNUNET_DISABLE_PLUGINS names it"):
        find("acme")


def test_unreadable_metadata_stops_nothing_and_is_reported(distribution):
    distribution("good", {"Fine": "m:A"})
    broken = distribution("broken", {"Bad": "m:A"})
    (broken / "METADATA").write_bytes(b"\xff\xfe\x00")
    (broken / "entry_points.txt").write_bytes(b"[lannunet.plugins]\nBad \xff\xfe= m:A\n")
    discovery.scan.cache_clear()
    assert "Fine" in names()
    assert "Bad" not in names()
    assert len(discovery.scan().problems) == 1
    with pytest.raises(UserError, match="cannot be read"):
        find("bad")


def test_entry_points_of_others_are_not_ours(distribution):
    distribution("tool", {}, entry_points="[console_scripts]\nlannunet.fake = m:A\n[pytest11]\nx = m\n")
    assert "lannunet.fake" not in names()
    assert "x" not in names()


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ValueError('the licence ran out')", "ValueError: the licence ran out"),
        ("import not_there_at_all", "install the missing 'not_there_at_all'"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("import os\nraise SystemExit", "SystemExit"),
        ("class Other: pass", "no attribute 'Good'"),
        ("Good = 3", "not a class derived from lannunet_core.Plugin but 3"),
        ("class Good: pass", "not a class derived from lannunet_core.Plugin"),
        ("def broken(:", "SyntaxError"),
        (
            "from lannunet_core import Plugin\nclass Good(Plugin):\n    Config = dict",
            "Config is not a pydantic model derived from lannunet_core.PluginConfig",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_message(distribution, source, cause, request):
    module = f"broken_{abs(hash(request.node.name))}"
    distribution("acme", {"Acme": f"{module}:Good"}, {f"{module}.py": source}, version="3.1")
    with pytest.raises(UserError) as error:
        find("acme").load()
    message = str(error.value)
    assert cause in message
    assert "'Acme' (acme 3.1)" in message
    assert "acme" in message.rpartition(". ")[2]  # the last sentence states what to do
    assert "\n" not in message


def test_missing_module_of_the_plugin_itself(distribution):
    distribution("acme", {"Acme": "nowhere_here.sub:Good"})
    with pytest.raises(UserError, match=r"No module named 'nowhere_here'.*install acme again"):
        find("acme").load()


def test_ctrl_c_during_an_import_is_not_the_plugins_fault(distribution):
    distribution("acme", {"Acme": "interrupts:Good"}, {"interrupts.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        find("acme").load()


def test_requirement_on_the_core_is_checked_before_the_import(distribution):
    distribution(
        "acme",
        {"Acme": "demanding:Good"},
        {"demanding.py": "raise ValueError('was imported')"},
        requires=["numpy", "Lannunet_Core >= 99", "lannunet-core<1000; extra == 'never'"],
    )
    assert find("acme").requires_core == ">=99"
    with pytest.raises(UserError) as error:
        find("acme").load()
    message = str(error.value)
    assert f"requires lannunet-core>=99, but {__version__} is installed" in message
    assert "was imported" not in message


def test_requirement_that_holds(distribution):
    distribution(
        "acme", {"Acme": "content:Good"}, {"content.py": GOOD}, requires=[f"lannunet-core=={__version__}"]
    )
    assert find("acme").load()


def test_what_a_plugin_prints_goes_to_stderr_with_a_warning(distribution, capsys):
    distribution("acme", {"Acme": "chatty:Good"}, {"chatty.py": "print('hello')\n" + GOOD})
    with pytest.warns(UserWarning, match=r"Plugin 'Acme' \(acme .*prints while it is imported"):
        find("acme").load()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hello\n"


def test_a_slow_plugin_works_and_is_warned_about(distribution, monkeypatch):
    distribution("acme", {"Acme": "slow_one:Good"}, {"slow_one.py": GOOD})
    monkeypatch.setattr(installing, "SLOW_IMPORT_SECONDS", -1)
    with pytest.warns(UserWarning, match="Plugin 'Acme' .* to import"):
        assert find("acme").load()
