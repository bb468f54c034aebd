"""What a leader does, on real stores: a registry and a directory, unless a test says others."""

import threading
from collections.abc import Collection
from dataclasses import replace

import pytest
import pytest_twisted
from cluster_engines import PAIRS, open_engines
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from waiting import GIVE_UP, until
from worker_parts import HeldUp

from trough.leader.term import Leadership, Policy
from trough.metadata.open import open_metadata
from trough.model import READ, Copy, Leader, Worker, canonical_path
from trough.storage.open import open_storage
from trough.util.threads import ThreadPoolService

ME = Leader("s1", "me", "http://127.0.0.1:1/", ttl=60.0)


class Greeting(Protocol):
    """Greets as a worker does, and listens to nobody."""

    @classmethod
    def factory(cls, name):
        factory = Factory.forProtocol(cls)
        factory.name = name
        return factory

    def connectionMade(self):
        self.transport.write(f"TROUGH 1 worker {self.factory.name}\n".encode())


class House:
    """A pair of stores, workers that are only rows, and a leadership."""

    def __init__(self, engines):
        self.hand = engines.hand
        self.canonical = engines.hand.root
        self.metadata = open_metadata(engines.metadata_url, reactor)
        self.storage = open_storage(engines.storage_url, reactor)
        self.copies_for = lambda segment: 2
        self.policy = Policy(
            lambda segment: self.copies_for(segment),
            lambda segment: segment.startswith("cold"), 2,
            grace=600.0, listing=0.05, full_listing=600.0, reap=0.05,
        )  # fmt: skip
        self.threads = ThreadPoolService("planning", 1, reactor)
        self.leadership = Leadership(
            self.metadata, self.storage, self.policy, self.threads, reactor
        )

    async def open(self, *workers):
        self.threads.startService()
        await self.metadata.open()
        await self.storage.open()
        for name in workers:
            await self.join(name)

    async def join(self, name, ttl=600.0, line=""):
        worker = Worker(name, f"identity of {name}", line, capacity=10**12, available_bytes=10**12,
                        ttl=ttl)  # fmt: skip
        await self.metadata.register_worker(worker)

    async def die(self, name, line=""):
        """Renew a worker for the last time: only now, for it has to be seen alive before."""
        await self.join(name, 0.01, line)

    async def lead(self):
        leader = await self.metadata.campaign(ME)
        self.leadership.begin_or_go_on(leader, reactor.seconds())

    async def close(self):
        self.leadership.end()
        await self.leadership.ended()
        await self.threads.stopService()
        await self.storage.close()
        await self.metadata.close()

    def put(self, segment, content=b"a"):
        """A file in canonical storage; what is in it does not matter to a leader."""
        path = canonical_path(segment)
        hidden = f"{path.rpartition('/')[0]}/.{segment}"
        self.hand.put(hidden, content)
        self.hand.rename(hidden, path)

    async def assigned(self, segment):
        rows = await self.metadata.assignments_of_segment(segment)
        return sorted(row.node for row in rows)


@pytest.fixture(params=PAIRS[:1])
def house(request, tmp_path):
    """See :class:`House`."""
    house = House(open_engines(request.param, tmp_path, request))
    yield house
    pytest_twisted.blockon(ensureDeferred(house.close()))


@pytest_twisted.ensureDeferred
async def test_what_lies_in_storage_is_assigned(house):
    """Each segment goes to as many different workers as it should have copies."""
    await house.open("w1", "w2", "w3")
    house.put("300001")
    await house.lead()
    nodes = await until(lambda: house.assigned("300001"), "assignments")
    assert len(set(nodes)) == 2
    assert set(await house.metadata.rings()) == {"w1", "w2", "w3"}


@pytest_twisted.ensureDeferred
async def test_a_server_goes_on_while_it_plans(house):
    """However long that takes: here, until something else was done meanwhile."""
    planning, done = threading.Event(), threading.Event()

    def copies_for(segment):
        planning.set()
        return 2 if done.wait(GIVE_UP) else 1

    house.copies_for = copies_for
    await house.open("w1", "w2", "w3")
    house.put("300001")
    await house.lead()
    await until(planning.is_set, "a plan to be made")
    assert house.leadership.status()["rounds"] == 0
    done.set()
    nodes = await until(lambda: house.assigned("300001"), "assignments")
    assert len(nodes) == 2


class GoneThrough(Collection):
    """Copies that note on which threads they are gone through."""

    def __init__(self, copies, threads):
        self._copies = copies
        self._threads = threads

    def __iter__(self):
        self._threads.add(threading.current_thread())
        return iter(self._copies)

    def __len__(self):
        return len(self._copies)

    def __contains__(self, copy):
        return copy in self._copies


