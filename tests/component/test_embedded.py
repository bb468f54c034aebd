"""The registry file: many processes, crashes, versions, and what cannot be opened."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
from metadata_stores import EmbeddedStores, Notices, assignment, candidate, copy, gathered
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from waiting import until

from trough import errors
from trough.metadata.open import open_metadata
from trough.metadata.open_blocking import open_blocking
from trough.metadata.sqlite import reads
from trough.metadata.sqlite import writes as changes
from trough.metadata.sqlite.database import APPLICATION_ID, Database, scripts, upgrade
from trough.metadata.sqlite.store import SqliteMetadata
from trough.metadata.sqlite.watch import assignment_source, lock_changes
from trough.model import Lock, Schema

async_test = pytest_twisted.ensureDeferred


@pytest.fixture
def stores(tmp_path):
    """An empty registry."""
    tried = EmbeddedStores(tmp_path)
    yield tried
    pytest_twisted.blockon(Deferred.fromCoroutine(tried.close()))


@pytest.fixture
def processes():
    """Python programs that are gone after the test."""
    started = []

    def start(program: str, *arguments: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


# -- processes ---------------------------------------------------------------------

WRITER = """
    import sys
    from pathlib import Path
    from trough.metadata.sqlite import writes as changes
    from trough.metadata.sqlite.database import Database
    from trough.model import Assignment, Leader

    database = Database(Path(sys.argv[1]), create=True)
    leader = database.change(True, changes.campaign, Leader("s", "s", "http://s/", ttl=3600.0))
    number = 0
    while True:
        number += 1
        rows = [Assignment(f"{number}-{i}", "w", 0, "path") for i in range(50)]
        database.change(True, changes.change_assignments, leader, rows, [])
        database.change(True, changes.take_lock, f"{number}", "w")
        print(number, flush=True)
"""


def test_a_process_killed_in_mid_write_leaves_whole_transactions(tmp_path, processes):
    """What was answered is there; of what was not, all or nothing."""
    path = tmp_path / "registry.db"
    for _ in range(3):
        process = processes(WRITER, path)
        answered = int(process.stdout.readline())
        while answered < 20:
            answered = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        answered = max([answered, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait()

        database = Database(path, create=True)
        assert database.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for number in range(1, answered + 2):
            rows = [
                reads.assignments_of_segment(*look(database), f"{number}-{i}") for i in range(50)
            ]
            assert {len(row) for row in rows} in ({0}, {1})
            if number <= answered:
                assert {len(row) for row in rows} == {1}
                assert reads.lock_of(*look(database), f"{number}").node == "w"
        leader = reads.leader(database.connection, time.time())
        database.change(True, changes.resign, leader)
        clear(database)
        database.close()


def look(database):
    """What questions are asked of."""
    return database.connection, 0.0


def clear(database):
    """Make room for the next round."""
    database.connection.execute("DELETE FROM assignment")
    database.connection.execute("DELETE FROM lock")


LOCKER = """
    import sys
    from pathlib import Path
    from trough.metadata.sqlite import writes as changes
    from trough.metadata.sqlite.database import Database

    database = Database(Path(sys.argv[1]), create=True)
    print("ready", flush=True)
    for segment in sys.argv[3:]:
        print(database.change(True, changes.take_lock, segment, sys.argv[2]).node, flush=True)
