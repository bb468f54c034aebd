"""When canonical storage counts as silent."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from trough import errors
from trough.model import CanonicalCopy
from trough.worker.storage_watch import ANSWER, INTERVAL, SILENT, StorageWatch

COPY = CanonicalCopy("s", "s.sqlite", 100, 1)


class Storage:
    """What a transfer is to a worker: a Deferred and its progress."""

    def __init__(self):
        self.transfers = []
        self.probes = []

    def location(self, path):
        return f"/canonical/{path}"

    def status(self):
        return {}

    def probe(self, copy):
        probe = Deferred()
        self.probes.append(probe)
        return probe

    def fetch(self, copy, destination, progress):
        transfer = Deferred()
        transfer.progress = progress
        self.transfers.append(transfer)
        return transfer


@pytest.fixture
def watch():
    clock, storage = Clock(), Storage()
    watch = StorageWatch(storage, lambda: [COPY, COPY], clock)
    watch.clock, watch.transfers, watch.probes = clock, storage.transfers, storage.probes
    return watch


def failure_of(deferred):
    """What a Deferred failed with; None while it has not."""
    found = []
    deferred.addErrback(found.append)
    return found[0].value if found else None


def test_a_transfer_of_which_no_byte_comes_is_given_up(watch):
    """It may be one server's trouble: other segments are fetched."""
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    watch.clock.advance(SILENT)
    failure = failure_of(fetching)
    assert isinstance(failure, errors.Unavailable) and "no byte came" in str(failure)
    watch.check("another")


def test_storage_is_away_when_no_segment_can_be_read(watch):
    """One that can be read suffices; while none can, what is not in the cache is refused."""
    looking = Deferred.fromCoroutine(watch.look())
    watch.probes[0].errback(errors.Unavailable("its blocks are missing"))
    watch.probes[1].callback(None)
    assert looking.called and not watch.away
    looking = Deferred.fromCoroutine(watch.look())
    for probe in watch.probes[2:]:
        probe.errback(errors.Unavailable("nobody answers"))
    assert looking.called
    with pytest.raises(errors.Unavailable, match="canonical storage is away: nobody answers"):
        watch.check("another")
    looking = Deferred.fromCoroutine(watch.look())
    watch.probes[4].callback(None)
    watch.check("another")
    assert watch.clock.getDelayedCalls() == []


def test_transfers_wait_for_each_other(watch):
    """One that moves shows that the storage is there, for all of them."""
    moving = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    waiting = Deferred.fromCoroutine(watch.fetch(COPY, "y"))
    for done in range(20):
        watch.clock.advance(SILENT / 2)
        watch.transfers[0].progress(done)
    assert not moving.called and not waiting.called
    watch.transfers[0].callback(COPY)
    watch.transfers[1].callback(COPY)
    assert moving.called and waiting.called and watch.clock.getDelayedCalls() == []


def test_a_transfer_ends_when_a_look_is_not_answered(watch):
    """So that the next cold worker, which knows the same, is asked while the reader waits."""
    looking = Deferred.fromCoroutine(watch.look())
    watch.clock.advance(ANSWER - INTERVAL / 2)
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    assert not watch.away
    watch.clock.advance(INTERVAL / 2)
    assert looking.called and "no answer came" in watch.away
    watch.clock.advance(INTERVAL / 2)
    assert "no answer came" in str(failure_of(fetching))
    assert watch.clock.getDelayedCalls() == []


def test_a_transfer_that_moves_goes_on_while_looks_fail(watch):
    """It shows more than they do."""
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    watch.note("a look failed")
    for done in range(20):
        watch.transfers[0].progress(done)
        watch.clock.advance(INTERVAL / 2)
    assert not fetching.called
    watch.transfers[0].callback(COPY)
    assert fetching.called and not watch.away


def test_a_reader_that_goes_away_says_nothing_about_the_storage(watch):
    """Its transfer is cancelled, and nothing is remembered."""
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    watch.clock.advance(SILENT / 2)
    fetching.cancel()
    assert isinstance(failure_of(fetching), CancelledError) and not watch.away