@pytest_twisted.ensureDeferred
async def test_a_server_goes_through_what_storage_holds_on_a_thread(house):
    """A hundred million files would keep it from its lease, and from its clients."""
    threads = set()
    find_changes = house.storage.changes

    async def changes(since, full):
        found = await find_changes(since, full)
        first = replace(found, present=GoneThrough(found.present, threads))
        return first if since is None else found

    house.storage.changes = changes
    await house.open("w1", "w2")
    segments = [f"3000{number}" for number in range(10, 40)]
    for segment in segments:
        house.put(segment)
    await house.lead()
    for segment in segments:
        await until(lambda s=segment: house.assigned(s), "assignments")
    assert threads and threading.current_thread() not in threads


@pytest.mark.parametrize("others", [0, 30])
@pytest_twisted.ensureDeferred
async def test_a_new_segment_stays_where_it_is_written(house, others):
    """Although its file is seen before the news of its write lock."""
    await house.open("w1", "w2", "w3", "w4")
    watch_locks = house.metadata.watch_locks
    house.metadata.watch_locks = lambda listener: watch_locks(lambda news: None)
    await house.lead()
    written = [f"30000{number}" for number in range(8)]
    for number, segment in enumerate(written):
        await house.metadata.take_lock(segment, f"w{number % 4 + 1}")
    for segment in [*written, *(f"other-{number}" for number in range(others))]:
        house.put(segment)
    for number, segment in enumerate(written):
        nodes = await until(lambda s=segment: house.assigned(s), "assignments")
        assert f"w{number % 4 + 1}" in nodes and len(nodes) == 2


@pytest_twisted.ensureDeferred
async def test_a_new_version_is_told_to_the_same_workers(house):
    """A file that was replaced by hand gives its assignments the new version."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.lead()
    await until(lambda: house.assigned("300001"), "assignments")
    house.put("300001", b"longer")

    async def sizes():
        rows = await house.metadata.assignments_of_segment("300001")
        return [row.size for row in rows] == [6, 6]

    await until(sizes, "the new version")


@pytest_twisted.ensureDeferred
async def test_what_is_gone_is_taken_back(house):
    """A segment that was deleted by hand is assigned to nobody."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.lead()
    await until(lambda: house.assigned("300001"), "assignments")
    (house.canonical / canonical_path("300001")).unlink()

    async def nobody():
        return not await house.assigned("300001")

    await until(nobody, "the end of the assignments")


@pytest_twisted.ensureDeferred
async def test_sudden_loss_of_nearly_everything_is_doubted(house):
    """An empty directory where thousands of segments were takes no assignment away."""
    await house.open("w1", "w2")
    for number in range(150):
        house.put(f"3{number:05}")
    await house.lead()
    await until(lambda: house.assigned("300149"), "assignments")
    for path in house.canonical.rglob("*.sqlite"):
        path.unlink()
    await until(lambda: house.leadership.status()["doubting_a_loss"], "the doubt")
    rounds = house.leadership.status()["rounds"]
    await until(lambda: house.leadership.status()["rounds"] > rounds + 3, "further rounds")
    assert len(await house.assigned("300149")) == 2