"""


@async_test
async def test_notices_come_from_other_processes(stores, processes):
    """A lock that another process takes is told here."""
    store = await stores.open()
    notices = Notices()
    store.watch_locks(notices)
    await notices.until(lambda all_: all_)
    processes(LOCKER, stores.path, "w1", "a")
    await notices.until(lambda all_: any(x.segment == "a" for n in all_ for x in n.held))


def test_processes_that_start_together_make_one_registry(tmp_path, processes):
    """Each finds what the others wrote, and each lock has one holder."""
    path = tmp_path / "below" / "registry.db"
    segments = [f"{i}" for i in range(20)]
    several = [processes(LOCKER, path, f"w{i}", *segments) for i in range(5)]
    told = [process.communicate(timeout=120)[0].split()[1:] for process in several]
    assert [process.returncode for process in several] == [0] * 5
    assert len(told[0]) == 20
    assert all(holders == told[0] for holders in told)


def test_the_blocking_side_loads_no_server(processes):
    """Importing it brings neither Twisted nor the RethinkDB driver along."""
    process = processes("""
        import sys
        import trough.metadata.blocking
        heavy = ("twisted", "rethinkdb", "pysqlite3", "prompt_toolkit", "yaml")
        print([name for name in sys.modules if name.split(".")[0] in heavy])
    """)
    assert process.communicate(timeout=60)[0].strip() == "[]"


# -- versions ----------------------------------------------------------------------

SECOND = """
-- A second version; this comment holds a ; of its own.
ALTER TABLE worker ADD COLUMN colour TEXT NOT NULL DEFAULT 'none; really';
CREATE TABLE further (a);
"""


def test_an_older_registry_is_upgraded_once(tmp_path):
    """Each script is applied in turn, and rows that are there stay."""
    database = Database(tmp_path / "registry.db", create=True)
    database.change(True, changes.put_schema, Schema("kept", "x"))
    known = [*scripts(), SECOND]
    upgrade(database.connection, known, database.path)
    upgrade(database.connection, known, database.path)
    assert database.connection.execute("SELECT version FROM version").fetchall() == [(len(known),)]
    assert database.connection.execute("SELECT colour FROM worker").fetchall() == []
    assert database.read(reads.schema, "kept").sql == "x"


def test_a_lock_of_an_older_registry_has_no_followers(tmp_path):
    """It is held as before the upgrade, by nobody else."""
    path = tmp_path / "registry.db"
    make_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO lock VALUES ('a', 'w1', 3, 5.0, 1)")
        connection.commit()
    database = Database(path, create=True)
    assert database.read(reads.lock_of, "a") == Lock("a", "w1", 3, 5.0)


def test_an_upgrade_that_fails_changes_nothing(tmp_path):
    """All of a version, or nothing of it."""
    database = Database(tmp_path / "registry.db", create=True)
    before = database.connection.execute("SELECT sql FROM sqlite_master").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        upgrade(database.connection, [*scripts(), SECOND + "CREATE TABLE further (b);"], Path("x"))
    assert database.connection.execute("SELECT sql FROM sqlite_master").fetchall() == before
    assert database.connection.execute("SELECT version FROM version").fetchone() == (
        len(scripts()),
    )


def make_version_1(path):
    """A registry as the first version made it, with a worker and a leader, both alive."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(scripts()[0])
        connection.execute(
            "INSERT INTO worker VALUES ('w1', 'i', '', '', '', '', 0, 0, 0, 0, 30, ?, ?, 0)",
            (time.time(), time.time()),
        )
        connection.execute(
            "INSERT INTO leader VALUES (1, 's1', 'i', '', '', 1, 10, ?)", (time.time(),)
        )


@async_test
async def test_a_tool_upgrades_no_registry_that_servers_use(tmp_path):
    """They are of the earlier version. It says so, and which ones; once they are gone it does."""
    path = tmp_path / "registry.db"
    make_version_1(path)
    tool = open_metadata(f"sqlite://{path}", reactor, patience=30.0)
    with pytest.raises(errors.BadSettings, match=r"has version 1 .* servers use it \(s1, w1\)"):
        await tool.open()
    with pytest.raises(errors.BadSettings, match="has version 1 of an earlier Trough"):
        open_blocking(f"sqlite://{path}").workers()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version FROM version").fetchall() == [(1,)]
        connection.execute("UPDATE worker SET last_heartbeat = 0")
        connection.execute("UPDATE leader SET renewed_on = 0")
        connection.commit()
    await tool.open()
    assert await tool.schemas() == ["default"]
    await tool.close()


