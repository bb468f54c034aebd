"""The order of work: a queue for each client, all served alike.

Each client has its own queue, and the queues take turns. So a client with ten thousand
requests delays another one by one turn and not by ten thousand.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Owned(Protocol):
    """What can be put in line.

    :ivar client: whose it is
    """

    client: str


T = TypeVar("T", bound=Owned)


class FairQueue(Generic[T]):
    """Items in the order of their turns.

    :ivar order: the clients with items in their queues, the next one first
    :ivar lines: the items of each of them, in their order

    A busy loop may take ``lines[order[0]].popleft()`` itself, which costs no call. It then calls
    :meth:`passed` if that queue is empty now or there is another one.
    """

    __slots__ = ("lines", "order")

    def __init__(self) -> None:
        # Only clients with something in line are in either.
        self.lines: dict[str, deque[T]] = {}
        self.order: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self.order)

    def others(self, client: str) -> bool:
        """Whether something of another client is in line."""
        order = self.order
        return len(order) > 1 or (len(order) == 1 and order[0] != client)

    def append(self, item: T) -> None:
        """Put an item at the end of its client's line."""
        line = self.lines.get(item.client)
        if line is None:
            self.lines[item.client] = deque((item,))
            self.order.append(item.client)
        else:
            line.append(item)

    def popleft(self) -> T:
        """Take out the next item.

        :raises IndexError: there is none
        """
        item = self.lines[self.order[0]].popleft()
        self.passed()
        return item

    def passed(self) -> None:
        """The first client had its turn: the next one is the first now."""
        client = self.order[0]
        if not self.lines[client]:
            del self.lines[client]
            self.order.popleft()
        elif len(self.order) > 1:
            self.order.rotate(-1)

    def appendleft(self, item: T) -> None:
        """Put an item back that stays the next one."""
        line = self.lines.get(item.client)
        if line is None:
            self.lines[item.client] = deque((item,))
            self.order.appendleft(item.client)
        else:
            line.appendleft(item)

    def remove(self, item: T) -> bool:
        """Take an item out; whether it was in line."""
        line = self.lines.get(item.client)
        if line is None or item not in line:
            return False
        line.remove(item)
        if not line:
            del self.lines[item.client]
            self.order.remove(item.client)
        return True
