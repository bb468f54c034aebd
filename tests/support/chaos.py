"""Chaos: clients that write and promote while everything is killed, and what has to be left.

A :class:`Ledger` notes what was answered; :class:`Clients` write and promote and go on
when they are refused; a :class:`Monkey` kills and brings back, in turn and then at random,
by dice that can be thrown again with the same seed; :func:`check` looks at the end. The
clients' own timing is not in the dice, so the same seed gives the same order of deaths and
not the same run.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster_nodes import Cluster
from processes import http, until_blocking
from staleness import Acknowledged
from storages import SETTLED

from trough import errors
from trough.model import canonical_path

ROWS = "SELECT n FROM t"
#: Rows of one write.
BATCH = 20
#: Open files of a process that nobody asks anything, at most: some 30 are its own.
MOST_OPEN = 100


class Ledger:
    """What clients were told is on disk, and what is in canonical storage.

    Where an operator frees a lock, what its holder had not promoted is promoted by nobody:
    it counts as acknowledged, and no promotion that answers later speaks of it. So does a
    write whose answer was on its way meanwhile: a holder that stands still for a while may have
    been stopped between the end of a write and the last step of its answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: For readers, which judge each answer.
        self.readable = Acknowledged()
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.promoted: dict[str, set[int]] = defaultdict(set)
        self._promotable: dict[str, set[int]] = defaultdict(set)
        self._freed: dict[str, int] = defaultdict(int)

    def freed(self, segment: str) -> int:
        """What :meth:`note_written` is to be told of the moment when a write was sent."""
        with self._lock:
            return self._freed[segment]

    def note_written(self, segment: str, numbers: list[int], since: int, url: str) -> None:
        self.readable.note(segment, numbers, url, since)
        with self._lock:
            self.acknowledged[segment].update(numbers)
            if since == self._freed[segment]:
                self._promotable[segment].update(numbers)

    def note_freed(self, segment: str) -> None:
        """To be called right before and right after the lock is freed."""
        self.readable.give_up(segment)
        with self._lock:
            self._freed[segment] += 1
            self._promotable[segment].clear()

    def promotable(self, segment: str) -> tuple[int, set[int]]:
        """What a promotion that begins now is about; see :meth:`note_promoted`."""
        with self._lock:
            return self._freed[segment], set(self._promotable[segment])

    def note_promoted(self, segment: str, about: tuple[int, set[int]]) -> None:
        freed, numbers = about
        with self._lock:
            if freed == self._freed[segment]:
                self.promoted[segment] |= numbers
                self.readable.note_promoted(segment, numbers)

    @property
    def count(self) -> int:
        with self._lock:
            return sum(map(len, self.acknowledged.values()))


