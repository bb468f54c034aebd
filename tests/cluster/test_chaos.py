"""Everything is killed or stopped, in turn and at random, while clients write, and nothing
is lost. Readers judge each answer meanwhile: one that lacks acknowledged rows says so.

``TROUGH_CHAOS_SECONDS`` says how long (20), ``TROUGH_CHAOS_SEED`` with which seed.
"""

import os
import random
import signal
from pathlib import Path

import pytest
from chaos import Clients, Ledger, Monkey, Victim, check, check_nothing_leaks
from cluster_engines import PAIRS, Engines, open_engines, rethink_url
from cluster_nodes import Cluster
from processes import QUICK, TroughProcess, http, until_blocking
from python_texts import python_texts
from staleness import PAUSE, Readers
from storages import DirectoryHand, HdfsHand

SECONDS = float(os.environ.get("TROUGH_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("TROUGH_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SEGMENTS = [f"chaos-{number}" for number in range(6)]
ROWS = 10_000
HEARTBEAT = float(QUICK["HEARTBEAT_INTERVAL"])


def test_on_one_machine(tmp_path, request):
    """On a registry and a directory: workers and the leader are killed."""
    _rage(tmp_path, open_engines(PAIRS[0], tmp_path, request))


def test_on_rethinkdb_and_a_directory(tmp_path, rethinkdb_cluster):
    """On three RethinkDB servers: these are killed, or stand still, as well."""
    engines = Engines(rethink_url(*rethinkdb_cluster), DirectoryHand(tmp_path / "canonical"))
    _rage(tmp_path, engines, *_rethinkdb_victims(rethinkdb_cluster))


def test_on_rethinkdb_and_hdfs(tmp_path, rethinkdb_cluster, hdfs):
    """The same, and HDFS is killed, or stands still, too."""
    hand = HdfsHand(hdfs, f"/chaos-{SEED}-{os.getpid()}")
    engines = Engines(rethink_url(*rethinkdb_cluster), hand)
    _rage(tmp_path, engines, *_rethinkdb_victims(rethinkdb_cluster), *_hdfs_victims(hdfs))


def _rethinkdb_victims(servers) -> list[Victim]:
    dice = random.Random(SEED)

    def named(names):
        return [server for server in servers if server.name in names.split()]

    def kill(number=1):
        doomed = dice.sample(servers, number)
        for server in doomed:
            server.kill()
        return " ".join(server.name for server in doomed)

    def revive(names):
        running = [server for server in servers if server not in named(names)]
        for server in named(names):
            server.start(*running)
            running.append(server)

    def stop():
        server = dice.choice(servers)
        server.signal(signal.SIGSTOP)
        return server.name

    def resume(name):
        for server in named(name):
            server.signal(signal.SIGCONT)

    return [
        Victim("RethinkDB server", kill, revive),
        Victim("two RethinkDB servers", lambda: kill(2), revive),
        Victim("RethinkDB server that stands still", stop, resume),
    ]


def _hdfs_victims(hdfs) -> list[Victim]:
    def freeze_namenode():
        hdfs.namenode.freeze()
        return ""

    def kill_datanode():
        hdfs.datanode.kill()
        return ""

    def revive_datanode(_):
        hdfs.datanode.start()
        hdfs.wait()

    return [
        Victim("NameNode that stands still", freeze_namenode, lambda _: hdfs.namenode.thaw()),
        Victim("DataNode", kill_datanode, revive_datanode),
    ]


def _rage(directory: Path, engines: Engines, *victims: Victim) -> None:
    print(f"TROUGH_CHAOS_SEED={SEED} TROUGH_CHAOS_SECONDS={SECONDS:g}")
    ledger = Ledger()
    sessions: set[int] = set()
    with _Recorded(directory, engines, sessions) as cluster:
        cluster.start()
        schema = cluster.url("s1", "SYNC_SERVER_PORT") + "schema/chaos/sql"
        assert http("PUT", schema, b"CREATE TABLE t (n INTEGER)")[0] == 201
        clients = Clients(cluster, ledger, SEGMENTS, 4, SEED)
        monkey = Monkey(cluster, ledger, random.Random(SEED), *victims)
        readers = Readers(cluster, ledger.readable, SEGMENTS, HEARTBEAT, SEED)
        clients.start()
        readers.start()
        try:
            monkey.rage(SECONDS)
            cluster.revive()
            until_blocking(
                lambda: ledger.count >= ROWS and clients.promotions, f"{ROWS} rows, and a promotion"
            )
        finally:
            readers.stop()
            clients.stop()
            cluster.save_logs()
        print(
            f"{ledger.count} rows acknowledged, {clients.promotions} promotions, "
            f"{clients.refusals} refusals, deaths: {dict(monkey.deaths)}; "
            f"{readers.answers} answers without a mark and {readers.marked} with one were judged; "
            f"rows were missing without a mark {readers.worst:.2f} s after a change of the writer, "
            f"at most; a wait of {PAUSE} s took {readers.late:.2f} s longer, at most"
        )
        assert readers.stale == []
        assert readers.answers > 0
        assert len(monkey.deaths) >= 2
        check(cluster, ledger, SEGMENTS, copies=2)
        for process in cluster.processes.values():
            process.stop()
            assert "Traceback" not in process.output, process.output
            assert python_texts(process.output) == []
        check_nothing_leaks(cluster, SEGMENTS, sessions)


class _Recorded(Cluster):
    """A cluster that notes the session, and keeps the log, of everything that it starts."""

    def __init__(self, directory: Path, engines: Engines, sessions: set[int]) -> None:
        super().__init__(directory, engines)
        self._sessions = sessions
        self._all: list[tuple[str, TroughProcess]] = []

    def _start(self, *args, **options):
        process = super()._start(*args, **options)
        self._sessions.add(process.pid)
        self._all.append((args[1], process))
        return process

    def save_logs(self) -> None:
        """Keep what every process said until now, in its order, beside its data."""
        for number, (name, process) in enumerate(self._all):
            (self.directory / f"{name}-{number}.log").write_text(process.output)


@pytest.fixture(autouse=True)
def seed_is_printed():
    """Also of a test that fails before it begins."""
    print(f"seed {SEED}")
