"""What a worker says about its copies, on a real registry."""

from time import time

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.testing import Clock
from waiting import until

from trough import errors
from trough.metadata.open import open_metadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import READ, WRITE, Worker
from trough.worker.publisher import BATCH, GATHER, Publisher


@pytest.fixture
def registry(tmp_path):
    """An open registry with one live worker."""
    metadata = open_metadata(f"sqlite://{tmp_path}/registry.db", reactor)

    async def prepare():
        await metadata.open()
        await metadata.register_worker(Worker("w1", "identity", ttl=600.0))

    pytest_twisted.blockon(ensureDeferred(prepare()))
    yield metadata
    pytest_twisted.blockon(ensureDeferred(metadata.close()))


def _publisher(metadata):
    publisher = Publisher(metadata, "w1", "http://h:1/", "http://h:2/", 86400.0, clock=reactor)
    publisher.startService()
    return publisher


async def _roles(metadata, *segments):
    found = await metadata.copies_of(segments)
    return {segment: [copy.role for copy in copies] for segment, copies in found.items()}


@pytest_twisted.ensureDeferred
async def test_copies_appear_with_their_urls(registry):
    """A copy that can be read has one row, one that can be written two, as clients want them."""
    publisher = _publisher(registry)
    publisher.serve("a", writable=False)
    publisher.serve("b", writable=True)
    await publisher.published()
    assert await _roles(registry, "a", "b") == {"a": [READ], "b": [READ, WRITE]}
    (copy,) = (await registry.copies_of(["a"]))["a"]
    assert copy.url == "http://h:1/?segment=a"
    await publisher.stopService()


@pytest_twisted.ensureDeferred
async def test_what_is_over_disappears(registry):
    """A retired segment loses its write row, a withdrawn one both."""
    publisher = _publisher(registry)
    publisher.serve("a", writable=True)
    publisher.serve("b", writable=True)
    await publisher.published()
    publisher.serve("a", writable=False)
    publisher.withdraw("b")
    await publisher.published()
    assert await _roles(registry, "a", "b") == {"a": [READ]}
    await publisher.stopService()


@pytest_twisted.ensureDeferred
async def test_rows_that_were_reaped_come_back(registry):
    """After having been taken for dead, everything is said again."""
    publisher = _publisher(registry)
    publisher.serve("a", writable=False)
    await publisher.published()
    await registry.withdraw_worker(Worker("w1", "identity"))
    await registry.register_worker(Worker("w1", "identity", ttl=600.0))
    assert await _roles(registry, "a") == {}
    publisher.serve_all_again()
    await publisher.published()
    assert await _roles(registry, "a") == {"a": [READ]}
    await publisher.stopService()


@pytest_twisted.ensureDeferred
async def test_many_copies_go_in_batches(registry):
    """More copies than fit into a batch all arrive."""
    publisher = _publisher(registry)
    names = [f"s{number}" for number in range(1700)]
    for name in names:
        publisher.serve(name, writable=False)
    await publisher.published()
    assert len(await registry.copies_of(names)) == 1700 and publisher.behind == 0
    await publisher.stopService()


class LateRegistry(SqliteMetadata):
    """A registry whose answers to publications come late, or get lost.

    :ivar asked: fires when a publication has been carried out
    :ivar answer: what its answer waits for
    """

    def __init__(self, path):
        super().__init__(path, reactor)
        self.asked = Deferred()
        self.answer = Deferred()

    async def publish_copies(self, copies):
        await super().publish_copies(copies)
        if not self.asked.called:
            self.asked.callback(None)
            await self.answer


@pytest_twisted.ensureDeferred
async def test_what_is_over_before_its_news_were_answered_disappears(registry, tmp_path):
    """A copy withdrawn, or no longer written, while its first publication is under way
    leaves no row behind that nobody can serve."""
    late = LateRegistry(tmp_path / "registry.db")
    await late.open()
    publisher = _publisher(late)
    publisher.serve("a", writable=False)
    publisher.serve("b", writable=True)
    await late.asked
    publisher.withdraw("a")
    publisher.serve("b", writable=False)
    late.answer.callback(None)
    await publisher.published()
    assert await _roles(registry, "a", "b") == {"b": [READ]}
    await publisher.stopService()
    await late.close()


@pytest_twisted.ensureDeferred
async def test_what_was_published_without_an_answer_is_taken_back(registry, tmp_path):
    """A publication that failed may have happened: withdrawn meanwhile, it is removed."""
    late = LateRegistry(tmp_path / "registry.db")
    await late.open()
    publisher = _publisher(late)
    publisher.serve("a", writable=False)
    await late.asked
    publisher.withdraw("a")
    late.answer.errback(errors.Unavailable("the answer was lost"))
    await publisher.published()
    assert await _roles(registry, "a") == {}
    await publisher.stopService()
    await late.close()