@async_test
async def test_a_server_upgrades_a_registry(tmp_path):
    """Also with rows of servers that were just killed; locks are treated as dirty."""
    path = tmp_path / "registry.db"
    make_version_1(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO lock VALUES ('300001', 'w1', 3, 5.0, 1)")
    server = open_metadata(f"sqlite://{path}", reactor)
    await server.open()
    [lock] = await server.locks()
    assert (lock.epoch, lock.dirty_since, lock.is_clean) == (3, None, False)
    await server.mark_clean([lock])
    assert (await server.lock_of("300001")).is_clean
    await server.close()


@async_test
async def test_a_registry_of_a_later_version_is_refused(tmp_path):
    """By servers and by clients, naming the file and both versions, and unchanged."""
    path = tmp_path / "registry.db"
    Database(path, create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE version SET version = 99")
    connection.close()
    with pytest.raises(errors.BadSettings, match=r"registry\.db has version 99"):
        await SqliteMetadata(path, reactor).open()
    with pytest.raises(errors.BadSettings, match="version 99"):
        open_blocking(f"sqlite://{path}").leader()


@pytest.mark.parametrize("damage", ["DELETE FROM version", "UPDATE version SET version = 'one'"])
def test_a_registry_without_a_version_is_refused(tmp_path, damage):
    """As damaged bytes can leave it; its error names the file."""
    path = tmp_path / "registry.db"
    Database(path, create=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(errors.BadSettings, match=r"registry\.db is damaged: it has no version"):
        Database(path, create=True)


@pytest.mark.parametrize("create", [True, False])
def test_another_programs_database_is_refused(tmp_path, create):
    """A file that is not a registry is left alone."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(errors.BadSettings, match="not a registry"):
        Database(path, create=create)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]
    connection.close()


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_refused(tmp_path, create):
    """Whatever it is, it stays as it was."""
    path = tmp_path / "registry.db"
    path.write_bytes(b"once upon a time " * 1000)
    with pytest.raises(errors.BadSettings, match="not a registry"):
        Database(path, create=create)
    assert path.read_bytes() == b"once upon a time " * 1000


def test_a_registry_says_what_it_is(tmp_path):
    """The file's header carries our mark, which ``file`` and people can see."""
    Database(tmp_path / "registry.db", create=True).close()
    header = (tmp_path / "registry.db").read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID


# -- bad luck ----------------------------------------------------------------------


def test_a_missing_registry_is_unavailable_until_it_is_made(tmp_path):
    """A client that was started first finds it as soon as there is one, and makes none."""
    path = tmp_path / "registry.db"
    blocking = open_blocking(f"sqlite://{path}")
    with pytest.raises(errors.Unavailable, match="there is no registry"):
        blocking.leader()
    assert not path.exists()
    Database(path, create=True).close()
    assert blocking.schemas() == ["default"]
    blocking.close()


def test_a_registry_that_was_replaced_is_looked_at_anew(tmp_path):
    """A broken file fails a call; once it is whole again, calls succeed."""
    path = tmp_path / "registry.db"
    Database(path, create=True).close()
    blocking = open_blocking(f"sqlite://{path}")
    assert blocking.schemas() == ["default"]
    whole = path.read_bytes()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    path.write_bytes(whole[:5000])
    # The connection kept still sees the file that was removed; a fresh one does not.
    blocking.close()
    with pytest.raises((errors.Unavailable, errors.BadSettings)):
        blocking.schemas()
    path.write_bytes(whole)
    assert blocking.schemas() == ["default"]


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path):
    """The path is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.Unavailable, match="registry"):
        Database(tmp_path / "file" / "registry.db", create=True)


def test_a_busy_registry_is_unavailable_and_unchanged(tmp_path):
    """Another process's endless transaction is waited for, but not for ever."""
    path = tmp_path / "registry.db"
    other = Database(path, create=True)
    database = Database(path, create=True, patience=0.05)
    other.connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable, match="locked"):
        database.change(True, changes.take_lock, "a", "w1")
    assert database.read(reads.lock_of, "a") is None
    other.connection.execute("ROLLBACK")
    assert database.change(True, changes.take_lock, "a", "w1").node == "w1"


def test_a_full_disk_is_unavailable_and_changes_nothing(tmp_path):
    """A change that does not fit is as if it had not been asked for."""
    database = Database(tmp_path / "registry.db", create=True)
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(errors.Unavailable, match="full"):
        database.change(False, changes.publish_copies, [copy(f"{i}", "w") for i in range(5000)])
    assert database.read(reads.copies_of, ["1", "2"]) == {}


def test_a_reading_connection_cannot_write(tmp_path):
    """The client's side could change nothing if it tried."""
    Database(tmp_path / "registry.db", create=True).close()
    database = Database(tmp_path / "registry.db")
    with pytest.raises(errors.Unavailable, match="readonly"):
        database.read(changes.take_lock, "a", "w1")


def test_a_mistake_of_ours_is_not_told_as_unavailable(tmp_path):
    """Whoever retries on Unavailable must not retry a bug."""
    database = Database(tmp_path / "registry.db", create=True)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.read(lambda connection, now: connection.execute("SELECT * FROM nonsense"))
    assert database.read(reads.schemas) == ["default"]


# -- patterns ----------------------------------------------------------------------


@async_test
async def test_a_matcher_takes_no_module_from_where_it_is_started(tmp_path, monkeypatch):
    """A shell may be started anywhere; a file called json.py there is not run."""
    (tmp_path / "json.py").write_text("raise SystemExit('not the one that was meant')")
    monkeypatch.chdir(tmp_path)
    store = SqliteMetadata(tmp_path / "registry.db", reactor)
    await store.open()
    try:
        await store.publish_copies([copy("s1", "w1")])
        assert len(await gathered(store.segments_matching("^s"))) == 1
    finally:
        await store.close()


@async_test
async def test_an_evil_pattern_stops_only_itself(tmp_path):
    """While it burns its processor time the store answers, and then it is told why."""
    path = tmp_path / "registry.db"
    store = SqliteMetadata(path, reactor)
    await store.open()
    try:
        await store.publish_copies([copy("a" * 40 + "b", "w1")])
        evil = Deferred.fromCoroutine(gathered(store.segments_matching("(a+)+$")))
        for _ in range(20):
            assert await store.leader() is None
        assert not evil.called
        with pytest.raises(errors.DeadlineExceeded, match=r"\(a\+\)\+\$"):
            await evil
        assert len(await gathered(store.segments_matching("^a+b$"))) == 1
    finally:
        await store.close()


# -- watching ----------------------------------------------------------------------


def test_a_watcher_that_fell_behind_is_told_everything(tmp_path, monkeypatch):
    """Removals are forgotten at last; who missed one gets all there is instead."""
    monkeypatch.setattr(changes, "REMEMBERED", 3)
    database = Database(tmp_path / "registry.db", create=True)
    leader = database.change(True, changes.campaign, candidate("s1"))

    def plan(put, remove):
        rows = [assignment(segment, "w1") for segment in put]
        database.change(True, changes.change_assignments, leader, rows, [("w1", s) for s in remove])

    source = assignment_source("w1")
    plan("abc", "")
    _, seen = source(database.connection, None)
    plan("", "a")
    news, up_to = source(database.connection, seen)
    assert (news.full, news.changed, news.removed) == (False, [], ["a"])
    for number in range(5):
        plan(f"{number}", "")
    news, _ = source(database.connection, seen)
    assert news.full
    assert {a.segment for a in news.changed} == set("bc01234")
    assert news.removed == []
    plan("", "b")
    news, _ = source(database.connection, up_to + 5)
    assert (news.full, news.removed) == (False, ["b"])


@async_test
async def test_a_watch_that_fails_says_so_once(stores):
    """It looks ten times a second, and whatever is wrong stays wrong for a while; when it
    is over, the watch goes on."""
    store, notices, looks = await stores.open(), Notices(), []

    def source(connection, seen):
        looks.append(seen)
        return lock_changes(connection, seen)

    store._watcher.add(source, notices)
    await notices.until(len)
    with (
        closing(sqlite3.connect(store._path, isolation_level=None)) as connection,
        capturedLogs() as logged,
    ):
        connection.execute("ALTER TABLE sequence RENAME TO elsewhere")
        before = len(looks)
        await until(lambda: len(looks) > before + 5, "some looks")
        connection.execute("ALTER TABLE elsewhere RENAME TO sequence")
        await store.take_lock("a", "w1")
        await notices.until(lambda all: any(notice.held for notice in all))
    failures = [
        event for event in logged if "looking for changes" in (event.get("log_format") or "")
    ]
    assert len(failures) == 1
    assert "no such table" in failures[0]["log_failure"].getErrorMessage()


# -- threads -----------------------------------------------------------------------


@async_test
async def test_many_threads_share_one_blocking_store(stores):
    """Each call finds a connection of its own."""
    store = await stores.open()
    await store.publish_copies([copy(f"{i}", "w1") for i in range(200)])
    blocking = stores.open_blocking()

    def look_up(number):
        found = blocking.copies_of([f"{number % 200}"])
        return found[f"{number % 200}"][0].segment == f"{number % 200}"

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(look_up, range(1000)))


