"""The first five minutes: the example is made once, and its three commands work."""

import json
import shutil
import signal
import subprocess

import pytest
from processes import QUICK, TroughProcess, free_ports

KEYS = ("READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "LINE_PORT", "SYNC_SERVER_PORT",
        "SYNC_LINE_PORT")  # fmt: skip


@pytest.fixture
def node(tmp_path):
    """A function that starts the whole Trough below one directory."""
    started = []
    ports = dict(zip(KEYS, map(str, free_ports(len(KEYS))), strict=True))
    settings = {**QUICK, **ports, "MINIMUM_ASSIGNMENTS": "1"}

    def start():
        process = TroughProcess("trough", settings, ("--home", str(tmp_path), "--example"))
        started.append(process)
        process.wait_ready()
        process.wait_for("example-1', 'SELECT url")
        return process

    yield start
    for process in started:
        process.stop()


def _commands(process):
    """The commands that were printed, as one would paste them."""
    text = process.output.partition("Try, in another terminal:")[2]
    return [block.strip() for block in text.split("\n\n") if block.strip()]


def test_the_three_commands_work_and_the_second_start_finds_everything(node):
    """curl, nc and Python answer as promised, before and after Ctrl-C and a new start."""
    for name in ("curl", "nc"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed here")
    process = node()
    for attempt in ("first", "second"):
        curl, netcat, python = _commands(process)
        hosts = json.loads(_shell(curl))
        assert sum(row["captures"] for row in hosts) == 200
        assert "1 END segments=3 failed=0 rows=3" in _shell(netcat)
        assert "http" in _shell(python)
        if attempt == "first":
            # twistd ends by the very signal that it was stopped with.
            assert process.stop() == -signal.SIGINT
            process = node()


def _shell(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout
