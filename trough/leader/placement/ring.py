"""Consistent hash rings: which worker a segment falls to, and who comes next.

A ring is cut into :data:`SLOTS` equal slots, and a segment falls into the same slot on
every ring. Each member draws a number for each slot, scaled by its weight, and the best
draw owns the slot (weighted rendezvous hashing). Classic rings place points for virtual
nodes instead; their number has to be normalised, so that a new worker of another size
changes the number of everybody's points. Here a member's draws depend on nothing but
its name and weight: who joins takes exactly its share, who leaves gives away exactly its
own, and shares are proportional to weights of any scale.

Values in, values out: no clock, no state, the same on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
from array import array
from collections.abc import Iterable, Mapping
from zlib import crc32

#: With 25 members a share of 65,536 slots is even to 2 %, and two bytes hold a slot.
SLOTS = 1 << 16


def slot_of(segment: str) -> int:
    """The slot that a segment falls into, on every ring."""
    return crc32(segment.encode()) & (SLOTS - 1)


@functools.cache
def _exponential() -> list[float]:
    """For each draw of 16 bits the exponentially distributed number that it stands for."""
    return [math.log(2**16 / (bits + 0.5)) for bits in range(2**16)]


# A name's draws cost milliseconds and 256 KiB; rings are rebuilt when anything changes.
@functools.lru_cache(maxsize=512)
def _draws(name: str) -> array[float]:
    """For each slot an exponentially distributed number that `name` alone decides."""
    bits = array("H", hashlib.shake_128(name.encode()).digest(2 * SLOTS))
    if sys.byteorder == "big":
        bits.byteswap()
    return array("f", map(_exponential().__getitem__, bits))


class Ring:
    """One consistent hash ring; a value.

    :param weights: for each member a positive number; its share of the slots is its
        weight's share of the sum
    :ivar weights: the same
    :ivar members: names, sorted
    :ivar owners: for each slot the member that owns it; empty for an empty ring
    """

    __slots__ = ("members", "owners", "weights")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self.members = tuple(sorted(weights))
        self.owners: list[str] = []
        if self.members:
            self.owners = self._auction()

    def _auction(self) -> list[str]:
        members = self.members
        scaled = (map((1 / self.weights[name]).__mul__, _draws(name)) for name in members)
        return [members[bids.index(min(bids))] for bids in zip(*scaled, strict=True)]

    def walk(self, slot: int) -> list[str]:
        """All members, the owner of `slot` first, each followed by the one that would own it
        without those before."""
        return sorted(
            self.members, key=lambda name: (1 / self.weights[name] * _draws(name)[slot], name)
        )


def join_rings(
    known: Mapping[str, int], capacities: Mapping[str, float], count: int
) -> dict[str, int]:
    """Put workers on rings. A worker that is on one stays there.

    A new worker goes to the ring with the least capacity, the largest worker first. A ring that
    never had a member (`count` was raised) gets workers of the fullest rings until it has its part.
    A ring whose members are all dead stays theirs.

    :param known: which worker is on which ring, dead ones included
    :param capacities: of the live workers
    :param count: the number of rings; workers on a higher one get another
    :return: `known` with the changes
    """
    joined = {name: ring for name, ring in known.items() if 0 <= ring < count}
    filled = [0.0] * count
    for name, capacity in capacities.items():
        if name in joined:
            filled[joined[name]] += capacity
    empty = sorted(set(range(count)) - set(joined.values()))
    new = [name for name in capacities if name not in joined]
    for name in _largest_first(new, capacities):
        ring = min(range(count), key=lambda each: (filled[each], each))
        joined[name] = ring
        filled[ring] += capacities[name]
    for ring in empty:
        _share_out(ring, joined, filled, capacities)
    return joined


def _share_out(
    ring: int, joined: dict[str, int], filled: list[float], capacities: Mapping[str, float]
) -> None:
    """Give `ring` members of fuller rings, for as long as that evens things out."""
    part = sum(filled) / len(filled)
    for name in _largest_first((name for name in capacities if name in joined), capacities):
        donor, capacity = joined[name], capacities[name]
        if donor != ring and filled[donor] - capacity >= filled[ring] + capacity / 2 <= part:
            joined[name] = ring
            filled[donor] -= capacity
            filled[ring] += capacity


def _largest_first(names: Iterable[str], capacities: Mapping[str, float]) -> list[str]:
    return sorted(names, key=lambda name: (-capacities[name], name))
