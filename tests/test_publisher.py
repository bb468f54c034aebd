"""What a worker says about its copies, on a real registry."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from trough.metadata.open import open_metadata
from trough.model import READ, WRITE, Worker
from trough.publisher import Publisher


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
    publisher = Publisher(metadata, "w1", "http://h:1/", "http://h:2/", 86400.0, reactor)
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
