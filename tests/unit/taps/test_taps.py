"""What twistd says about the three plugins, and each tool about itself."""

import re

import pytest

from trough import __version__, admin
from trough.load import main as load
from trough.settings import KEYS
from trough.shell import main as shell
from trough.taps import at_home, node, sync, worker

PLUGINS = [node, sync, worker]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_help_is_true_and_fits_a_terminal(plugin):
    """Each key that it names is one, each port has its default, no line is too long."""
    usage = plugin.Options().getUsage(80)
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", usage)) - {"TROUGH_SETTINGS"}
    assert named <= set(KEYS) and len(named) >= 5
    ports = {name for name in named if name.endswith("_PORT")}
    given = {int(number) for number in re.findall(r"\b6\d\d\d\b", usage)}
    assert given == {KEYS[name].default for name in ports - {"READ_PORT"} | _reading(plugin)}
    assert KEYS["BIND_ADDRESS"].default == "127.0.0.1" and "127.0.0.1" in usage
    assert max(map(len, usage.splitlines())) <= 80


def _reading(plugin):
    # All of them name READ_PORT, as an example of a key.
    return set() if plugin is sync else {"READ_PORT"}


@pytest.mark.parametrize(
    "say", [admin.main, load.main, shell.main, *(p.Options().parseOptions for p in PLUGINS)]
)
def test_everything_says_which_version_it_is(say, capsys):
    """``--version`` is Trough's, not Twisted's or nobody's."""
    with pytest.raises(SystemExit) as ended:
        say(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out.rstrip().endswith(f" {__version__}")


def test_everything_is_below_home_but_what_was_given(tmp_path):
    """An empty variable gives nothing, with --home as without."""
    given = {"LOCAL_DATA": "", "MINIMUM_ASSIGNMENTS": "2", "PATH": ""}
    assert at_home(given, str(tmp_path)) == {
        "METADATA_URL": f"sqlite://{tmp_path}/registry.db",
        "STORAGE_URL": f"file://{tmp_path}/canonical",
        "LOCAL_DATA": f"{tmp_path}/worker",
        "MINIMUM_ASSIGNMENTS": "2",
        "PATH": "",
    }
