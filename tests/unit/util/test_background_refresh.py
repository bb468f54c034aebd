"""How long news are waited for that can be done without."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from trough import errors
from trough.util.background_refresh import BackgroundRefresh


class Store:
    """Is asked, and answers when a test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.patience = BackgroundRefresh(2.0, self.clock)
        self.asked: list[Deferred[None]] = []

    async def _ask(self) -> None:
        self.asked.append(Deferred())
        await self.asked[-1]

    def give(self, **options) -> Deferred[None]:
        return Deferred.fromCoroutine(self.patience.give(self._ask, **options))


def result_of(deferred: Deferred) -> object:
    """What has come of it; it has to be over."""
    results: list[object] = []
    deferred.addBoth(results.append)
    assert results, "it still waits"
    return results[0]


def test_an_answer_is_waited_for():
    """And whoever asks next waits as well."""
    store = Store()
    for _ in range(2):
        given = store.give()
        store.clock.advance(1.9)
        assert not given.called
        store.asked[-1].callback(None)
        assert result_of(given) is None
    assert store.patience.away_since is None


def test_nobody_waits_for_a_store_that_is_away():
    """One question goes on in the background; when it is answered, waiting begins again."""
    store = Store()
    store.clock.advance(100)
    given = store.give()
    store.clock.advance(2)
    assert result_of(given) is None
    assert (store.patience.away_since, store.patience.reason) == (100, "no answer within 2 s")
    for _ in range(3):
        assert result_of(store.give()) is None
    assert len(store.asked) == 1
    store.asked[0].callback(None)
    assert store.patience.away_since is None and store.patience.reason is None
    assert not store.give().called


def test_a_failure_in_the_background_is_followed_by_another_try():
    """It tells why, and the time of the first one stays; still nobody waits."""
    store = Store()
    store.give()
    store.clock.advance(2)
    store.asked[0].errback(errors.Unavailable("no quorum"))
    assert (store.patience.away_since, store.patience.reason) == (0, "no quorum")
    given = store.give()
    store.clock.advance(0)
    assert result_of(given) is None
    assert len(store.asked) == 2
    store.asked[1].callback(None)
    assert store.patience.away_since is None


def test_a_refusal_is_no_failure_of_whoever_asks():
    """A store that says at once that it is away is tried again by the next one."""
    store = Store()
    for _ in range(2):
        given = store.give()
        store.asked[-1].errback(errors.Unavailable("gone"))
        assert result_of(given) is None
    assert store.patience.reason == "gone"


def test_nobody_waits_for_what_is_known_to_be_away():
    """The first one does not either."""
    store = Store()
    given = store.give(known_away=True)
    store.clock.advance(0)
    assert result_of(given) is None


def test_a_mistake_is_told_and_a_cancel_passed_on():
    """Neither says anything about the store."""
    store = Store()
    given = store.give()
    store.asked[0].errback(ZeroDivisionError())
    failure = result_of(given)
    assert isinstance(failure, Failure) and failure.check(ZeroDivisionError)
    given = store.give()
    given.cancel()
    failure = result_of(given)
    assert isinstance(failure, Failure) and failure.check(CancelledError)
    assert store.asked[1].called
    assert store.patience.away_since is None


def test_a_mistake_in_the_background_is_logged():
    """Nobody else would ever hear of it."""
    store = Store()
    store.give()
    store.clock.advance(2)
    events: list = []
    globalLogPublisher.addObserver(events.append)
    try:
        store.asked[0].errback(ZeroDivisionError())
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert any(event.get("log_failure") for event in events)
