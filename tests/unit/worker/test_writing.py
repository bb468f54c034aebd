"""One write, through every combination of what may happen to it on its way."""

import itertools
from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import Deferred

from trough import errors
from trough.executors.pool.jobs import Outcome, ReadLimits, Target
from trough.util.job import SilentJob
from trough.worker.catalogue import Entry
from trough.worker.local_copies import LocalCopy
from trough.worker.writing import ENDED, NEXT, Write, WriteRequest, WriteState, WriteSteps

LIMITS = ReadLimits(10.0)
COMMITTED = Outcome(segments=1, changes=1)
WORDS = errors.Unavailable("the metadata store is away")


class _Submitted(SilentJob):
    """A write as an executor has it."""

    def cancel(self):
        """Nothing here gives a write up."""


def make_copy(epoch=1, unpromoted=True):
    """A writable local copy, which no file belongs to."""
    entry = Entry("s", "path", epoch=epoch, unpromoted=unpromoted)
    copy = LocalCopy(entry, Target("s", "/nowhere", 1, True), 0.0)
    copy.marked = 1.0 if unpromoted else 0.0
    return copy


class Client:
    """Takes the answer."""

    def __init__(self):
        self.outcomes = []

    def data(self, chunk):
        raise AssertionError("a write has no data")

    def finished(self, outcome):
        self.outcomes.append(outcome)


@dataclass
class Surroundings:
    """The worker around one write; each step waits until the test decides it."""

    copy: LocalCopy | None = field(default_factory=make_copy)
    stalled: bool = False
    confirmations: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    submitted: list = field(default_factory=list)
    refusal: errors.TroughError | None = None
    reported: list = field(default_factory=list)
    client: Client = field(default_factory=Client)

    def write(self):
        steps = WriteSteps(
            node="w1",
            stalled=lambda: self.stalled,
            confirm=lambda: self._waiting(self.confirmations),
            copy_of=lambda segment: self.copy,
            note=lambda copy: self._waiting(self.notes),
            submit=self._submit,
            report=self.reported.append,
            now=lambda: 5.0,
        )
        return Write(steps, WriteRequest("s", "INSERT", None, LIMITS), self.client)

    @staticmethod
    def _waiting(waiting):
        waiting.append(Deferred())
        return waiting[-1]

    def _submit(self, target, sql, parameters, limits, receiver):
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(receiver)
        return _Submitted()

    def confirm(self, error=None):
        """The metadata store answers."""
        self.stalled = error is not None
        self._end(self.confirmations.pop(), error)

    def note(self, error=None):
        """The catalogue is written, or not."""
        if error is None:
            self.copy.entry.unpromoted, self.copy.marked = True, 1.0
        self._end(self.notes.pop(), error)

    @staticmethod
    def _end(waiting, error):
        if error is None:
            waiting.callback(None)
        else:
            waiting.errback(error)


