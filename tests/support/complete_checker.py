"""Who asks whether every answer is the truth, and who disturbs the cluster meanwhile."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from http.client import HTTPException
from signal import SIGCONT, SIGSTOP

from cluster_nodes import Cluster
from cut_links import CutLink
from processes import http, until_blocking, write

from trough.metadata.url import RethinkAddress, parse
from trough.model import canonical_path

#: Each segment has one row, whose value is its own; all of these answer with one row for each.
_ROWS = (
    "SELECT a FROM t",
    "SELECT a, count(*) FROM t GROUP BY a",
    "SELECT a FROM t WHERE a > '' ORDER BY a",
    "SELECT a, rank() OVER (ORDER BY a) FROM t",
    "SELECT a FROM t UNION SELECT a FROM t",
)
_COUNTS = (
    "SELECT count(*) FROM t",
    "SELECT count(DISTINCT a) FROM t",
    "SELECT count(*) FROM (SELECT a FROM t ORDER BY a LIMIT 1000)",
)
#: Seconds, at most, for which a process stands still, or a link is cut: longer than a TTL.
_PAUSE = 4.0


class Segments:
    """Which segments surely exist, and which may; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sure: set[str] = set()
        self._possible: set[str] = set()
        self._made = 0

    def new(self) -> str:
        """The id of a segment that may exist from now on."""
        with self._lock:
            self._made += 1
            name = f"k{self._made:04}"
            self._possible.add(name)
            return name

    def there(self, name: str) -> None:
        """A segment is promoted."""
        with self._lock:
            self._sure.add(name)

    def going(self, name: str) -> None:
        """A segment may be gone from now on."""
        with self._lock:
            self._sure.discard(name)

    def gone(self, name: str) -> None:
        """A segment is deleted."""
        with self._lock:
            self._possible.discard(name)

    @property
    def sure(self) -> set[str]:
        with self._lock:
            return set(self._sure)

    @property
    def possible(self) -> set[str]:
        with self._lock:
            return set(self._possible)


class Checker(threading.Thread):
    """Asks which rows there are, and how many, until :meth:`stop`.

    :ivar wrong: answers that were not the truth
    :ivar answered: number of answers; `refused`, of refusals
    """

    def __init__(self, cluster: Cluster, segments: Segments, seed: int) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.answered = self.refused = 0
        self._cluster = cluster
        self._segments = segments
        self._dice = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            self._ask(self._dice.choice(_ROWS + _COUNTS))

    def _ask(self, sql: str) -> None:
        question = json.dumps({"matching": "^k", "sql": sql}).encode()
        url = self._cluster.url(self._dice.choice(self._cluster.syncs), "SYNC_SERVER_PORT")
        sure, possible = self._segments.sure, self._segments.possible
        try:
            status, answer = http("POST", f"{url}gather", question, seconds=30)
        except HTTPException:  # the server was killed in the midst of its answer
            status, answer = 0, b""
        sure, possible = sure & self._segments.sure, possible | self._segments.possible
        if status != 200:
            self.refused += 1
            return
        self.answered += 1
        rows = json.loads(answer)["rows"]
        if sql in _COUNTS:
            right = len(rows) == 1 and len(sure) <= rows[0][0] <= len(possible)
        else:
            values = [row[0] for row in rows]
            right = len(set(values)) == len(values) and sure <= set(values) <= possible
        if not right:
            values = {str(row[0]) for row in rows}
            self.wrong.append(
                f"{time.strftime('%X')} {sql}: lacks {sorted(sure - values)}, has too many "
                f"{sorted(values - possible)}; of {len(sure)} to {len(possible)}: {answer!r}"
            )

    def stop(self) -> None:
        """End, and wait for the end."""
        self._over.set()
        self.join()


