"""The first five minutes: the example is made once, and its three commands work."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from processes import QUICK, TroughProcess, ports_of_all


@pytest.fixture
def free():
    """Settings by which a whole Trough is alone on its ports."""
    return {**QUICK, **ports_of_all(), "MINIMUM_ASSIGNMENTS": "1"}


@pytest.fixture
def node(tmp_path, free):
    """A function that starts the whole Trough below one directory."""
    started = []

    def start():
        home = str(tmp_path / "at home, 100%41?")
        process = TroughProcess("trough", free, ("--home", home, "--example"))
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


MAKE_RUN = ["make", "-o", ".venv/installed", "run", f"BIN={Path(sys.executable).parent}"]
TROUGH_UP = [str(Path(sys.executable).with_name("trough")), "up"]


@pytest.mark.parametrize("command", [MAKE_RUN, TROUGH_UP], ids=["make run", "trough up"])
def test_it_ends_quietly_at_ctrl_c(tmp_path, free, command):
    """What a terminal does at Ctrl-C ends it, and make does not call that an error. Before that
    it says where the console is."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed here")
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **free, "TROUGH_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    try:
        with running.stdout:
            lines: list[str] = []
            while not lines or "SELECT url" not in lines[-1]:
                lines.append(running.stdout.readline())
                assert lines[-1], f"it ended by itself: {lines}"
            os.killpg(running.pid, signal.SIGINT)
            said = running.stdout.read()
        assert running.wait(60) in (0, -signal.SIGINT)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert "Error" not in said and "Interrupt" not in said
    assert f"The console, in a browser: http://127.0.0.1:{free['SYNC_SERVER_PORT']}/\n" in lines


def _shell(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout
