"""The client in clients/javascript, against servers that want a token."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from places import ROOT
from processes import Machine, wait_until_known
from waiting import GIVE_UP

TOKEN = "chosen-by-a-person"


def test_what_the_javascript_client_promises(tmp_path):
    """The script asserts it; the servers are real."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here, which runs the JavaScript client")
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1", WORKER_TTL="60", AUTH_TOKEN=TOKEN) as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        wait_until_known(machine.metadata_url)
        ports = [("s1", "SYNC_LINE_PORT"), ("w1", "LINE_PORT")]
        addresses = [f"127.0.0.1:{machine.processes[name].settings[key]}" for name, key in ports]
        ran = subprocess.run(
            [node, str(ROOT / "tests/support/javascript_client.mjs"), *addresses, TOKEN],
            capture_output=True,
            text=True,
            timeout=GIVE_UP,
        )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stdout + ran.stderr