def test_a_forked_child_has_connections_of_its_own(tmp_path):
    """A store that was used before a fork works on both sides of it."""
    Database(tmp_path / "registry.db", create=True).close()
    blocking = open_blocking(f"sqlite://{tmp_path}/registry.db")
    assert blocking.schemas() == ["default"]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if blocking.schemas() == ["default"] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert blocking.schemas() == ["default"]


# -- opening by URL ----------------------------------------------------------------


@async_test
async def test_a_url_opens_the_registry(tmp_path):
    """The store that :func:`open_metadata` makes is not open before it is told to be."""
    store = open_metadata(f"sqlite://{tmp_path}/below/registry.db", reactor)
    assert not (tmp_path / "below").exists()
    await store.open()
    assert await store.schemas() == ["default"]
    await store.close()


@async_test
async def test_a_lease_ends_although_the_clock_is_set_back(stores):
    """Its leader was killed, and its last renewal is an hour ahead: another one leads at once,
    under a later generation."""
    store = await stores.open()
    killed = await store.campaign(candidate("s1"))
    await stores.age(-3600.0)
    assert await store.leader() is None
    leader = await store.campaign(candidate("s2"))
    assert (leader.node, leader.generation) == ("s2", killed.generation + 1)


@async_test
async def test_a_closed_store_refuses(stores):
    """A call after closing fails as one that was cancelled."""
    store = await stores.open()
    await store.close()
    with pytest.raises(errors.Cancelled):
        await store.leader()


@async_test
async def test_what_comes_before_the_registry_is_open_is_told_so(tmp_path):
    """A client may be faster than a server's start: that passes, and is no mistake of ours."""
    store = SqliteMetadata(tmp_path / "registry.db", reactor)
    for early in (store.lock_of("300001"), store.take_lock("300001", "w1"), store.leader()):
        with pytest.raises(errors.Unavailable, match="not open"):
            await early