BEFORE = ("running", "stalled", "stalled, store away", "stalled, lock lost")
NOTED = ("noted", "to be noted", "catalogue fails")
OUTCOMES = (
    None,
    errors.BadRequest("no such table"),
    errors.DiskFull("no room"),
    errors.OutcomeUnknown("killed"),
    errors.DeadlineExceeded("too long"),
)
AFTER = (
    "running",
    "lock being given up",
    "stalled",
    "stalled, store away",
    "stalled, other epoch",
    "stalled, lock being given up",
    "stalled, no copy",
)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("noted", NOTED)
def test_every_way_of_a_write(before, noted):
    """Whatever happens: one answer, and success only under a lock that is in force."""
    for outcome, after in itertools.product(OUTCOMES, AFTER):
        around = Surroundings(copy=make_copy(unpromoted=noted == "noted"))
        around.stalled = before != "running"
        first = around.copy
        write = around.write()
        write.begin()
        if before == "stalled, lock lost":
            around.copy = None
        if before != "running":
            around.confirm(WORDS if before == "stalled, store away" else None)
        if around.notes:
            around.note(WORDS if noted == "catalogue fails" else None)
        for executor in around.submitted:
            around.stalled = after.startswith("stalled")
            if after.endswith("given up"):
                first.writes.closed = True
            executor.finished(
                COMMITTED if outcome is None else Outcome(segments=1, failed=1, error=outcome)
            )
            if after == "stalled, other epoch":
                around.copy = make_copy(epoch=2)
            elif after == "stalled, no copy":
                around.copy = None
            if around.confirmations:
                around.confirm(WORDS if after == "stalled, store away" else None)
        assert write.state in ENDED
        (answer,) = around.client.outcomes
        assert first.writes.idle
        in_force = after in ("running", "stalled")
        reached = before in ("running", "stalled") and noted != "catalogue fails"
        assert bool(around.submitted) == reached
        success = reached and outcome is None and in_force
        assert (write.state is WriteState.ACKNOWLEDGED) == success == (answer.error is None)
        doubtful = reached and (
            isinstance(outcome, errors.OutcomeUnknown) or (outcome is None and not in_force)
        )
        assert (write.state is WriteState.UNKNOWN) == doubtful
        assert doubtful == isinstance(answer.error, errors.OutcomeUnknown)
        assert len(around.reported) == (answer.error is not None)


def test_nothing_is_submitted_before_the_catalogue_knows():
    """Two writes wait for one note."""
    around = Surroundings(copy=make_copy(unpromoted=False))
    write = around.write()
    write.begin()
    assert write.state is WriteState.FENCED and not around.submitted
    around.note()
    assert write.state is WriteState.SUBMITTED and around.submitted == [write]


@pytest.mark.parametrize("copy", [None, make_copy(epoch=0)], ids=["no copy", "no lock"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_worker_without_the_lock_refuses_at_once(copy, closed):
    """The caller has the error, and nobody is called later."""
    around = Surroundings(copy=copy)
    if closed:
        around.copy = make_copy()
        around.copy.writes.closed = True
    with pytest.raises(errors.NoWriteLock):
        around.write().begin()
    assert not around.client.outcomes


def test_what_submission_refuses_counts_as_no_write():
    """The executors never had it, and never report its end."""
    around = Surroundings(refusal=errors.BadRequest("a parameter"))
    with pytest.raises(errors.BadRequest):
        around.write().begin()
    assert around.copy.writes.idle and not around.client.outcomes


@pytest.mark.parametrize("failure", [errors.BadRequest("a parameter"), ZeroDivisionError()])
def test_what_submission_refuses_after_a_wait_is_answered(failure):
    """There is no caller any more that could have the error."""
    around = Surroundings(copy=make_copy(unpromoted=False), refusal=failure)
    write = around.write()
    write.begin()
    around.note()
    assert write.state is WriteState.REFUSED and around.copy.writes.idle
    assert isinstance(around.client.outcomes[0].error, errors.TroughError)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_write_that_is_cancelled_while_it_waits_is_not_submitted(stalled):
    """Nobody wants it any more when its turn has come."""
    around = Surroundings(copy=make_copy(unpromoted=False), stalled=stalled)
    write = around.write()
    write.begin()
    write.cancel()
    if stalled:
        around.confirm()
    around.note()
    assert not around.submitted and around.copy.writes.idle
    assert isinstance(around.client.outcomes[0].error, errors.Cancelled)


def test_a_receiver_that_fails_holds_nothing_up():
    """The write has ended all the same, for whatever waits for that."""
    around = Surroundings()
    write = around.write()
    write.begin()
    around.client.finished = lambda outcome: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write.finished(COMMITTED)
    assert around.copy.writes.idle


def test_no_state_follows_an_end_and_success_follows_a_commit_alone():
    """The table of states keeps the two promises."""
    for state in ENDED:
        assert not NEXT[state]
    before = [state for state in WriteState if WriteState.ACKNOWLEDGED in NEXT[state]]
    assert before == [WriteState.COMMITTED, WriteState.REPLICATED]
    assert [s for s in WriteState if WriteState.REPLICATED in NEXT[s]] == [WriteState.COMMITTED]
