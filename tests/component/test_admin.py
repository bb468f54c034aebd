"""trough-admin: its commands on a real registry, and the tool itself as a process."""

import argparse
import dataclasses
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest
import pytest_twisted
from places import ROOT
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from waiting import until

from trough import admin, errors, model
from trough.admin.deciding import LOOK, REPORT
from trough.metadata.sqlite.store import SqliteMetadata
from trough.protocols.line.server import LineServerFactory

LEADER = model.Leader("sync", "1", url="http://sync:6111/", ttl=3600.0)
W1 = model.Worker(
    "w1", "id1", line="w1:6440", load=1.5, capacity=5 * 10**9, available_bytes=10**9, ttl=3600.0
)
W2 = model.Worker("w2", "id2", line="w2:6440", cold_storage=True, ttl=3600.0)
TOOL = [sys.executable, "-c", "from trough.admin import main; main()"]


class Typed(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


class Registry:
    """A real registry, with commands run on it."""

    def __init__(self, path) -> None:
        self.path = path
        self.metadata = SqliteMetadata(path, reactor)

    async def run(self, command, typed=None, **options):
        """Exit status and output of a command."""
        output = io.StringIO()
        person = io.StringIO() if typed is None else Typed(typed)
        console = admin.Console(self.metadata, person, output, reactor)
        given = {"worker": None, "wait": False, "promote": False, "json": False}
        given |= {"without_follower": False, **options}
        status = await command(console, argparse.Namespace(**given))
        return status, output.getvalue()

    async def fill(self) -> None:
        """A leader, two live workers and a lost one."""
        leader = await self.metadata.campaign(LEADER)
        await self.metadata.register_worker(W1)
        await self.metadata.register_worker(W2)
        await self.metadata.save_rings(leader, {"w1": 0, "w2": 1, "gone": 1}, {})

    def process(self, *arguments, typed=""):
        """The tool as a user starts it."""
        return threads.deferToThread(
            subprocess.run,
            [*TOOL, "-u", f"sqlite://{self.path}", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest_twisted.async_yield_fixture
async def registry(tmp_path):
    """An open, empty registry."""
    registry = Registry(tmp_path / "registry.db")
    await registry.metadata.open()
    yield registry
    await registry.metadata.close()


@pytest_twisted.ensureDeferred
async def test_status_of_nothing(registry):
    """Nobody leads and nobody works: said plainly, and told by the exit status."""
    status, text = await registry.run(admin.status)
    assert status == admin.FAILED
    assert text.splitlines()[:2] == [
        "leader    nobody (see The leader dies or hangs)",
        "workers   0 alive (see A worker dies)",
    ]


@pytest_twisted.ensureDeferred
async def test_status(registry):
    """A healthy cluster has status 0; a lock whose holder is lost is amiss."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    status, text = await registry.run(admin.status)
    assert status == admin.DONE
    assert text.splitlines() == [
        "leader    sync at http://sync:6111/, generation 1",
        "workers   2 alive; not alive: gone",
        "draining  none",
        "locks     1",
        "schemas   1",
    ]
    await registry.metadata.take_lock("300002", "gone")
    status, text = await registry.run(admin.status)
    assert status == admin.FAILED
    assert "locks     2; held by workers not alive: 300002 (see A worker dies)" in text


@pytest_twisted.ensureDeferred
async def test_what_servers_report_is_amiss(registry):
    """The status shows it beside the server's name, and exits with 1."""
    await registry.fill()
    (worker, *_) = await registry.metadata.workers()
    await registry.metadata.beat(dataclasses.replace(worker, trouble="2 files (see What is aside)"))
    status, text = await registry.run(admin.status)
    assert status == admin.FAILED
    assert "trouble   w1: 2 files (see What is aside)" in text.splitlines()


@pytest_twisted.ensureDeferred
async def test_what_is_not_promoted_is_shown(registry):
    """How many segments, how many bytes, and since when; it is not amiss by itself."""
    await registry.fill()
    waiting = {"unpromoted": 3, "unpromoted_bytes": 2 * 10**6, "unpromoted_since": 86400.0}
    await registry.metadata.beat(dataclasses.replace(W1, **waiting))
    status, text = await registry.run(admin.status)
    assert status == admin.DONE
    line = "waiting   w1: 3 unpromoted segments, 2 MB, since 1970-01-02 00:00:00 UTC"
    assert line in text.splitlines()


@pytest_twisted.ensureDeferred
async def test_a_worker_that_was_drained_and_stopped_is_not_amiss(registry):
    """It is told among those that are drained, for somebody wanted it gone."""
    await registry.fill()
    await registry.run(admin.drain, node="gone")
    status, text = await registry.run(admin.status)
    assert status == admin.DONE
    assert text.splitlines()[1:3] == ["workers   2 alive", "draining  gone (not alive)"]


@pytest_twisted.ensureDeferred
async def test_draining_waits_until_nothing_is_left(registry):
    """Locks are named, since their segments have to be promoted; then copies, then the end."""
    await registry.fill()
    lock = await registry.metadata.take_lock("300001", "w1")
    leader = await registry.metadata.leader()
    row = model.Assignment("300002", "w1", 0, "300/300002.sqlite", 10, 1700000000000)
    await registry.metadata.change_assignments(leader, [row], [])
    clock, output = Clock(), io.StringIO()
    console = admin.Console(registry.metadata, io.StringIO(), output, clock)
    options = argparse.Namespace(node="w1", wait=True, promote=False)
    draining = Deferred.fromCoroutine(admin.drain(console, options))

    async def told(text):
        await until(lambda: output.getvalue().endswith(text) and clock.calls, text)

    await told("w1 still has write locks (1); promote: 300001\n")
    await registry.metadata.release_lock(lock)
    clock.advance(LOOK)
    await until(lambda: clock.calls, "the next look")
    clock.advance(REPORT)
    await told("w1 still has copies of 1 segment\n")
    await registry.metadata.change_assignments(leader, [], [("w1", "300002")])
    clock.advance(LOOK)
    assert await draining == admin.DONE
    assert output.getvalue().endswith("w1 is empty, and can be stopped.\n")


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest_twisted.ensureDeferred
async def test_draining_shows_at_a_terminal_how_long_it_takes(registry):
    """How many segments were moved, of how many, and about how long the rest takes."""
    await registry.fill()
    leader = await registry.metadata.leader()
    rows = [model.Assignment(str(n), "w1", 0, f"{n}.sqlite", 10, 1) for n in range(4)]
    await registry.metadata.change_assignments(leader, rows, [])
    clock, output = Clock(), _Terminal()
    console = admin.Console(registry.metadata, io.StringIO(), output, clock)
    draining = Deferred.fromCoroutine(
        admin.drain(console, argparse.Namespace(node="w1", wait=True, promote=False))
    )
    await until(lambda: clock.calls, "the first look")
    await registry.metadata.change_assignments(leader, [], [("w1", "0")])
    clock.advance(2 * LOOK)
    await until(lambda: "1 of 4 segments moved, 2.0 s, about 6.0 s left" in output.getvalue(), "it")
    await until(lambda: clock.calls, "the next look")
    await registry.metadata.change_assignments(leader, [], [("w1", str(n)) for n in (1, 2, 3)])
    clock.advance(LOOK)
    assert await draining == admin.DONE


class _Hurrying(Clock):
    """A clock on which each look takes a second."""

    def seconds(self):
        self.rightNow += 1.0
        return self.rightNow


@pytest_twisted.ensureDeferred
async def test_freeing_many_locks_shows_how_long_it_takes(registry):
    """At a terminal: how many are free, of how many, and about how long the rest takes."""
    for number in range(4):
        await registry.metadata.take_lock(str(number), "gone")
    output = _Terminal()
    console = admin.Console(registry.metadata, io.StringIO(), output, _Hurrying())
    await admin.free_locks(console, argparse.Namespace(node="gone", yes=True))
    assert "2 of 4 segments freed" in output.getvalue() and " left; " in output.getvalue()
    assert output.getvalue().endswith("\r\x1b[KWrite locks of gone that are free now: 4.\n")


@pytest_twisted.ensureDeferred
async def test_promoting_before_a_drain_shows_how_far_it_is(registry):
    """The line counts what failed, and is gone before the failures are named."""
    await registry.fill()
    for number in range(2):
        await registry.metadata.take_lock(str(number), "w1")
    output = _Terminal()
    console = admin.Console(registry.metadata, io.StringIO(), output, _Hurrying())
    options = argparse.Namespace(node="w1", wait=False, promote=True)
    assert await admin.drain(console, options) == admin.FAILED
    assert "1 of 2 segments promoted, 1 failed" in output.getvalue()
    assert "\r\x1b[K  0: POST promote" in output.getvalue()


@pytest_twisted.ensureDeferred
async def test_draining_names_what_cannot_be_promoted(registry):
    """With the reason, and status 1; a worker that is not alive is refused."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    status, text = await registry.run(admin.drain, node="w1", promote=True)
    assert status == admin.FAILED
    assert "  300001: POST promote: the row of the worker in question names no manager" in text
    assert text.endswith("w1 writes 1 segment: 0 promoted, 1 not.\n")
    with pytest.raises(errors.Unavailable, match="gone is not alive"):
        await registry.run(admin.drain, node="gone", promote=True)
    assert await registry.metadata.draining() == {"w1"}


@pytest_twisted.ensureDeferred
async def test_workers_and_draining(registry):
    """Workers show state and space; draining outlives looking, and can be taken back."""
    await registry.fill()
    await registry.run(admin.drain, node="w1")
    _, text = await registry.run(admin.workers)
    assert [line.split() for line in text.splitlines()] == [
        ["WORKER", "STATE", "RING", "LOAD", "AVAILABLE", "CAPACITY", "ADDRESS"],
        ["gone", "not", "alive", "1", "-", "-", "-", "-"],
        ["w1", "alive,", "draining", "0", "1.5", "1", "GB", "5", "GB", "w1:6440"],
        ["w2", "alive,", "cold", "1", "0", "0", "B", "0", "B", "w2:6440"],
    ]
    await registry.run(admin.undrain, node="w1")
    assert await registry.metadata.draining() == set()


@pytest_twisted.ensureDeferred
async def test_pausing_a_worker(registry):
    """Until then its copies stay, which status shows; it can be ended, and ends by itself."""
    await registry.fill()
    status, text = await registry.run(admin.pause, node="gone", duration="2h")
    assert status == admin.DONE and text.startswith("The copies of gone are not moved until 20")
    assert (await registry.metadata.paused())["gone"] > time.time() + 7100
    status, text = await registry.run(admin.status)
    assert status == admin.DONE and "\npaused    gone until 20" in text
    await registry.run(admin.resume, node="gone")
    assert await registry.metadata.paused() == {}
    with pytest.raises(errors.NotFound, match="gone is not paused"):
        await registry.run(admin.resume, node="gone")
    with pytest.raises(errors.NotFound, match="no worker w9"):
        await registry.run(admin.pause, node="w9", duration="2h")
    for wrong in ("", "2", "h", "-2h", "2.5h", "0m", "8d", "2w", "1e9s"):
        with pytest.raises(errors.BadRequest, match="30m"):
            await registry.run(admin.pause, node="w1", duration=wrong)
    assert await registry.metadata.paused() == {}


@pytest_twisted.ensureDeferred
async def test_draining_nobody(registry):
    """A worker that nobody knows is not drained, nor one undrained that is not drained."""
    await registry.fill()
    with pytest.raises(errors.NotFound, match="no worker w9; there are: gone, w1, w2"):
        await registry.run(admin.drain, node="w9")
    with pytest.raises(errors.BadSegmentId):
        await registry.run(admin.drain, node="../w1")
    with pytest.raises(errors.NotFound, match="w1 is not being drained"):
        await registry.run(admin.undrain, node="w1")
    assert await registry.metadata.draining() == set()


@pytest_twisted.ensureDeferred
async def test_locks(registry):
    """Every lock with its holder, and whether that lives."""
    await registry.fill()
    for segment, node in (("300001", "w1"), ("300002", "gone")):
        await registry.metadata.take_lock(segment, node)
    _, text = await registry.run(admin.locks)
    rows = [line.split() for line in text.splitlines()]
    assert rows[1][:3] == ["300001", "w1", "alive"]
    assert rows[2][:4] == ["300002", "gone", "not", "alive"]
    _, text = await registry.run(admin.locks, worker="gone")
    assert [line.split()[0] for line in text.splitlines()] == ["SEGMENT", "300002"]


@pytest_twisted.ensureDeferred
async def test_locks_without_a_living_follower(registry):
    """Those that are replicated are listed with their followers, or alone, and counted."""
    await registry.fill()
    store = registry.metadata
    await store.take_lock("300001", "w1")
    for segment, follower in (("300002", "w2"), ("300003", "gone"), ("300004", "")):
        lock = await store.take_lock(segment, "w1", "disk")
        followers = frozenset({model.Member(follower, "disk")} if follower else ())
        await store.change_lock(lock, dataclasses.replace(lock, revision=1, followers=followers))
    _, text = await registry.run(admin.locks)
    shown = [line.rpartition("  ")[2].strip() for line in text.splitlines()]
    assert shown == ["FOLLOWERS", "-", "w2", "gone (not alive)", "none"]
    _, text = await registry.run(admin.locks, without_follower=True)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["300003", "300004"]
    _, text = await registry.run(admin.status)
    assert "2 segments without a living follower; by name: 300003, 300004" in text


@pytest_twisted.ensureDeferred
async def test_freeing_all_locks_of_a_lost_worker(registry):
    """What was promoted when is told of each; the worker's name has to be typed."""
    await registry.fill()
    for segment, node in (("300001", "w1"), ("300002", "gone"), ("300003", "gone")):
        await registry.metadata.take_lock(segment, node)
    leader = await registry.metadata.leader()
    row = model.Assignment("300003", "w1", 0, "300/300003.sqlite", 10, 1700000000000)
    await registry.metadata.change_assignments(leader, [row], [])
    with pytest.raises(errors.Cancelled):
        await registry.run(admin.free_locks, typed="w1\n", node="gone", yes=False)
    assert len(await registry.metadata.locks("gone")) == 2
    status, text = await registry.run(admin.free_locks, typed="gone\n", node="gone", yes=False)
    assert status == admin.DONE
    assert "  300002  no promotion is known, written since 20" in text
    assert "  300003  2023-11-14 22:13:20 UTC, written since 20" in text
    assert [lock.segment for lock in await registry.metadata.locks()] == ["300001"]


@pytest_twisted.ensureDeferred
async def test_locks_that_are_clean_are_freed_without_a_question(registry):
    """Nothing is lost by that. They are no reason for an alarm, and the leader frees them."""
    await registry.fill()
    locks = [await registry.metadata.take_lock(each, "gone") for each in ("300002", "300003")]
    await registry.metadata.mark_clean(locks[:1])
    _, text = await registry.run(admin.locks)
    assert [line.split()[-3:-1] == ["all", "promoted"] for line in text.splitlines()[1:]] == [
        True,
        False,
    ]
    status, text = await registry.run(admin.free_locks, typed="gone\n", node="gone", yes=False)
    assert status == admin.DONE
    assert "holds 2 write locks, 1 of them clean: the leader releases those by itself" in text
    assert "  300003  no promotion is known, written since 20" in text and "  300002" not in text
    clean = await registry.metadata.take_lock("300004", "gone")
    await registry.metadata.mark_clean([clean])
    told = json.loads((await registry.run(admin.status, json=True))[1])["locks"]
    assert (told["orphaned"], told["clean_of_dead_workers"]) == ([], 1)
    _, text = await registry.run(admin.free_lock, segment="300004", yes=True)
    assert "nothing is lost" in text
    assert (await registry.run(admin.status))[0] == admin.DONE


@pytest_twisted.ensureDeferred
async def test_the_locks_of_a_live_worker_are_not_freed_at_once(registry):
    """Draining it loses nothing, and is what the refusal names; nor are there none to free."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    with pytest.raises(errors.Conflict, match="trough-admin drain w1"):
        await registry.run(admin.free_locks, node="w1", yes=True)
    with pytest.raises(errors.NotFound, match="w2 holds no write lock"):
        await registry.run(admin.free_locks, node="w2", yes=True)
    assert len(await registry.metadata.locks()) == 1


@pytest_twisted.ensureDeferred
async def test_forgetting_a_lost_worker(registry):
    """What goes is told, and what could be lost; its name has to be typed; then nothing is
    left of it but the assignments, which the leader moves."""
    await registry.fill()
    metadata = registry.metadata
    await registry.run(admin.drain, node="gone")
    await metadata.take_lock("300001", "w1")
    await metadata.take_lock("300002", "gone")
    row = model.Assignment("300003", "gone", 1, "300/300003.sqlite", 10, 1700000000000)
    await metadata.change_assignments(await metadata.leader(), [row], [])
    with pytest.raises(errors.Cancelled, match="nothing was changed"):
        await registry.run(admin.forget, typed="w1\n", node="gone", yes=False)
    with pytest.raises(errors.BadRequest, match="--yes"):
        await registry.run(admin.forget, node="gone", yes=False)
    assert (len(await metadata.locks("gone")), "gone" in await metadata.rings()) == (1, True)
    status, text = await registry.run(admin.forget, typed="gone\n", node="gone", yes=False)
    assert status == admin.DONE
    for told in (
        "  its place on hash ring 1\n",
        "  that it is being drained\n",
        "  its assignments (1), whose copies",
        "  its write locks (1)\n",
        "and nowhere else",
        "  300002  no promotion is known, written since 20",
        "gone is forgotten.\n",
    ):
        assert told in text
    assert [lock.segment for lock in await metadata.locks()] == ["300001"]
    assert (await metadata.rings(), await metadata.draining()) == ({"w1": 0, "w2": 1}, set())
    assert (await registry.run(admin.status))[0] == admin.DONE


@pytest_twisted.ensureDeferred
async def test_a_worker_that_lives_or_that_nobody_knows_is_not_forgotten(registry):
    """Either is an error, and nothing changes; only what there is to remove is told."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    with pytest.raises(errors.Conflict, match=r"w1 is alive.*WORKER_TTL"):
        await registry.run(admin.forget, node="w1", yes=True)
    with pytest.raises(errors.NotFound, match="nothing is known of a worker w9"):
        await registry.run(admin.forget, node="w9", yes=True)
    with pytest.raises(errors.BadSegmentId):
        await registry.run(admin.forget, node="../w1", yes=True)
    assert len(await registry.metadata.locks()) == 1
    _, text = await registry.run(admin.forget, node="gone", yes=True)
    assert "locks" not in text and "drained" not in text and "assignments" not in text
    assert await registry.metadata.rings() == {"w1": 0, "w2": 1}


@pytest_twisted.ensureDeferred
async def test_status_for_programs(registry):
    """The same as for people, whole and with keys that stay; docs/operations.rst has them."""
    await registry.fill()
    await registry.metadata.take_lock("300002", "gone")
    await registry.run(admin.drain, node="w1")
    status, text = await registry.run(admin.status, json=True)
    assert status == admin.FAILED
    told = json.loads(text)
    assert [worker.pop("last_heartbeat") is None for worker in told["workers"]] == [
        True,
        False,
        False,
    ]
    nothing = dict.fromkeys(("cold_storage", "load", "available_bytes", "capacity", "line"))
    w1 = {"cold_storage": False, "load": 1.5, "available_bytes": 10**9, "capacity": 5 * 10**9}
    w2 = {"cold_storage": True, "load": 0, "available_bytes": 0, "capacity": 0}
    assert told.pop("full") == []
    assert told.pop("troubles") == {}
    assert [worker.pop("trouble") for worker in told["workers"]] == [None, "", ""]
    for field in ("unpromoted", "unpromoted_bytes", "unpromoted_since"):
        assert [worker.pop(field) for worker in told["workers"]] == [None, 0, 0], field
        assert f"``{field}``" in (ROOT / "docs" / "operations.rst").read_text()
    assert told["locks"]["orphaned"][0].pop("dirty_since") > 0
    assert told.pop("clocks") == {"offsets": {}, "agree": True}
    assert (told.pop("weak_tables"), told.pop("paused")) == ({}, {})
    assert told == {
        "healthy": False,
        "leader": {"node": "sync", "url": "http://sync:6111/", "generation": 1},
        "workers": [
            {"node": "gone", "alive": False, "draining": False, "ring": 1, **nothing},
            {"node": "w1", "alive": True, "draining": True, "ring": 0, "line": "w1:6440", **w1},
            {"node": "w2", "alive": True, "draining": False, "ring": 1, "line": "w2:6440", **w2},
        ],
        "locks": {
            "count": 1,
            "orphaned": [{"segment": "300002", "node": "gone"}],
            "clean_of_dead_workers": 0,
            "without_follower": [],
        },
        "schemas": 1,
    }
    documented = (ROOT / "docs" / "operations.rst").read_text()
    keys = {*told, *told["leader"], *told["workers"][0], *told["locks"], "error", "last_heartbeat"}
    assert {key for key in keys if f"``{key}``" not in documented} == set()


@pytest_twisted.ensureDeferred
async def test_status_for_programs_without_a_store(registry, tmp_path):
    """Standard output has one JSON object all the same, which says why."""
    registry.path = tmp_path / "nowhere" / "registry.db"
    (tmp_path / "nowhere").write_text("a file where a directory should be")
    done = await registry.process("status", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["healthy"] is False and "registry.db" in told["error"]


@pytest_twisted.ensureDeferred
async def test_freeing_a_lock_warns_and_asks(registry):
    """What could be lost is said; the id has to be typed; then the lock is free."""
    await registry.fill()
    await registry.metadata.take_lock("300002", "gone")
    with pytest.raises(errors.Cancelled):
        await registry.run(admin.free_lock, typed="300001\n", segment="300002", yes=False)
    assert await registry.metadata.lock_of("300002") is not None
    status, text = await registry.run(
        admin.free_lock, typed="300002\n", segment="300002", yes=False
    )
    assert status == admin.DONE
    assert "gone is not alive: if it can be brought back, do that instead." in text
    assert "No promotion of the segment is known: everything in it" in text
    assert await registry.metadata.lock_of("300002") is None


@pytest_twisted.ensureDeferred
async def test_freeing_the_lock_of_a_live_worker_advises_promotion(registry):
    """A live holder could promote; with --yes nobody is asked, and the warning stays."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    leader = await registry.metadata.leader()
    await registry.metadata.change_assignments(
        leader, [model.Assignment("300001", "w1", 0, "300/300001.sqlite", 10, 1700000000000)], []
    )
    status, text = await registry.run(admin.free_lock, segment="300001", yes=True)
    assert status == admin.DONE
    assert "promoting the segment, instead of this, loses nothing" in text
    assert "since the last promotion (2023-11-14 22:13:20 UTC)" in text


@pytest_twisted.ensureDeferred
async def test_freeing_what_cannot_be_freed(registry):
    """No lock, no segment id, or nobody to ask: an error, and nothing changes."""
    with pytest.raises(errors.NotFound, match="300001"):
        await registry.run(admin.free_lock, segment="300001", yes=True)
    with pytest.raises(errors.BadSegmentId):
        await registry.run(admin.free_lock, segment="a/b", yes=True)
    await registry.metadata.take_lock("300001", "w1")
    with pytest.raises(errors.BadRequest, match="--yes"):
        await registry.run(admin.free_lock, segment="300001", yes=False)
    assert await registry.metadata.lock_of("300001") is not None


@pytest_twisted.ensureDeferred
async def test_the_tool(registry):
    """As a process: output, exit status, and errors in one line without a traceback."""
    await registry.fill()
    await registry.metadata.take_lock("300001", "w1")
    done = await registry.process("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "workers   2 alive" in done.stdout
    freed = await registry.process("free-lock", "300001", "--yes")
    assert freed.returncode == 0 and "is free" in freed.stdout
    failed = await registry.process("free-lock", "300001", "--yes")
    assert failed.returncode == 1
    assert failed.stderr == ("trough-admin: nobody holds a write lock of segment 300001\n")
    away = await registry.process("-u", "mysql://x", "status")
    assert away.returncode == 1 and len(away.stderr.splitlines()) == 1
    assert (await registry.process()).returncode == 2


@pytest_twisted.ensureDeferred
async def test_output_that_nobody_reads_to_its_end(registry):
    """`trough-admin locks | head -1` ends without a trace."""
    for number in range(2000):
        await registry.metadata.take_lock(f"segment-with-a-rather-long-name-{number}", "w1")
    command = shlex.join([*TOOL, "-u", f"sqlite://{registry.path}", "locks"])
    done = await threads.deferToThread(
        subprocess.run, f"{command} | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("SEGMENT") and done.stderr == ""


class InterruptedAtTheQuestion(ProcessProtocol):
    """Runs in a terminal, and types Ctrl-C at the question.

    The reactor forks for it: it resets the signals, and holds no lock that a thread has.
    """

    def __init__(self):
        self.output = b""
        self.typed = False
        self.ended = Deferred()

    def outReceived(self, data):
        self.output += data
        if not self.typed and b"type the segment's id" in self.output:
            self.typed = True
            self.transport.write(b"\x03")

    def processEnded(self, reason):
        self.ended.callback(reason.value.exitCode)


@pytest_twisted.ensureDeferred
async def test_control_c_at_the_question_changes_nothing(registry):
    """Ctrl-C instead of an answer ends the tool, and the lock stays."""
    await registry.metadata.take_lock("300001", "gone")
    command = [*TOOL, "-u", f"sqlite://{registry.path}", "free-lock", "300001"]
    tool = InterruptedAtTheQuestion()
    reactor.spawnProcess(tool, command[0], command, os.environ, usePTY=True)
    status = await tool.ended.addTimeout(60, reactor)
    output = tool.output.decode()
    assert status == admin.FAILED
    assert "nothing was changed" in output and "Traceback" not in output
    assert await registry.metadata.lock_of("300001") is not None


def test_a_store_that_is_silent_is_not_waited_for_in_silence():
    """Whoever asks is told what is waited for, and Ctrl-C ends it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rethinkdb://127.0.0.1:{silent.getsockname()[1]}/trough_configuration"
        command = [*TOOL, "-u", url, "status"]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        with running.stderr:
            assert "waiting for the metadata store" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130


def test_a_status_without_its_store_names_the_section_of_the_guide():
    """Of RethinkDB alone; other commands ask others, too, and other errors need other help."""
    away, refused = errors.Unavailable("no answer"), errors.BadSettings("no such user")
    status, drain = (
        admin.command_line().parse_args(words) for words in (["status"], ["drain", "w"])
    )
    url = "rethinkdb://h/d"
    assert admin._reason_of(away, status, url) == "no answer (see RethinkDB is gone altogether)"
    for error, options, store in (
        (refused, status, url),
        (away, drain, url),
        (away, status, "sqlite:///registry.db"),
    ):
        assert "see" not in admin._reason_of(error, options, store)


@pytest_twisted.ensureDeferred
async def test_a_holder_that_answers_is_not_dead(registry):
    """Whatever its row says: the clock of the store may be wrong."""
    factory = LineServerFactory("worker", "w9", {}, reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    line = f"127.0.0.1:{port.getHost().port}"
    store = registry.metadata
    await store.register_worker(model.Worker("w9", "id9", line=line, ttl=0.001))
    await store.take_lock("300009", "w9")

    async def dead():
        return not await store.workers()

    await until(dead, "the end of its row")
    status, text = await registry.run(admin.free_lock, segment="300009", yes=True)
    assert status == admin.DONE
    assert f"w9 answers at {line}, although" in text and "w9 is alive: promoting" in text
    await store.take_lock("300009", "w9")
    for command in (admin.free_locks, admin.forget):
        with pytest.raises(errors.Conflict, match="w9 is alive"):
            await registry.run(command, node="w9", yes=True)
    assert await store.lock_of("300009") is not None
    await port.stopListening()
    status, text = await registry.run(admin.free_locks, node="w9", yes=True)
    assert status == admin.DONE and "w9 is not alive" in text


@pytest_twisted.ensureDeferred
async def test_a_worker_whose_disk_is_full_is_named(registry):
    """It refuses writes: the exit status says that something is amiss."""
    await registry.fill()
    await registry.metadata.beat(dataclasses.replace(W1, available_bytes=0))
    status, text = await registry.run(admin.status)
    assert status == admin.FAILED and "full      w1: no room" in text
    assert json.loads((await registry.run(admin.status, json=True))[1])["full"] == ["w1"]