class Clients:
    """Threads that write to and promote segments until :meth:`stop`."""

    def __init__(
        self, cluster: Cluster, ledger: Ledger, segments: list[str], writers: int, seed: int
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._segments = segments
        self._over = threading.Event()
        self.refusals = 0
        self.promotions = 0
        work: list[tuple[Callable[..., None], int]] = [(self._promote, 0)]
        work += [(self._write, number) for number in range(1, writers + 1)]
        self._threads = [
            threading.Thread(target=function, args=(number, random.Random(f"{seed}.{number}")))
            for function, number in work
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have every thread end what it is at, and wait."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int, dice: random.Random) -> None:
        numbers = itertools.count(number * 1_000_000_000)
        urls: dict[str, str] = {}
        while not self._over.is_set():
            segment = dice.choice(self._segments)
            url = urls.pop(segment, "") or self._provision(segment, dice)
            if not url:
                continue
            batch = list(itertools.islice(numbers, BATCH))
            values = ", ".join(f"({n})" for n in batch)
            since = self._ledger.freed(segment)
            status, _ = http("POST", url, f"INSERT INTO t VALUES {values}".encode())
            if status == 200:
                urls[segment] = url
                self._ledger.note_written(segment, batch, since, url)
            else:
                self._refused()

    def _provision(self, segment: str, dice: random.Random) -> str:
        status, answer = _order(self._cluster, "provision", segment, dice)
        if status == 200:
            return json.loads(answer)["write_url"]
        self._refused()
        return ""

    def _promote(self, number: int, dice: random.Random) -> None:
        while not self._over.wait(0.2):
            segment = dice.choice(self._segments)
            about = self._ledger.promotable(segment)
            if about[1] and _order(self._cluster, "promote", segment, dice)[0] == 200:
                self._ledger.note_promoted(segment, about)
                self.promotions += 1

    def _refused(self) -> None:
        self.refusals += 1
        self._over.wait(0.05)  # as a client does before it asks again


def _order(cluster: Cluster, verb: str, segment: str, dice: random.Random) -> tuple[int, bytes]:
    order = {"segment": segment}
    if verb == "provision":
        order["schema"] = "chaos"
    sync = cluster.url(dice.choice(cluster.syncs), "SYNC_SERVER_PORT")
    return http("POST", sync + verb, json.dumps(order).encode())


@dataclass(frozen=True)
class Victim:
    """Something that can be killed, and brought back.

    :ivar kill: returns the name of what it killed
    :ivar revive: given that name
    """

    kind: str
    kill: Callable[[], str]
    revive: Callable[[str], object]


class Monkey:
    """Kills one victim at a time.

    :ivar deaths: how often each kind died
    """

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        dice: random.Random,
        *others: Victim,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._dice = dice
        self.deaths: dict[str, int] = defaultdict(int)
        self._victims = [
            Victim("holder", self._kill_holder, self._revive_worker),
            Victim("leader", self._kill_leader, lambda name: cluster.sync(name).wait_ready()),
            Victim("holder, lock freed", self._kill_holder_and_free, self._revive_worker),
            Victim("holder that stands still, lock freed", self._stop_holder_and_free, self._go_on),
            Victim("leader that stands still", self._stop_leader, self._go_on),
            *others,
        ]

    def rage(self, seconds: float) -> None:
        """Kill each kind once, and then at random until the time is over; at least two."""
        ends = time.monotonic() + seconds
        for victim in self._order():
            if time.monotonic() > ends and len(self.deaths) >= 2:
                return
            name = victim.kill()
            print(f"killed: {victim.kind} {name}", flush=True)
            self.deaths[victim.kind] += 1
            time.sleep(self._dice.uniform(0.0, 3.0))  # for how long it is dead
            victim.revive(name)

    def _order(self) -> Iterator[Victim]:
        yield from self._dice.sample(self._victims, len(self._victims))
        while True:
            yield self._dice.choice(self._victims)

    def _locked(self) -> tuple[str, str]:
        """A segment that is being written, and who writes it: nobody frees, in this game,
        the lock of a worker that lives."""

        def found() -> list[tuple[str, str]]:
            with suppress(errors.Unavailable):
                return sorted((lock.segment, lock.node) for lock in self._cluster.store.locks())
            return []

        return self._dice.choice(until_blocking(found, "a write lock"))

    def _kill_holder(self) -> str:
        _, name = self._locked()
        self._cluster.processes[name].kill()
        return name

    def _kill_holder_and_free(self) -> str:
        segment, name = self._locked()
        self._cluster.processes[name].kill()
        self._free(segment, name)
        return name

    def _stop_holder_and_free(self) -> str:
        segment, name = self._locked()
        self._cluster.processes[name].signal(signal.SIGSTOP)
        self._free(segment, name)
        return name

    def _stop_leader(self) -> str:
        name = self._cluster.leader() or self._dice.choice(self._cluster.syncs)
        self._cluster.processes[name].signal(signal.SIGSTOP)
        return name

    def _go_on(self, name: str) -> None:
        self._cluster.processes[name].signal(signal.SIGCONT)

    def _free(self, segment: str, name: str) -> None:
        """Free the lock of a holder once that counts as dead; not one that followers take over."""
        self._cluster.wait_for_death(name)
        if self._possible_holders(segment) != {name}:
            return
        self._ledger.note_freed(segment)
        self._cluster.admin("free-lock", segment, "--yes")
        self._ledger.note_freed(segment)

    def _possible_holders(self, segment: str) -> set[str]:
        """The workers that have the lock, or may take it from now on."""

        def named() -> list[set[str]]:
            with suppress(errors.Unavailable):
                locks = [each for each in self._cluster.store.locks() if each.segment == segment]
                return [{lock.node, *(each.node for each in lock.followers)} for lock in locks] or [
                    set()
                ]
            return []

        return until_blocking(named, "the write locks")[0]

    def _kill_leader(self) -> str:
        name = self._cluster.leader() or self._dice.choice(self._cluster.syncs)
        self._cluster.processes[name].kill()
        return name

    def _revive_worker(self, name: str) -> None:
        self._cluster.worker(name).wait_ready()


def check(cluster: Cluster, ledger: Ledger, segments: list[str], copies: int) -> None:
    """Assert all that has to be true after the chaos; everything runs again."""
    for segment in segments:
        for verb in ("provision", "promote"):
            until_blocking(
                lambda verb=verb, segment=segment: cluster.order(verb, segment)[0] == 200,
                f"{verb} of {segment}",
            )
    for segment in segments:
        _check_rows(cluster, ledger, segment, cluster.wait_for_copies(segment, copies))
    _check_locks(cluster)
    _check_uploads(cluster)
    until_blocking(
        lambda: all(len(cluster.readers_by_disk(s)) == copies for s in segments),
        f"{copies} files of every segment",
    )
    _check_open_files(cluster)


def _check_rows(cluster: Cluster, ledger: Ledger, segment: str, readers: set[str]) -> None:
    canonical = {n for (n,) in cluster.canonical_rows(segment, ROWS)}
    lost = ledger.promoted[segment] - canonical
    assert not lost, f"{segment}: {len(lost)} promoted rows are lost"
    # Whoever stood still until now may be about to move its file aside.
    until_blocking(
        lambda: ledger.acknowledged[segment] <= canonical | set(_rows_aside(cluster, segment)),
        f"the acknowledged rows of {segment}, some of which are on no disk",
    )
    expected = sorted(canonical)
    for reader in readers:
        url = cluster.read_url(reader, segment)

        def found(url: str = url) -> bool:
            status, answer = http("POST", url, f"{ROWS} ORDER BY n".encode())
            return status == 200 and [row["n"] for row in json.loads(answer)] == expected

        until_blocking(found, f"the promoted rows of {segment} on {reader}")


def _rows_aside(cluster: Cluster, segment: str) -> Iterator[int]:
    for worker in cluster.workers:
        for path in (cluster.directory / worker / "aside").glob(f"{segment}.*.sqlite"):
            with sqlite3.connect(path) as database:
                yield from (n for (n,) in database.execute(ROWS))
            database.close()


def _check_locks(cluster: Cluster) -> None:
    """Whoever has a lock writes the segment, under that epoch, and nobody else does."""
    locks = {(lock.node, lock.segment, lock.epoch) for lock in cluster.store.locks()}

    def written() -> set[tuple[str, str, int]]:
        return {
            (worker, each["segment"], each["epoch"])
            for worker in cluster.workers
            for each in cluster.status(worker)["writable"]
        }

    # Whoever stood still until now has yet to hear that its lock was freed.
    until_blocking(lambda: locks == written(), f"no writers but {locks}")
    until_blocking(
        lambda: all(
            cluster.writers(segment) == {node for node, each, _ in locks if each == segment}
            for segment in {each for _, each, _ in locks}
        ),
        "the publication of every writer and of nobody else",
    )


def _check_uploads(cluster: Cluster) -> None:
    """What killed workers left half uploaded is swept by the leader once it is old."""
    for name in _unfinished(cluster):
        cluster.hand.set_modified(name, SETTLED)
        # Something has to change in the directory to have it looked at before its time.
        beside = f"{name.rpartition('/')[0]}/changed"
        cluster.hand.put(beside, b"")
        cluster.hand.remove(beside)
    until_blocking(lambda: not _unfinished(cluster), "the sweeping of old uploads")


def _check_open_files(cluster: Cluster) -> None:
    """Nobody keeps open what was replaced or moved, or a connection that has ended."""
    sessions = {process.pid for process in cluster.processes.values()}

    def found() -> list[str]:
        paths = [path for pid in _alive(sessions) for path in _open_files(pid)]
        return [path for path in paths if ".sqlite" in path and path.endswith("(deleted)")]

    until_blocking(lambda: not found(), "the end of files that were replaced")
    until_blocking(
        lambda: max(len(_open_files(pid)) for pid in _alive(sessions)) < MOST_OPEN,
        f"fewer than {MOST_OPEN} open files in every process",
    )


def _open_files(pid: int) -> list[str]:
    found = []
    with suppress(FileNotFoundError):  # whoever has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(str(descriptor.readlink()))
    return found


def _unfinished(cluster: Cluster) -> list[str]:
    return [name for name in cluster.hand.names() if not name.endswith(".sqlite")]


def _database(name: str) -> str:
    """The name of the database that a file belongs to; -log: its writes are replicated."""
    return name.removesuffix("-wal").removesuffix("-shm").removesuffix("-log")


def check_nothing_leaks(cluster: Cluster, segments: list[str], sessions: set[int]) -> None:
    """Assert what has to be true after every process was asked to end.

    :param sessions: of all processes that were ever started
    """
    until_blocking(lambda: not _alive(sessions), "the end of every process")
    for worker in cluster.workers:
        home = cluster.directory / worker
        assert list((home / "snapshots").iterdir()) == []
        known = {f"{Path(canonical_path(segment)).name}" for segment in segments}
        strange = [
            path
            for path in (home / "segments").rglob("*")
            if path.is_file() and _database(path.name) not in known
        ]
        assert strange == []
    assert _unfinished(cluster) == []


def _alive(sessions: set[int]) -> list[int]:
    """Processes of these sessions: executors that outlived their front, above all."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found
