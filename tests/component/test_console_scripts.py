"""Every console script, run with wrong arguments, files, permissions and servers.

Each run ends by itself with a status that is no success, says in a few lines what was wrong,
and shows no traceback.
"""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import ROOT
from waiting import EXPECTED_WITHIN

BIN = Path(sys.executable).parent

#: What each script does that needs a metadata store, and a file where it takes one.
DOES = {
    "trough": ["up"],
    "trough-shell": ["s", "-e", "SELECT 1"],
    "trough-load": ["--segment", "s", "{file}"],
    "trough-admin": ["status"],
}
#: The tools that ask a metadata store, and take ``-u``.
TOOLS = [name for name in DOES if name != "trough"]
TWISTD = ["trough", "trough-sync", "trough-worker"]
NOBODY = 65534


def scripts():
    """The names of the console scripts, as setup.cfg has them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    return [line.partition("=")[0].strip() for line in lines if line.strip()]


class Place:
    """Files of no use, and a port on which nobody listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "a.csv"
        self.file.write_text("url\nhttp://a/\n")
        (path / "directory").mkdir()
        (path / "not.yml").write_text("METADATA_URL: [\n")
        (path / "unknown.yml").write_text("NO_SUCH_KEY: 1\n")
        (path / "bytes.yml").write_bytes(b"\xff\xfe\x00")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.closed_port = listening.getsockname()[1]

    def run(self, script, arguments, by=(), **environment):
        """Run a script, by a program that limits it; its status and what it printed."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("TROUGH_", "AUTH_"))}
        done = subprocess.run(
            [*by, str(BIN / script), *(str(each).format(file=self.file) for each in arguments)],
            cwd=self.path,
            env={**own, "TROUGH_HOME": str(self.path / "home"), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=4 * EXPECTED_WITHIN,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def place(tmp_path):
    """A directory with useless files."""
    return Place(tmp_path)


def mistakes(place, script):
    """Arguments, environment, and a word of the reason."""
    does = DOES[script]
    yield ["--no-such-option"], {}, "usage"
    for name in ("not.yml", "unknown.yml", "bytes.yml", "directory", "nowhere.yml"):
        yield does, {"TROUGH_SETTINGS": str(place.path / name)}, name
    if script == "trough":
        yield from mistakes_of_up(place)
        return
    for url, reason in [
        ("mysql://x", "mysql"),
        ("rethinkdb://", "RethinkDB"),
        (f"sqlite://{place.path}/nowhere.db", "nowhere.db"),
        (f"sqlite://{place.path}/directory", "directory"),
        (f"sqlite://{place.file}", "is not a registry"),
    ]:
        yield ["-u", url, *does], {}, reason
    if script != "trough-admin":  # which waits for a store, and says so
        yield ["-u", f"rethinkdb://127.0.0.1:{place.closed_port}/t", *does], {}, "refused"
    if script == "trough-load":
        yield ["--segment", "a/b", "{file}"], {}, "not a segment id"
        yield ["--segment", "s", "--batch", "0", "{file}"], {}, "not a number"
        yield ["--segment", "s", "--resume", "/no/where", "{file}"], {}, "/no/where"
        yield ["--segment", "s", "nowhere.csv"], {}, "No such file"
        yield ["--segment", "s", "directory"], {}, "directory"


def mistakes_of_up(place):
    """As :func:`mistakes`, of the script that starts servers."""
    yield [], {}, "COMMAND"
    yield ["down"], {}, "invalid choice"
    yield ["up", "more"], {}, "unrecognized"
    yield ["up", "--settings", "nowhere.yml"], {}, "nowhere.yml"
    yield ["up"], {"READ_PORT": "many"}, "READ_PORT"
    yield ["up", "--home", "{file}"], {}, "a.csv"


@pytest.mark.parametrize("script", scripts())
def test_mistakes_are_named(place, script):
    """No traceback, no success, and the reason."""
    cases = list(mistakes(place, script))

    def check(case):
        arguments, environment, reason = case
        status, printed = place.run(script, arguments, **environment)
        good = status > 0 and "Traceback" not in printed and reason in printed
        return None if good else (arguments, environment, status, printed[-500:])

    with ThreadPoolExecutor(2) as pool:
        assert [wrong for wrong in pool.map(check, cases) if wrong] == []
    assert not (place.path / "nowhere.db").exists(), "a mistyped name made a registry"


def test_every_script_is_walked():
    """A new script has to be added here."""
    assert sorted(scripts()) == sorted(DOES)


@pytest.mark.parametrize("plugin", TWISTD)
def test_servers_name_what_they_cannot_use(place, plugin):
    """Settings that are none, a directory that is a file, a lock that cannot be opened."""
    (place.path / "data").mkdir()
    (place.path / "data" / "lock").mkdir()
    run = ["--nodaemon", "--pidfile=", plugin]
    cases = [
        ([*run, "--no-such-option"], {}, "no-such-option"),
        (run, {"TROUGH_SETTINGS": str(place.path / "not.yml")}, "not.yml"),
        (run, {"TROUGH_SETTINGS": str(place.path / "nowhere.yml")}, "nowhere.yml"),
        (run, {"READ_PORT": "many"}, "READ_PORT"),
    ]
    if plugin == "trough-worker":
        registry = {"METADATA_URL": f"sqlite://{place.path}/registry.db"}
        registry["STORAGE_URL"] = f"file://{place.path}/canonical"
        cases.append((run, registry | {"LOCAL_DATA": str(place.file)}, "LOCAL_DATA"))
        cases.append((run, registry | {"LOCAL_DATA": str(place.path / "data")}, "lock"))
    for arguments, environment, reason in cases:
        status, printed = place.run("twistd", arguments, **environment)
        assert status > 0 and reason in printed, printed
        assert "Traceback" not in printed, printed


#: Runs a program as root without the right to open what belongs to others.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def test_files_that_another_user_owns(place):
    """What may not be opened is named, with no traceback."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, and setpriv, can make files that may not be opened")
    for name in ("secret.yml", "registry.db", "journal", "data/lock"):
        path = place.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o600)
    secret = {"TROUGH_SETTINGS": str(place.path / "secret.yml")}
    registry = {"TROUGH_URL": f"sqlite://{place.path}/registry.db"}
    cases = [(script, DOES[script], secret, "secret.yml") for script in scripts()]
    cases += [(script, DOES[script], registry, "registry.db") for script in TOOLS]
    closed = place.path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, NOBODY, NOBODY)
    beyond = {"TROUGH_URL": f"sqlite://{closed}/registry.db"}
    cases += [(script, DOES[script], beyond, "Permission denied") for script in TOOLS]
    cases.append(("trough", ["up", "--home", closed], {}, "closed"))
    resume = ["--segment", "s", "--resume", place.path / "journal", "{file}"]
    cases.append(("trough-load", resume, registry, "journal"))
    data = {"LOCAL_DATA": str(place.path / "data"), "HOSTNAME": "w"}
    data |= {"METADATA_URL": f"sqlite://{place.path}/new.db"}
    data |= {"STORAGE_URL": f"file://{place.path}/canonical"}
    cases.append(("twistd", ["--nodaemon", "--pidfile=", "trough-worker"], data, "lock"))
    for plugin, name in (("trough-sync", "registry.db"), ("trough-worker", "closed/registry.db")):
        server = data | {"METADATA_URL": f"sqlite://{place.path}/{name}"}
        cases.append(("twistd", ["--nodaemon", "--pidfile=", plugin], server, "METADATA_URL"))
    shell = {"TROUGH_SHELL_SETTINGS": str(place.path / "secret.yml")}
    cases.append(("trough-shell", DOES["trough-shell"], registry | shell, "secret.yml"))
    for script, arguments, environment, reason in cases:
        status, printed = place.run(script, arguments, UNPRIVILEGED, **environment)
        assert status > 0 and reason in printed, printed
        assert "Traceback" not in printed and "[Errno" not in printed, printed


@pytest.mark.parametrize("script", scripts())
def test_a_reader_of_the_completion_that_leaves(script):
    """It is no error of the tool: nothing is printed about it."""
    run = subprocess.run(
        ["sh", "-c", f'"{BIN / script}" --print-completion bash | true'],
        capture_output=True,
        text=True,
        check=False,
        timeout=EXPECTED_WITHIN,
    )
    assert run.stderr == ""
