"""Real processes on hosts of their own: links are cut, disks fill up, old disk images come back.

Each fault strikes while some clients write. An independent judge has the history of all attempts:
each acknowledged row is there once, and no two holders acknowledged rows side by side. Then all
faults end, and writes have to be acknowledged again.

``make replicated`` runs this. It takes root, the program ``ip``, and a RethinkDB.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acknowledged_epochs import judge_epochs, noted_rows
from cluster_engines import Engines, rethink_url
from cluster_nodes import Cluster
from network import Network, network
from processes import http, read, until_blocking
from replicated_history import Writers, judge
from rethinkdb_server import RethinkServer
from small_disk import mounted
from storages import DirectoryHand

from trough.model import Lock

pytestmark = pytest.mark.skipif(
    not os.environ.get("TROUGH_REPLICATION_FAULTS"),
    reason="takes minutes: make replicated runs it, as does TROUGH_REPLICATION_FAULTS=1",
)

SCHEMA = b"CREATE TABLE t (row TEXT)"
STORES = ("r1", "r2", "r3")
CLIENTS = 8


class World:
    """Three workers, one sync server and three servers of RethinkDB, each on a host.

    :ivar segment: the one that is written
    """

    def __init__(self, directory: Path, net: Network) -> None:
        self.net = net
        self.segment = ""
        self.directory = directory
        self.audit = directory / "audit.log"
        self.servers = {
            name: RethinkServer(name, directory, machine=net.host(name)) for name in STORES
        }
        started: list[RethinkServer] = []
        for server in self.servers.values():
            server.start(*started)
            started.append(server)
        engines = Engines(rethink_url(*started), DirectoryHand(directory / "canonical"))
        self.cluster = Cluster(
            directory,
            engines,
            1,
            3,
            WRITE_COPIES="2",
            INSECURE="true",
            AUDIT_LOG=str(self.audit),
            AUDIT_SQL="true",
        )
        for name in (*self.cluster.syncs, *self.cluster.workers):
            self.cluster.hosts[name] = net.host(name)

    def close(self) -> None:
        """End all servers."""
        self.cluster.__exit__()
        for server in self.servers.values():
            server.kill()

    def begin(self, segment: str) -> None:
        """With all faults at an end, make a new segment writable, and wait for its follower."""
        self.heal()
        self.create(segment)

    def create(self, segment: str) -> None:
        """Make a new segment writable, and wait for its follower."""
        self.segment = segment
        sync = self.cluster.url("s1", "SYNC_SERVER_PORT")
        assert http("PUT", f"{sync}schema/rows/sql", SCHEMA)[0] in (201, 204)
        body = json.dumps({"segment": segment, "schema": "rows"}).encode()
        status, answer = http("POST", f"{sync}provision", body)
        assert status == 200, answer
        until_blocking(lambda: self.lock.followers, "a follower")

    def heal(self) -> None:
        """End all faults, and wait until all workers are alive."""
        self.net.mend()
        for process in self.cluster.processes.values():
            if process.running:
                process.signal(signal.SIGCONT)
        self.cluster.revive()
        until_blocking(lambda: len(self.cluster.store.workers()) == 3, "all workers are alive")

    @property
    def lock(self) -> Lock:
        """The segment's lock."""
        return next(each for each in self.cluster.store.locks() if each.segment == self.segment)

    @property
    def holder(self) -> str:
        """Name of the segment's holder."""
        return self.lock.node

    @property
    def follower(self) -> str:
        """Name of the segment's follower."""
        return next(iter(self.lock.followers)).node

    def rows(self) -> list[str]:
        """What is in the segment, by its holder."""
        url = self.cluster.read_url(self.holder, self.segment)
        return [each["row"] for each in read(url, "SELECT row FROM t")]

    @contextmanager
    def judged(self) -> Iterator[Writers]:
        """Clients write; afterwards all faults end, writes go on, and the judge judges."""
        sync = self.cluster.url("s1", "SYNC_SERVER_PORT")
        with Writers(sync, [self.segment], CLIENTS, patience=2) as writers:
            self.until_written(writers)
            struck = time.monotonic()
            yield writers
            self.heal()
            self.until_written(writers)
        until_blocking(
            lambda: self.holder in self.cluster.writers(self.segment), "an answer of the holder"
        )
        rows = self.rows()
        judge(writers.attempts, self.segment, rows)
        noted = noted_rows(self.audit, self.segment)
        compared = judge_epochs(writers.attempts, self.segment, noted)
        acknowledged = len(writers.acknowledged(self.segment))
        assert compared > acknowledged / 2
        epochs = sorted({each.epoch for each in noted.values()})
        print(
            f"\n{self.segment}: {len(writers.attempts)} attempts, {acknowledged} acknowledged, "
            f"{len(rows)} rows, {compared} compared, epochs {epochs}, "
            f"longest pause {writers.longest_pause(self.segment, struck):.1f} s"
        )

    def until_written(self, writers: Writers, count: int = 50) -> None:
        """Wait for rows that are written and acknowledged from now on."""
        since = time.monotonic()
        until_blocking(
            lambda: len(writers.acknowledged(self.segment, since)) >= count,
            f"rows of {self.segment}",
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All servers, which the tests share."""
    with network() as net:
        made = World(tmp_path_factory.mktemp("faults"), net)
        try:
            made.cluster.start()
            yield made
        finally:
            made.close()


def roles(world: World, *names: str) -> list[str]:
    """Hosts by their role."""
    found = {"holder": [world.holder], "follower": [world.follower], "store": list(STORES)}
    return [each for name in names for each in found[name]]


LINKS = [("holder", "follower"), ("holder", "store"), ("follower", "store")]


@pytest.mark.parametrize("way", ["both", "there", "back"])
@pytest.mark.parametrize("link", LINKS, ids="-".join)
def test_a_link_that_is_cut(world: World, link: tuple[str, str], way: str) -> None:
    """Its packets vanish, in both directions or in one: writes go on without it."""
    world.begin(f"cut-{'-'.join(link)}-{way}")
    with world.judged() as writers:
        before = world.lock
        here, there = roles(world, link[0]), roles(world, link[1])
        for one in here:
            for other in there:
                if way != "back":
                    world.net.cut(one, other)
                if way != "there":
                    world.net.cut(other, one)
        until_blocking(
            lambda: (world.holder, members(world)) != (before.node, members_of(before)),
            "another holder, or another follower",
        )
        world.until_written(writers)


def test_a_holder_that_reaches_nobody(world: World) -> None:
    """Its follower takes over; it acknowledges nothing until it is back, though clients reach
    it."""
    world.begin("alone")
    with world.judged() as writers:
        old = world.holder
        world.net.cut_both(old, *roles(world, "follower", "store"))
        until_blocking(lambda: world.holder != old, "another holder")
        world.until_written(writers)


def test_a_frozen_holder(world: World) -> None:
    """It stands still until its follower took over, and goes on."""
    world.begin("frozen")
    with world.judged() as writers:
        old = world.holder
        world.cluster.processes[old].signal(signal.SIGSTOP)
        until_blocking(lambda: world.holder != old, "another holder")
        world.until_written(writers)
        world.cluster.processes[old].signal(signal.SIGCONT)
        world.until_written(writers)


def test_two_of_three_servers_of_the_store(world: World) -> None:
    """While they are down, followers confirm and writes go on. Without the follower, too, writes
    are refused."""
    world.begin("no-store")
    with world.judged() as writers:
        holder, follower = world.holder, world.follower
        try:
            for name in STORES[1:]:
                world.servers[name].kill()
            world.until_written(writers)
            world.cluster.processes[follower].kill()
            nothing = b"INSERT INTO t SELECT 'nothing' WHERE 0"
            url = world.cluster.url(holder, "WRITE_PORT") + f"?segment={world.segment}"
            until_blocking(lambda: http("POST", url, nothing)[0] == 503, "a refusal")
        finally:
            world.servers["r2"].start(world.servers["r1"])
            world.servers["r3"].start(world.servers["r1"], world.servers["r2"])


@pytest.mark.parametrize("role", ["holder", "follower"])
def test_an_old_image_of_a_disk(world: World, role: str) -> None:
    """A worker dies, and its disk is as it was before. It lacks what it had acknowledged or
    confirmed since. So it counts as another disk, even if the only whole copy is away."""
    world.begin(f"old-{role}")
    with world.judged() as writers:
        victim, other = world.holder, world.follower
        if role == "follower":
            victim, other = other, victim
        kept, place = world.directory / f"kept-{role}", world.cluster.directory / victim
        copy_disk(world, victim, kept)
        until_blocking(lambda: counter(place) > counter(kept) + 1, "a later state of the disk")
        world.until_written(writers, 200)
        assert members(world) == {victim, other}
        disk = identity(world, victim)
        if role == "follower":
            world.cluster.processes[other].kill()
        world.cluster.processes[victim].kill()
        shutil.rmtree(place)
        kept.rename(place)
        if role == "follower":
            world.cluster.wait_for_death(other)
        world.cluster.worker(victim).wait_ready()
        until_blocking(lambda: identity(world, victim) not in ("", disk), "another identity")


def copy_disk(world: World, node: str, target: Path) -> None:
    """Copy a worker's disk while the worker stands still."""
    world.cluster.processes[node].signal(signal.SIGSTOP)
    shutil.copytree(world.cluster.directory / node, target)
    world.cluster.processes[node].signal(signal.SIGCONT)


def counter(disk: Path) -> int:
    """How new a disk is."""
    return int((disk / "counter").read_text())


def identity(world: World, node: str) -> str:
    """The identity of a worker's disk; empty while it is not alive."""
    return next((each.identity for each in world.cluster.store.workers() if each.node == node), "")


def members(world: World) -> set[str]:
    """Names of the segment's holder and followers."""
    return members_of(world.lock)


def members_of(lock: Lock) -> set[str]:
    """Names of a lock's holder and followers."""
    return {lock.node, *(each.node for each in lock.followers)}


@pytest.mark.parametrize("role", ["holder", "follower"])
def test_a_full_disk(world: World, role: str) -> None:
    """Nothing that was acknowledged is lost, and writes go on once there is room."""
    victim = "w3"
    world.heal()
    world.cluster.processes[victim].stop()
    small = world.directory / f"small-{role}"
    with mounted(small, "400m") as disk:
        world.cluster.settings_of[victim] = {"LOCAL_DATA": str(disk / victim)}
        try:
            begin_on(world, victim, role)
            with world.judged() as writers:
                filling = disk / "filling"
                fill(filling)
                world.until_written(writers) if role == "follower" else refused(world, writers)
                filling.unlink()
        finally:
            world.cluster.processes[victim].stop()
            del world.cluster.settings_of[victim]
    world.heal()


def fill(path: Path) -> None:
    """Leave no byte on a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def begin_on(world: World, node: str, role: str) -> None:
    """A new segment of which a worker is the holder, or the follower."""
    world.heal()
    world.cluster.processes["w2"].stop()  # so there are two to choose from
    for number in range(20):
        world.create(f"full-{role}-{number}")
        if node == (world.holder if role == "holder" else world.follower):
            world.heal()
            return
    raise AssertionError(f"{node} was chosen for no segment")


def refused(world: World, writers: Writers) -> None:
    """Wait for a write that is refused, or for another holder."""
    old, since = world.holder, time.monotonic()
    until_blocking(
        lambda: (
            world.holder != old
            or any(
                each.status in (503, 507) and each.begun > since for each in list(writers.attempts)
            )
        ),
        "an answer of the full disk",
    )