@pytest_twisted.ensureDeferred
async def test_copies_of_a_dead_worker_vanish_and_its_assignments_wait(house):
    """Within its TTL nobody is sent to a dead worker; its share waits out the grace."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.metadata.publish_copies(
        [Copy("300001", "w2", READ, "http://127.0.0.1:2/?segment=300001")]
    )
    await house.lead()

    async def reaped():
        return not await house.metadata.copies_of(["300001"])

    await until(lambda: house.assigned("300001"), "assignments")
    await house.die("w2")
    await until(reaped, "the end of the copies")
    assert await house.assigned("300001") == ["w1", "w2"]


@pytest.mark.parametrize("house", PAIRS[:2], indirect=True)
@pytest_twisted.ensureDeferred
async def test_clean_locks_of_a_dead_worker_are_released(house):
    """By themselves, once its TTL is over; dirty ones, and those of the living, stay."""
    await house.open("w1", "w2")
    taken = {}
    for segment, node in (("a", "w2"), ("b", "w2"), ("c", "w1")):
        taken[segment] = await house.metadata.take_lock(segment, node)
    await house.metadata.mark_clean([taken["a"], taken["c"]])
    await house.lead()
    await until(lambda: house.leadership.status()["rounds"] > 1, "a look at who lives")
    await house.die("w2")

    async def released():
        return await house.metadata.lock_of("a") is None

    await until(released, "the release of a clean lock")
    assert [lock.segment for lock in await house.metadata.locks()] == ["b", "c"]


@pytest_twisted.ensureDeferred
async def test_all_workers_that_die_at_once_are_asked(house):
    """While one answers nothing is removed, and that is reported; then all are dead."""
    listening = reactor.listenTCP(0, Greeting.factory("w2"), interface="127.0.0.1")
    await house.open("w1")
    await house.join("w2", line=f"127.0.0.1:{listening.getHost().port}")
    await house.metadata.publish_copies(
        [Copy("300001", name, READ, "http://127.0.0.1:2/?segment=300001") for name in ("w1", "w2")]
    )
    await house.metadata.mark_clean([await house.metadata.take_lock("a", "w1")])
    await house.lead()
    await until(lambda: house.leadership.status()["rounds"] > 1, "a look at who lives")
    for name in ("w1", "w2"):
        await house.die(name, line=f"127.0.0.1:{listening.getHost().port}")
    await until(lambda: "these answer: w2" in house.leadership.trouble, "a doubt")
    assert await house.metadata.lock_of("a") is not None
    await listening.stopListening()

    async def released():
        return await house.metadata.lock_of("a") is None

    await until(released, "the end of the doubt")
    assert "these answer" not in house.leadership.trouble


@pytest_twisted.ensureDeferred
async def test_a_forgotten_worker_gets_no_place_again(house):
    """What it had goes to others without any grace, and no ring is saved with it."""
    await house.open("w1", "w2", "w3")
    house.put("300001")
    await house.lead()

    async def w2_is_dead():
        return [worker.node for worker in await house.metadata.workers()] == ["w1", "w3"]

    async def moved():
        return set(await house.assigned("300001")) >= {"w1", "w3"}

    await until(lambda: house.assigned("300001"), "assignments")
    await house.die("w2")
    await until(w2_is_dead, "the end of a worker")
    await house.metadata.forget_worker("w2")
    await until(moved, "copies on the others")
    await house.join("w4")

    async def placed():
        return "w4" in await house.metadata.rings()

    await until(placed, "a place for a new worker")
    assert set(await house.metadata.rings()) == {"w1", "w3", "w4"}


@pytest.mark.parametrize("house", PAIRS[:2], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_worker_that_is_forgotten_while_rings_are_saved_gets_no_place_again(house):
    """Not even in the moment between the leader's look at the rings and its change."""
    await house.open("w1", "w2")
    await house.lead()

    async def rings_are(expected):
        return set(await house.metadata.rings()) == expected

    await until(lambda: rings_are({"w1", "w2"}), "places on the rings")
    await house.metadata.withdraw_worker(Worker("w2", "identity of w2"))
    saving = HeldUp(house.metadata, "save_rings")
    await house.join("w3")
    await saving.reached
    await house.metadata.forget_worker("w2")
    saving.go_on()
    await until(lambda: rings_are({"w1", "w3"}), "a place for the new worker alone")


@pytest.mark.parametrize("house", PAIRS[2:], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_silent_storage_holds_up_no_round(house, hdfs):
    """While the NameNode takes connections and answers nothing, the leader plans on."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.lead()
    await until(lambda: house.assigned("300001"), "assignments")
    hdfs.namenode.freeze()
    try:
        rounds = house.leadership.status()["rounds"]
        # Fewer seconds than a silent NameNode is waited for.
        await until(lambda: house.leadership.status()["rounds"] > rounds + 2, "rounds", 25.0)
    finally:
        hdfs.namenode.thaw()


@pytest.mark.parametrize("house", PAIRS[:2], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_deposed_leader_changes_nothing(house):
    """Once another one leads, the old one's plans are refused by the store."""
    await house.open("w1", "w2")
    await house.lead()
    await until(lambda: house.leadership.status()["rounds"], "a first round")
    await house.metadata.resign(await house.metadata.leader())
    await house.metadata.campaign(Leader("s2", "other", "http://127.0.0.1:3/", ttl=600.0))
    house.put("300001")
    await until(lambda: house.leadership.status()["refused"] >= 2, "refused rounds")
    assert await house.assigned("300001") == []


@pytest_twisted.ensureDeferred
async def test_a_lease_that_may_have_ended_stops_the_rounds(house):
    """A leader that could not renew in time by its own clock does nothing more."""
    await house.open("w1", "w2")
    leader = await house.metadata.campaign(ME)
    house.put("300001")
    house.leadership.begin_or_go_on(leader, reactor.seconds() - 61.0)
    await until(lambda: house.leadership.status()["refused"], "a refused round")
    assert house.leadership.status()["rounds"] == 0
    assert await house.assigned("300001") == []
