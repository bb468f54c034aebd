"""What people and watchers are told while RethinkDB is away: at once, and why."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import pytest_twisted
from metadata_stores import candidate, worker
from processes import Machine, http, until_blocking
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent, globalLogPublisher
from waiting import until

from trough.cli.outage import UNNOTICED, Outage
from trough.leader.cluster_status import ClusterStatus
from trough.metadata import StoreOutage
from trough.metadata.open import open_metadata
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.metadata.url import RethinkAddress

SHELL = [sys.executable, "-m", "trough.shell.main"]


# -- what a store knows of itself ------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_store_knows_that_it_is_away(own_server):
    """Silent or gone, with the servers' names, and since when; and that it is back."""
    store = RethinkMetadata(RethinkAddress((own_server.host,), "d"), reactor)
    host = f"127.0.0.1:{own_server.port}"
    assert host in store.absence.reason
    await store.open()
    assert store.absence is None
    own_server.signal(signal.SIGSTOP)
    asking = Deferred.fromCoroutine(store.workers())
    await until(lambda: store.absence, "its silence")
    assert store.absence.reason == f"RethinkDB at {host} is silent"
    own_server.signal(signal.SIGCONT)
    assert await asking == []
    await until(lambda: store.absence is None, "a sign of life")
    before = reactor.seconds()
    own_server.kill()
    await until(lambda: store.absence and "refused" in store.absence.reason, "its absence")
    assert store.absence.reason == f"no RethinkDB server answers: {host}: connection refused"
    assert before <= store.absence.since <= reactor.seconds()
    await store.close()


@pytest_twisted.ensureDeferred
async def test_tables_without_a_majority_are_opened_and_read_by_tools(rethinkdb_cluster):
    """A server waits until it can write; a person may have come to read. What needs the
    majority is known to be refused while it is waited for."""
    servers = rethinkdb_cluster
    address = RethinkAddress(tuple(server.host for server in servers), "d")
    store = RethinkMetadata(address, reactor)
    await store.open()
    await store.register_worker(worker("w1", ttl=3600.0))
    await store.close()
    for server in servers[1:]:
        server.kill()
    tool = open_metadata(str(address), reactor, patience=3600.0)
    await tool.open()
    assert [each.node for each in await tool.workers()] == ["w1"]
    assert tool.absence is None
    asking = Deferred.fromCoroutine(tool.locks())
    await until(lambda: tool.absence, "what the question was told")
    assert "Cannot perform read" in tool.absence.reason
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    assert tool.absence is None
    await tool.close()


@pytest_twisted.ensureDeferred
async def test_a_tool_makes_the_tables_that_are_missing(own_server):
    """As a server does: an original installation lacks two."""
    tool = open_metadata(str(RethinkAddress((own_server.host,), "d")), reactor, patience=30.0)
    await tool.open()
    assert await tool.schemas() == ["default"]
    await tool.close()


@pytest_twisted.ensureDeferred
async def test_the_log_says_at_once_that_nobody_answers(own_server):
    """Once, when all servers were tried, and not after the deadline of whoever waits."""
    store = RethinkMetadata(RethinkAddress((own_server.host,), "d"), reactor)
    await store.open()
    said: list[str] = []

    def hear(event):
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(hear)
    try:
        own_server.kill()
        await until(lambda: any("refused" in line for line in said), "a line")
    finally:
        globalLogPublisher.removeObserver(hear)
        await store.close()
    host = f"127.0.0.1:{own_server.port}"
    reason = f"no RethinkDB server answers: {host}: connection refused"
    assert [line for line in said if line.startswith(reason)] == [
        f"{reason}; see the guide, *RethinkDB is gone altogether*"
    ]


# -- sync servers ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_status_tells_the_last_answer_of_a_store_that_is_away(tmp_path):
    """With its time, and since when and why nothing newer is known."""
    store = SqliteMetadata(tmp_path / "registry.db", reactor)
    overview = ClusterStatus(store, reactor)
    told = await overview.status()
    assert (told["workers"], told["write_locks"]) == ([], None)
    assert "not open" in told["metadata"]["reason"]
    assert told["metadata"]["as_of"] is None
    await store.open()
    await store.campaign(candidate("s1"))
    await store.register_worker(worker("w1"))
    await store.take_lock("300001", "w1")

    async def up_to_date():
        told.update(await overview.status())
        return told["metadata"]["away_since"] is None

    await until(up_to_date, "the store's answer")
    assert told["write_locks"] == 1
    assert [each["node"] for each in told["workers"]] == ["w1"]
    as_of = told["metadata"]["as_of"]
    await store.close()
    told = await overview.status()
    assert [each["node"] for each in told["workers"]] == ["w1"]
    assert told["write_locks"] == 1
    assert told["metadata"]["as_of"] == as_of <= told["metadata"]["away_since"]


