"""What the processes of a real Trough that run SQL were left with."""

import re
import sqlite3
from pathlib import Path

import pytest
from processes import TroughProcess, http, ports_of_all, until_blocking

from trough.util import confinement

TOKEN = "s3cret-token"
ASKING = {"Authorization": f"Bearer {TOKEN}"}

if found := confinement.missing():
    pytest.skip(f"this kernel has no {found}", allow_module_level=True)


def started_by(pid):
    """Processes that a process started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path("/proc", each) for each in listed]


def children(pid):
    """Processes that a server started; for the fork server of GATHER, which runs no SQL and
    has to make processes, those that it made."""
    found = []
    for process in started_by(pid):
        is_fork_server = b"trough.gather.fork_server" in (process / "cmdline").read_bytes()
        found += started_by(process.name) if is_fork_server else [process]
    return found


def is_confined(process):
    """Whether a process can gain no privileges, and has a filter of system calls."""
    status = (process / "status").read_text()
    return all(re.search(line, status, re.M) for line in (r"^NoNewPrivs:\s1$", r"^Seccomp:\s2$"))


def test_executors_hold_no_secret_and_no_privilege(tmp_path):
    """No token in the environment, no new privileges, and a filter of system calls; all the
    same they serve cold segments where these are mounted."""
    mount = tmp_path / "mount"
    (mount / "cold").mkdir(parents=True)
    with sqlite3.connect(mount / "cold" / "cold001.sqlite") as database:
        database.execute("CREATE TABLE t AS SELECT 42 AS a")
    database.close()
    process = TroughProcess(
        "trough",
        {
            **ports_of_all(),
            "EXECUTORS": "1",
            "AUTH_TOKEN": TOKEN,
            "STORAGE_URL": f"file://{mount}",
            "LISTING_INTERVAL": "0.2",
            "RUN_AS_COLD_STORAGE_NODE": "true",
            "COLD_SEGMENTS": '[{"match": "cold.*", "cold": true}]',
            "COLD_STORAGE_PATH": f"{mount}/{{prefix}}/{{segment_id}}.sqlite",
        },
        ("--home", str(tmp_path / "home")),
    ).wait_ready()
    try:
        url = f"http://127.0.0.1:{process.settings['READ_PORT']}/?segment=cold001"
        answer = until_blocking(
            lambda: (said := http("POST", url, b"SELECT a FROM t", ASKING))[0] == 200 and said,
            "the cold segment",
        )
        assert answer[1] == b'[{"a":42}]\n'
        # One may be starting at this moment.
        until_blocking(lambda: all(map(is_confined, children(process.pid))), "confinement")
        for executor in children(process.pid):
            assert TOKEN.encode() not in (executor / "environ").read_bytes()
        assert TOKEN.encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.stop()
    assert list((tmp_path / "home" / "worker" / "cold").iterdir()) == []
