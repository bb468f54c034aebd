"""What a worker knows of the others, and asks them."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from trough.model import Worker
from trough.worker.cluster_view import ClusterView


def worker(node: str) -> Worker:
    """A row of a worker."""
    return Worker(node)


@pytest.fixture
def sut() -> ClusterView:
    """The view of w1, which knows w2."""
    view = ClusterView(worker("w1"))
    view.set_workers([worker("w1"), worker("w2")])
    return view


async def answer(deferred: Deferred[str]) -> str:
    """What another worker answers."""
    return await deferred


def test_a_question_ends_with_the_worker_that_was_asked(sut: ClusterView) -> None:
    """It is cancelled, and those to other workers are not."""
    dead, alive = Deferred(), Deferred()
    ended: list[object] = []
    sut.while_alive("w2", answer(dead)).addBoth(ended.append)
    other = sut.while_alive("w1", answer(alive))
    sut.set_workers([worker("w1")])
    assert [each.check(CancelledError) for each in ended] == [CancelledError]
    assert not other.called
    alive.callback("yes")
    assert other.result == "yes"


def test_an_answer_arrives_once(sut: ClusterView) -> None:
    """A worker that dies later has nothing to do with it."""
    deferred = Deferred()
    told = sut.while_alive("w2", answer(deferred))
    deferred.callback("yes")
    sut.set_workers([worker("w1")])
    assert told.result == "yes"


def test_a_question_that_is_taken_back_is_forgotten(sut: ClusterView) -> None:
    """By the client that goes away."""
    asking = sut.while_alive("w2", answer(Deferred()))
    asking.addErrback(lambda failure: failure.trap(CancelledError))
    asking.cancel()
    assert sut._asked == {}
