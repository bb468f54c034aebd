"""When canonical storage counts as silent."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from trough import errors
from trough.model import CanonicalCopy
from trough.worker.storage_watch import SILENT, StorageWatch

COPY = CanonicalCopy("s", "s.sqlite", 100, 1)


class Storage:
    """What a transfer is to a worker: a Deferred and its progress."""

    def __init__(self):
        self.transfers = []

    def location(self, path):
        return f"/canonical/{path}"

    def fetch(self, copy, destination, progress):
        transfer = Deferred()
        transfer.progress = progress
        self.transfers.append(transfer)
        return transfer


@pytest.fixture
def watch():
    clock, storage = Clock(), Storage()
    watch = StorageWatch(storage, lambda: COPY, clock)
    watch.clock, watch.transfers = clock, storage.transfers
    return watch


def failure_of(deferred):
    """What a Deferred failed with; None while it has not."""
    found = []
    deferred.addErrback(found.append)
    return found[0].value if found else None


def test_a_transfer_of_which_no_byte_comes_is_given_up(watch):
    """And those that come next are refused at once."""
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    watch.clock.advance(SILENT)
    failure = failure_of(fetching)
    assert isinstance(failure, errors.Unavailable) and "no byte came" in str(failure)
    with pytest.raises(errors.Unavailable, match="canonical storage is away"):
        watch.check("another")
    watch.note("")
    watch.check("another")


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


def test_a_reader_that_goes_away_says_nothing_about_the_storage(watch):
    """Its transfer is cancelled, and nothing is remembered."""
    fetching = Deferred.fromCoroutine(watch.fetch(COPY, "x"))
    watch.clock.advance(SILENT / 2)
    fetching.cancel()
    assert isinstance(failure_of(fetching), CancelledError) and not watch.away
