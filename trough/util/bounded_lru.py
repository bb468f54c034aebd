"""A mapping that removes what was used least recently.

``functools.lru_cache`` keeps what a function returns. Here the caller decides what is kept, and
removes what is no longer true. It lies on the way of each request, so it is a dozen lines around
an ``OrderedDict`` and no library.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedLru(Generic[K, V]):
    """See the module.

    :param most: the greatest number of entries, or the greatest sum of their weights
    :param weight: of a value; without it each entry weighs 1
    """

    __slots__ = ("_entries", "_most", "_weight", "size")

    def __init__(self, most: int, weight: Callable[[V], int] | None = None) -> None:
        self._most = most
        self._weight = weight
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.size = 0

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; None: there is none."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, and remove old ones until all fit; one that never fits is not kept."""
        self.pop(key)
        weight = self._weigh(value)
        if weight > self._most:
            return
        self._entries[key] = value
        self.size += weight
        while self.size > self._most:
            self.size -= self._weigh(self._entries.popitem(last=False)[1])

    def pop(self, key: K) -> V | None:
        """Remove an entry, and return its value; None: there is none."""
        found = self._entries.pop(key, None)
        if found is not None:
            self.size -= self._weigh(found)
        return found

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self.size = 0

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _weigh(self, value: V) -> int:
        return 1 if self._weight is None else self._weight(value)