class Disturber:
    """Kills, freezes, cuts, drains, damages, makes and deletes, by dice.

    :param links: of each process to its metadata store, by name; none for a registry
    :ivar done: how often each disturbance was tried
    :ivar log: what was done when
    """

    def __init__(
        self,
        cluster: Cluster,
        segments: Segments,
        dice: random.Random,
        links: dict[str, CutLink],
    ) -> None:
        self.done: Counter[str] = Counter()
        self.log: list[str] = []
        self._cluster = cluster
        self._segments = segments
        self._dice = dice
        self._links = links
        self._waiting: list[Callable[[], None]] = []

    def add_segments(self, count: int) -> None:
        """Make segments, each with its row, and promote them."""
        for _ in range(count):
            name = self._segments.new()
            writer = self._cluster.provision("s1", name)["write_url"]
            write(writer, f"CREATE TABLE t (a); INSERT INTO t VALUES ('{name}')")
            self._cluster.promote("s1", name)
            self._segments.there(name)

    def disturb(self) -> None:
        """Disturb once; all processes run and reach each other at the end."""
        if not self._waiting:
            # Each once, in another order each time.
            self._waiting = [self.kill, self.freeze, self.cut, self.damage, self.drain,
                             self.kill, self.replace]  # fmt: skip
            self._dice.shuffle(self._waiting)
        disturbance = self._waiting.pop()
        self.done[disturbance.__name__] += 1
        disturbance()

    def _note(self, what: str) -> None:
        self.log.append(f"{time.strftime('%X')} {what}")

    def kill(self) -> None:
        """Kill a process, and start it again."""
        name = self._dice.choice([*self._cluster.syncs, *self._cluster.workers])
        self._note(f"kill {name}")
        self._cluster.processes[name].kill()
        self._cluster.revive()

    def freeze(self) -> None:
        """Have a process stand still for a while."""
        name = self._dice.choice([*self._cluster.syncs, *self._cluster.workers])
        self._note(f"freeze {name}")
        self._cluster.processes[name].signal(SIGSTOP)
        self._pause()
        self._cluster.processes[name].signal(SIGCONT)

    def cut(self) -> None:
        """Cut a process off from its metadata store; a registry is locked for all."""
        if self._links:
            name = self._dice.choice(sorted(self._links))
            self._note(f"cut {name}")
            link = self._links[name]
            link.cut()
            self._pause()
            link.mend()
            return
        self._note("lock the registry")
        path = self._cluster.metadata_url.removeprefix("sqlite://")
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as registry:
            registry.execute("BEGIN EXCLUSIVE")
            self._pause()
            registry.execute("ROLLBACK")

    def damage(self) -> None:
        """Damage some of a worker's local copies."""
        worker = self._dice.choice(self._cluster.workers)
        self._note(f"damage copies of {worker}")
        locked = {lock.segment for lock in self._locks()}
        for name in sorted(self._segments.sure - locked):
            path = self._cluster.directory / worker / "segments" / canonical_path(name)
            if self._dice.random() < 0.5 and path.exists():
                with suppress(OSError), path.open("r+b") as file:
                    # The table's page: no type of page is 0.
                    file.seek(4096)
                    file.write(b"\0" * 4096)

    def drain(self) -> None:
        """Drain a worker, and take that back some time later."""
        worker = self._dice.choice(self._cluster.workers)
        self._note(f"drain {worker}")
        self._cluster.admin("drain", worker)
        self._pause()
        until_blocking(
            lambda: self._cluster.admin("undrain", worker).returncode == 0, f"undrain {worker}"
        )

    def replace(self) -> None:
        """Delete a segment that nobody writes, and make a new one."""
        # Locked segments are not deleted: only what is certain is tried.
        unlocked = sorted(self._segments.sure - {lock.segment for lock in self._locks()})
        if unlocked:
            self._delete(self._dice.choice(unlocked))
        with suppress(AssertionError):  # refused; it may exist from now on
            self.add_segments(1)

    def _delete(self, segment: str) -> None:
        self._segments.going(segment)
        url = self._cluster.url(self._dice.choice(self._cluster.syncs), "SYNC_SERVER_PORT")

        def deleted() -> bool:
            status, answer = http("DELETE", f"{url}segment/{segment}")
            self._note(f"delete {segment} at {url}: {status} {answer!r}")
            return status in (204, 404)

        # Until it answers, the segment may be there or not.
        until_blocking(deleted, f"{segment} deleted")
        self._segments.gone(segment)

    def _locks(self) -> Iterable:
        return until_blocking(lambda: [self._cluster.store.locks()], "the locks")[0]

    def _pause(self) -> None:
        # For how long the disturbance lasts; nothing is waited for.
        time.sleep(self._dice.uniform(0.1, _PAUSE))


def links_of(cluster: Cluster) -> dict[str, CutLink]:
    """A link of its own to RethinkDB for each process of a cluster that is not started yet."""
    address = parse(cluster.metadata_url)
    if not isinstance(address, RethinkAddress):
        return {}
    links = {}
    for name in (*cluster.syncs, *cluster.workers):
        link = links[name] = CutLink(address.hosts[0])
        own = RethinkAddress((link.host,), address.database)
        cluster.settings_of[name] = {"METADATA_URL": str(own)}
    return links