@pytest_twisted.ensureDeferred
async def test_a_status_reads_no_lock(tmp_path, monkeypatch):
    """There may be hundreds of thousands, and a monitor asks every few seconds."""
    store = SqliteMetadata(tmp_path / "registry.db", reactor)
    await store.open()
    for segment in ("300001", "300002"):
        await store.take_lock(segment, "w1")
    monkeypatch.setattr(store, "locks", None)
    told = await ClusterStatus(store, reactor).status()
    await store.close()
    assert told["write_locks"] == 2


def test_processes_tell_that_rethinkdb_is_away(own_server, tmp_path):
    """Sync server and worker answer what they know, over HTTP and the protocol; a sync
    server does not call itself ready; and all of that ends when RethinkDB is back."""
    url = f"rethinkdb://127.0.0.1:{own_server.port}/trough_configuration"
    with Machine(tmp_path, url, MINIMUM_ASSIGNMENTS="1") as machine:
        sync = machine.sync("s1")
        machine.worker("w1").wait_ready()
        sync.wait_ready()
        until_blocking(lambda: machine.status("s1")["workers"], "the worker")
        own_server.signal(signal.SIGSTOP)
        for name in ("s1", "w1"):
            until_blocking(lambda: str(own_server.port) in reason(machine, name), name)  # noqa: B023
        told = machine.status("s1")
        assert [each["node"] for each in told["workers"]] == ["w1"]
        assert told["metadata"]["away_since"] >= told["metadata"]["as_of"]
        assert line_status(int(sync.settings["SYNC_LINE_PORT"]))["workers"] == told["workers"]
        health = machine.url("s1", "SYNC_SERVER_PORT") + "health"
        until_blocking(lambda: http("GET", health) == (503, b'{"ready": false}\n'), "the truth")
        assert machine.status("s1")["leader"] is None
        own_server.signal(signal.SIGCONT)
        until_blocking(lambda: http("GET", health)[0] == 200, "health")
        for name in ("s1", "w1"):
            until_blocking(lambda: not machine.status(name)["metadata"]["away_since"], name)  # noqa: B023


def reason(machine: Machine, name: str) -> str:
    """Why the store is away, as a process knows it; empty: it is not."""
    return machine.status(name)["metadata"]["reason"] or ""


def line_status(port: int) -> dict:
    """What STATUS says over the line protocol."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        with connection.makefile("rwb") as file:
            file.readline()
            file.write(b"1 STATUS\n")
            file.flush()
            tag, said, document = file.readline().decode().split(" ", 2)
    assert (tag, said) == ("1", "OK")
    return json.loads(document)


# -- the shell ---------------------------------------------------------------------------


def outage(absence, now, said):
    """As the shell has it."""
    return Outage(lambda: absence, lambda: now, said.append)


def test_whoever_waits_is_told_once():
    """In each wait; a moment of silence is not worth a word."""
    said: list[str] = []
    outage(None, 100.0, said).watch()()
    outage(StoreOutage("gone", 100.0), 100.0 + UNNOTICED / 2, said).watch()()
    assert said == []
    known = outage(StoreOutage("gone", 100.0), 100.0 + UNNOTICED, said)
    for _ in range(2):
        look = known.watch()
        look()
        look()
    assert (
        said
        == ["the metadata store is away: gone; what needs it is given up after 10 s, or by Ctrl-C"]
        * 2
    )


def test_what_completion_waits_for_is_not_told():
    """It asks on threads of its own, and its words would stand in the middle of a prompt."""
    said: list[str] = []
    known = outage(StoreOutage("gone", 0.0), 100.0, said)
    thread = threading.Thread(target=lambda: known.watch()())
    thread.start()
    thread.join()
    assert said == []


def test_a_shell_says_which_store_it_waits_for(own_server):
    """At its start, before the store answers, and after Ctrl-C it ends at once."""
    url = f"rethinkdb://127.0.0.1:{own_server.port}/trough_configuration"
    own_server.signal(signal.SIGSTOP)
    running = subprocess.Popen(
        [*SHELL, "-u", url, "-e", "SHOW WORKERS"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TROUGH_URL": ""},
    )
    assert running.stderr is not None
    with running.stderr:
        told = running.stderr.readline()
        assert told.startswith("trough-shell: the metadata store is away: ")
        assert f"127.0.0.1:{own_server.port}" in told
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert "Traceback" not in running.stderr.read()


def test_a_shell_gives_up(own_server):
    """A store that stays silent is waited for a bounded time, and named in the end."""
    url = f"rethinkdb://127.0.0.1:{own_server.port}/trough_configuration"
    own_server.signal(signal.SIGSTOP)
    done = subprocess.run(
        [*SHELL, "-u", url, "-e", "SHOW WORKERS"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert f"127.0.0.1:{own_server.port}: no answer within" in done.stderr.splitlines()[-1]
