"""Everything is killed, in turn and at random, while clients write, and nothing is lost.

``TROUGH_CHAOS_SECONDS`` says how long (20), ``TROUGH_CHAOS_SEED`` with which seed.
"""

import os
import random
from pathlib import Path

import pytest
from chaos import Clients, Ledger, Monkey, Victim, check, check_nothing_leaks
from cluster_engines import PAIRS, Engines, open_engines, rethink_url
from cluster_nodes import Cluster
from processes import http, until_blocking
from rethinkdb_server import rethinkdb_cluster  # noqa: F401
from storages import HdfsHand

SECONDS = float(os.environ.get("TROUGH_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("TROUGH_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SEGMENTS = [f"chaos-{number}" for number in range(6)]
ROWS = 10_000


def test_on_one_machine(tmp_path, request):
    """On a registry and a directory: workers and the leader are killed."""
    _rage(tmp_path, open_engines(PAIRS[0], tmp_path, request))


def test_on_rethinkdb_and_hdfs(tmp_path, rethinkdb_cluster, hdfs):  # noqa: F811
    """On three RethinkDB servers and HDFS: these are killed as well."""
    dice = random.Random(SEED)
    hand = HdfsHand(hdfs, f"/chaos-{SEED}-{os.getpid()}")

    def kill_rethinkdb():
        server = dice.choice(rethinkdb_cluster)
        server.kill()
        return server.name

    def revive_rethinkdb(name):
        server = next(server for server in rethinkdb_cluster if server.name == name)
        server.start(*[other for other in rethinkdb_cluster if other is not server])

    def kill_datanode():
        hdfs.datanode.kill()
        return ""

    def revive_datanode(_):
        hdfs.datanode.start()
        hdfs.wait()

    _rage(
        tmp_path,
        Engines(rethink_url(*rethinkdb_cluster), hand),
        Victim("RethinkDB server", kill_rethinkdb, revive_rethinkdb),
        Victim("DataNode", kill_datanode, revive_datanode),
    )


def _rage(directory: Path, engines: Engines, *victims: Victim) -> None:
    print(f"TROUGH_CHAOS_SEED={SEED} TROUGH_CHAOS_SECONDS={SECONDS:g}")
    ledger = Ledger()
    sessions: set[int] = set()
    with _Recorded(directory, engines, sessions) as cluster:
        cluster.start()
        schema = cluster.url("s1", "SYNC_SERVER_PORT") + "schema/chaos/sql"
        assert http("PUT", schema, b"CREATE TABLE t (n INTEGER)")[0] == 201
        clients = Clients(cluster, ledger, SEGMENTS, 4, SEED)
        monkey = Monkey(cluster, ledger, SEGMENTS, random.Random(SEED), *victims)
        clients.start()
        try:
            monkey.rage(SECONDS)
            cluster.revive()
            until_blocking(lambda: ledger.count >= ROWS, f"{ROWS} rows")
        finally:
            clients.stop()
        print(
            f"{ledger.count} rows acknowledged, {clients.promotions} promotions, "
            f"{clients.refusals} refusals, deaths: {dict(monkey.deaths)}"
        )
        assert len(monkey.deaths) >= min(2, SECONDS) and clients.promotions
        check(cluster, ledger, SEGMENTS, copies=2)
        for process in cluster.processes.values():
            process.stop()
            assert "Traceback" not in process.output, process.output
        check_nothing_leaks(cluster, SEGMENTS, sessions)


class _Recorded(Cluster):
    """A cluster that notes the session of everything that it starts."""

    def __init__(self, directory: Path, engines: Engines, sessions: set[int]) -> None:
        super().__init__(directory, engines)
        self._sessions = sessions

    def _start(self, *args, **options):
        process = super()._start(*args, **options)
        self._sessions.add(process.pid)
        return process


@pytest.fixture(autouse=True)
def seed_is_printed():
    """Also of a test that fails before it begins."""
    print(f"seed {SEED}")
