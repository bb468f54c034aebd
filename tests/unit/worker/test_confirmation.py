"""For how long a worker trusts what it knows of the cluster."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.metadata.sqlite.watch import SqliteWatch
from trough.metadata.url import RethinkAddress
from trough.worker.confirmation import LONGEST_WAIT, Confirmation

INTERVAL = 5.0


class Worker:
    """What a worker tells its :class:`Confirmation`, on a clock of its own."""

    def __init__(self, path, metadata=None):
        self.clock = MemoryReactorClock()
        metadata = metadata or SqliteMetadata(path / "registry.db", self.clock)
        self.confirmation = Confirmation(metadata, INTERVAL, self.clock)
        self.locks, self.assignments = (SqliteWatch(None, print, 0.0) for _ in range(2))
        self.confirmation.watching([self.locks, self.assignments])

    def learn(self):
        """Both watches have told everything."""
        self.confirmation.locks_complete()
        for watch in (self.locks, self.assignments):
            watch.looked(self.clock.seconds(), failed=False)

    def beats(self, seconds):
        """Heartbeats are answered for so long."""
        for _ in range(int(seconds / INTERVAL)):
            self.clock.advance(INTERVAL)
            self.confirmation.heard(self.clock.seconds())

    @property
    def state(self):
        return self.confirmation.state


@pytest.fixture
def worker(tmp_path):
    return Worker(tmp_path)


def test_reads_wait_for_the_list_of_locks(worker):
    """All that wait go on when it comes, and nobody waits from then on."""
    waiting = [Deferred.fromCoroutine(worker.confirmation.wait()) for _ in range(2)]
    worker.clock.advance(LONGEST_WAIT / 2)
    assert not any(each.called for each in waiting)
    worker.learn()
    assert all(each.called for each in waiting)
    assert worker.state is None and not worker.confirmation.knowledge.may_wait


def test_reads_do_not_wait_for_ever(worker):
    """They are answered in the end, and say that they are not confirmed."""
    waiting = Deferred.fromCoroutine(worker.confirmation.wait())
    worker.clock.advance(LONGEST_WAIT - 1)
    worker.confirmation.loaded()
    worker.clock.advance(LONGEST_WAIT - 1)
    assert not waiting.called
    worker.clock.advance(1)
    assert waiting.called and worker.state == "unconfirmed"
    assert not worker.confirmation.knowledge.may_wait


def test_a_reader_that_is_gone_waits_no_more(worker):
    """A cancelled wait leaves nothing behind."""
    waiting = Deferred.fromCoroutine(worker.confirmation.wait())
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    worker.learn()
    assert worker.clock.getDelayedCalls() == []


def test_a_heartbeat_that_is_late_is_no_absence(worker):
    """A busy store takes its time; one whole heartbeat that is missing is told."""
    worker.learn()
    worker.beats(60)
    worker.clock.advance(INTERVAL + 0.9)
    assert worker.state is None
    worker.clock.advance(INTERVAL)
    assert worker.state == "unconfirmed"
    worker.confirmation.heard(worker.clock.seconds())
    assert worker.state is None


def test_a_process_that_stood_still_does_not_trust_what_it_knew(worker):
    """However the store is: nothing was heard meanwhile."""
    worker.learn()
    worker.beats(60)
    worker.clock.advance(3600)
    assert worker.state == "unconfirmed"


def test_a_store_that_is_known_to_be_away(tmp_path):
    """After one heartbeat interval of that, whatever is heard."""
    worker = Worker(
        tmp_path, RethinkMetadata(RethinkAddress((("db", 1),), "d"), MemoryReactorClock())
    )
    worker.learn()
    worker.clock.advance(INTERVAL - 0.1)
    assert worker.state is None
    worker.clock.advance(0.1)
    worker.confirmation.heard(worker.clock.seconds())
    assert worker.state == "unconfirmed"


@pytest.mark.parametrize("which", ["locks", "assignments"])
def test_a_watch_that_ended(worker, which):
    """Heartbeats alone do not confirm what only a watch tells."""
    worker.learn()
    worker.beats(60)
    watch = getattr(worker, which)
    for _ in range(3):
        watch.looked(worker.clock.seconds(), failed=True)
        assert worker.state is None
        worker.beats(INTERVAL)
        assert worker.state == "unconfirmed"
        watch.looked(worker.clock.seconds(), failed=False)
        assert worker.state is None