@pytest_twisted.ensureDeferred
async def test_what_outlived_a_reaping_is_known(registry):
    """A copy that is withdrawn right after all was to be said again is withdrawn, though
    nobody had removed its row."""
    publisher = _publisher(registry)
    publisher.serve("a", writable=False)
    await publisher.published()
    publisher.serve_all_again()
    publisher.withdraw("a")
    await publisher.published()
    assert await _roles(registry, "a") == {}
    await publisher.stopService()


class OnceBrokenRegistry(SqliteMetadata):
    """A registry whose first publication fails as nothing should.

    :ivar broken: whether that is still to come
    """

    broken = True

    async def publish_copies(self, copies):
        if self.broken:
            self.broken = False
            raise RuntimeError("nobody thought of this")
        await super().publish_copies(copies)


@pytest_twisted.ensureDeferred
async def test_news_outlive_an_error_that_nobody_thought_of(registry, tmp_path):
    """Whatever publishing fails with, the news are told once it works."""
    broken = OnceBrokenRegistry(tmp_path / "registry.db", reactor)
    await broken.open()
    publisher = _publisher(broken)
    publisher.serve("a", writable=False)
    await publisher.published()
    assert await _roles(registry, "a") == {"a": [READ]}
    await publisher.stopService()
    await broken.close()


@pytest_twisted.ensureDeferred
async def test_rows_are_refreshed_within_any_ttl(registry, tmp_path):
    """However short the TTL of a copy's row is, a copy that is served does not vanish."""
    clock, begun = Clock(), time()
    aging = SqliteMetadata(tmp_path / "registry.db", reactor, lambda: begun + clock.seconds())
    await aging.open()
    publisher = Publisher(aging, "w1", "http://h:1/", "http://h:2/", 10.0, clock=clock)
    publisher.startService()
    publisher.serve("a", writable=False)
    for _second in range(30):
        clock.advance(1)
        clock.advance(0)
        await publisher.published()
        assert await _roles(aging, "a") == {"a": [READ]}
    await publisher.stopService()
    await aging.close()


class CountingRegistry(SqliteMetadata):
    """A registry that notes how many rows each publication had.

    :ivar portions: these numbers
    """

    def __init__(self, path):
        super().__init__(path, reactor)
        self.portions = []

    async def publish_copies(self, copies):
        await super().publish_copies(copies)
        self.portions.append(len(copies))


@pytest.fixture
def filling(registry, tmp_path):
    """A publisher that has just told of one copy, its registry, and its clock."""
    clock, counting = Clock(), CountingRegistry(tmp_path / "registry.db")
    pytest_twisted.blockon(ensureDeferred(counting.open()))
    publisher = Publisher(counting, "w1", "http://h:1/", "http://h:2/", 86400.0, clock=clock)
    publisher.startService()
    publisher.serve("a", writable=False)
    clock.advance(0)
    pytest_twisted.blockon(ensureDeferred(until(lambda: counting.portions, "the first copy")))
    yield publisher, counting, clock
    pytest_twisted.blockon(ensureDeferred(publisher.stopService()))
    pytest_twisted.blockon(ensureDeferred(counting.close()))


@pytest_twisted.ensureDeferred
async def test_copies_that_come_one_by_one_are_told_together(filling):
    """A worker that fetches thousands does not write to the store after each: what comes
    soon after some news were told is gathered for a moment."""
    publisher, counting, clock = filling
    for segment in ("b", "c", "d"):
        publisher.serve(segment, writable=False)
        clock.advance(GATHER / 10)
    assert counting.portions == [1]
    clock.advance(GATHER)
    await until(lambda: sum(counting.portions) == 4, "the others")
    assert counting.portions == [1, 3]


@pytest_twisted.ensureDeferred
async def test_full_batches_go_without_a_pause(filling):
    """Nothing is saved by waiting for more: only what is left of the last batch waits."""
    publisher, counting, clock = filling
    for number in range(2 * BATCH + 1):
        publisher.serve(f"b{number}", writable=False)
    clock.advance(GATHER)
    await until(lambda: sum(counting.portions) == 1 + 2 * BATCH, "two full batches")
    assert counting.portions == [1, BATCH, BATCH]
    clock.advance(GATHER)
    await until(lambda: sum(counting.portions) == 2 * BATCH + 2, "the rest")
    assert counting.portions == [1, BATCH, BATCH, 1]


@pytest_twisted.ensureDeferred
async def test_nothing_is_gathered_while_somebody_waits(filling):
    """A provisioning is answered as soon as the store knows of its writer."""
    publisher, counting, clock = filling
    publisher.serve("b", writable=True)
    published = Deferred.fromCoroutine(publisher.published())
    clock.advance(0)
    await published
    assert counting.portions == [1, 2]
