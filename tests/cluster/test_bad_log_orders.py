"""A real follower gets orders that do not fit, over its line port: each is named, and changes
nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster_engines import Engines
from cluster_nodes import Cluster
from processes import http, until_blocking, write
from storages import DirectoryHand
from waiting import GIVE_UP

from trough.model import Lock, canonical_path
from trough.replication.holder_log import WalReader
from trough.replication.log import LogPart
from trough.replication.orders import VERSION

SEGMENT = "followed"


def test_bad_orders_are_named_and_change_nothing(tmp_path: Path) -> None:
    """A damaged part, a gap, another segment's log, half a frame, other pages, another version,
    another disk, an older epoch, and half a part before the connection ends."""
    engines = Engines(f"sqlite://{tmp_path}/registry.db", DirectoryHand(tmp_path / "canonical"))
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2") as cluster:
        cluster.start()
        until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
        url = cluster.provision("s1", SEGMENT)["write_url"]
        write(url, "CREATE TABLE t (n)")
        until_blocking(lambda: lock_of(cluster).followers, "a follower")
        write(url, "INSERT INTO t VALUES (1)")
        lock = lock_of(cluster)
        (follower,) = lock.followers
        replica = cluster.directory / follower.node / "replicas" / f"{SEGMENT}.replica"
        before = contents(replica)
        for name, head, part in bad_orders(cluster):
            options = {"version": VERSION, "disk": follower.disk, "epoch": lock.epoch, **head}
            answer = ordered(cluster, follower.node, options, part)
            assert name in answer, answer
            assert contents(replica) == before, name
        half_an_order(cluster, follower.node)
        assert contents(replica) == before
        assert http("POST", url, b"INSERT INTO t VALUES (2)")[0] == 200
        assert lock_of(cluster).followers == lock.followers
        assert contents(replica) != before


def bad_orders(cluster: Cluster) -> Iterator[tuple[str, dict[str, object], bytes]]:
    """What the answer says, the options of the order that are not right, and the part."""
    good = next_part(cluster)
    whole = good.encode()
    yield "ERR bad-log-part", {}, whole[:-1] + bytes([whole[-1] ^ 1])
    yield "ERR bad-log-part", {}, whole[:-1]
    yield "reply=behind", {}, replace(good, start=good.start + 4120).encode()
    yield "reply=behind", {}, replace(good, before=b"x" * 32).encode()
    yield "ERR bad-log-part", {}, replace(good, log=b"x" * 16).encode()
    yield "ERR bad-log-part", {}, replace(good, content=good.content[:-1]).encode()
    small = good.content[:8] + (512).to_bytes(4, "big") + good.content[12:]
    yield "ERR bad-log-part", {}, replace(good, generation=good.start, content=small).encode()
    yield "ERR bad-request", {"version": VERSION + 1}, whole
    yield "ERR conflict", {"disk": "another"}, whole
    yield "reply=rejected", {"epoch": 0}, whole


def next_part(cluster: Cluster) -> LogPart:
    """A part that begins where the log ends, with the frames of its last transaction."""
    database = cluster.directory / lock_of(cluster).node / "segments" / canonical_path(SEGMENT)
    log = WalReader(database)
    end = log.end()
    last = log.read(0, end)
    before = log.digest_at(end)
    assert before is not None
    return replace(last, start=end, before=before, content=last.content[-4120:])


def lock_of(cluster: Cluster) -> Lock:
    """The segment's write lock."""
    return next(each for each in cluster.store.locks() if each.segment == SEGMENT)


def contents(directory: Path) -> dict[str, bytes]:
    """The files of a replica."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def connected(cluster: Cluster, node: str) -> socket.socket:
    """A connection to a worker's line port."""
    port = int(cluster.processes[node].settings["LINE_PORT"])
    return socket.create_connection(("127.0.0.1", port), GIVE_UP)


def order_line(options: dict[str, object], size: int) -> bytes:
    """The first line of an order."""
    words = " ".join(f"{name}={value}" for name, value in options.items())
    return f"1 REPLICA-APPEND {SEGMENT} {words} {{{size}}}\n".encode()


def ordered(cluster: Cluster, node: str, options: dict[str, object], part: bytes) -> str:
    """The answer to an order."""
    with connected(cluster, node) as connection, connection.makefile("rb") as lines:
        lines.readline()  # the greeting
        connection.sendall(order_line(options, len(part)) + part + b"\n")
        return lines.readline().decode()


def half_an_order(cluster: Cluster, node: str) -> None:
    """Send half a part, and end the connection; return once the worker has ended it, too."""
    (follower,) = lock_of(cluster).followers
    options = {"version": VERSION, "disk": follower.disk, "epoch": lock_of(cluster).epoch}
    part = next_part(cluster).encode()
    with connected(cluster, node) as connection, connection.makefile("rb") as lines:
        lines.readline()
        connection.sendall(order_line(options, len(part)) + part[: len(part) // 2])
        connection.shutdown(socket.SHUT_WR)
        lines.read()
