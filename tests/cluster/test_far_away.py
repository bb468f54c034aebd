"""A shell whose cluster is far away: what it waits for is counted in round trips."""

import os
import subprocess
from pathlib import Path

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from distance import Distance
from processes import write
from waiting import GIVE_UP


@pytest.fixture(params=PAIRS[:2])
def cluster(tmp_path, request):
    """One sync server and one worker, and a segment that is only read."""
    with Cluster(tmp_path, open_engines(request.param, tmp_path, request), 1, 1) as cluster:
        url = cluster.start().provision("s1", "far")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        cluster.promote("s1", "far")
        cluster.wait_for_copies("far", 1)
        cluster.store_ports = []
        if request.param == PAIRS[1]:
            cluster.store_ports.append(request.getfixturevalue("rethinkdb_server").port)
        yield cluster


def _round_trips(cluster, sql: str, state: Path) -> tuple[int, list[str]]:
    """How many one command of the shell needs, and what happened in them.

    :param state: where the shell remembers the workers that it asked
    """
    line = int(cluster.processes["w1"].settings["LINE_PORT"])
    distance = Distance(*cluster.store_ports, line)
    try:
        command = distance.command(
            "trough.shell.main", "-u", cluster.metadata_url, "far", "-e", sql
        )
        environ = {**os.environ, "XDG_STATE_HOME": str(state)}
        shell = subprocess.run(
            command, capture_output=True, text=True, timeout=GIVE_UP, env=environ
        )
        assert (shell.returncode, shell.stdout) == (0, "n\n1\n"), shell.stderr
        return distance.round_trips, distance.events
    finally:
        distance.close()


def test_a_command_needs_few_round_trips(cluster, tmp_path):
    """With RethinkDB: its connection, one for the salt of the password, one look-up; and of the
    worker the connection and the answer. The next command connects to that worker meanwhile. A
    GATHER asks for the schema first. With a registry, the worker's alone."""
    of_store = 3 if cluster.store_ports else 0
    of_worker = 2 if cluster.store_ports else 3
    for sql, more in (("SELECT n FROM t;", 0), ("GATHER SELECT n FROM t;", 1)):
        state = tmp_path / f"state-{more}"
        for saved in (0, 1 if cluster.store_ports else 0):
            found, events = _round_trips(cluster, sql, state)
            assert found == of_store + of_worker + more - saved, (sql, events)
