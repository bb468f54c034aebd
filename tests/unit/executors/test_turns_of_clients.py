"""The line in which clients are served alike."""

from dataclasses import dataclass

import pytest

from trough.executors.child.turns import FairQueue


@dataclass(frozen=True)
class Item:
    """Something in line."""

    client: str
    number: int


def line(*items):
    """A queue of items such as ``a1``."""
    queue = FairQueue()
    for item in items:
        queue.append(Item(item[0], int(item[1:])))
    return queue


def rest(queue):
    """Everything in line, in turn."""
    found = []
    while queue:
        item = queue.popleft()
        found.append(f"{item.client}{item.number}")
    return found


@pytest.mark.parametrize(
    ("items", "turns"),
    [
        ([], []),
        (["a1", "a2", "a3"], ["a1", "a2", "a3"]),
        (["a1", "a2", "a3", "b1", "c1", "b2"], ["a1", "b1", "c1", "a2", "b2", "a3"]),
    ],
)
def test_clients_take_turns(items, turns):
    """And each keeps the order of its own."""
    assert rest(line(*items)) == turns


def test_what_is_put_back_is_next():
    """Before all else of its client, and in its order."""
    queue = line("a1", "a2", "b1")
    taken = [queue.popleft(), queue.popleft()]
    for item in reversed(taken):
        queue.appendleft(item)
    assert sorted(rest(queue)[:2]) == ["a1", "b1"]


def test_taking_out():
    """Whether it was there; a client with nothing left is forgotten."""
    queue = line("a1", "b1")
    assert queue.remove(Item("a", 1))
    assert not queue.remove(Item("a", 1))
    assert rest(queue) == ["b1"]
    assert not queue
