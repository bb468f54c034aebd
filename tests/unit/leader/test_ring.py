"""Rings: shares follow weights, and only what has to move moves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trough.leader.placement.ring import SLOTS, Ring, join_rings, slot_of


def names(count: int) -> list[str]:
    return [f"w{number:02}" for number in range(count)]


@pytest.mark.parametrize("scale", [1.0, 5e13])
def test_shares_follow_weights(scale: float) -> None:
    """A member's share of the slots is its weight's share, on whatever scale."""
    weights = {name: scale * (1 + number % 3) for number, name in enumerate(names(12))}
    owned = Counter(Ring(weights).owners)
    for name, weight in weights.items():
        assert owned[name] == pytest.approx(SLOTS * weight / sum(weights.values()), rel=0.1)


def test_who_joins_takes_its_share_and_nothing_else_moves() -> None:
    """Slots that change hands by a new member all go to it, and are its share."""
    before = Ring(dict.fromkeys(names(10), 4.0))
    after = Ring(dict.fromkeys(names(10), 4.0) | {"new": 8.0})
    moved = [now for was, now in zip(before.owners, after.owners, strict=True) if was != now]
    assert set(moved) == {"new"}
    assert len(moved) == pytest.approx(SLOTS * 8 / 48, rel=0.1)


def test_who_leaves_gives_its_slots_to_the_next() -> None:
    """Slots of a member that left go to the second of the walk, and no other changes."""
    before = Ring(dict.fromkeys(names(10), 1.0))
    after = Ring(dict.fromkeys(names(10)[1:], 1.0))
    for slot in range(0, SLOTS, 7):
        expected = before.walk(slot)[1 if before.owners[slot] == "w00" else 0]
        assert after.owners[slot] == expected
    heirs = Counter(
        now for was, now in zip(before.owners, after.owners, strict=True) if was == "w00"
    )
    assert len(heirs) == 9


def test_a_walk_begins_with_the_owner_and_meets_everyone() -> None:
    """A walk is all members, in the order in which they would inherit the slot."""
    ring = Ring({name: 1.0 + number for number, name in enumerate(names(7))})
    for slot in range(0, SLOTS, 997):
        walk = ring.walk(slot)
        assert walk[0] == ring.owners[slot]
        assert sorted(walk) == names(7)


def test_a_ring_is_the_same_on_every_machine() -> None:
    """Owners depend on names and weights alone; these were written down once."""
    ring = Ring({"w01": 1.0, "w02": 2.0, "w03": 4.0})
    assert [ring.owners[slot] for slot in (0, 1, 2, 3, 4, 65535)] == [
        "w02",
        "w03",
        "w02",
        "w03",
        "w03",
        "w02",
    ]
    assert [slot_of(segment) for segment in ("300001", "ait-seed-1", "")] == [18398, 20155, 0]


def test_an_empty_ring_has_no_owners() -> None:
    """A ring without members is a ring, and its walks are empty."""
    assert (Ring({}).members, Ring({}).owners, Ring({}).walk(5)) == ((), [], [])


@pytest.mark.parametrize("pattern", ["{}", "ait-seed-{}", "{:09}", "job.{}.x"])
def test_consecutive_names_fall_evenly(pattern: str) -> None:
    """Consecutive job numbers, written in whatever way, load all slots alike."""
    fallen = Counter(slot_of(pattern.format(300_000 + number)) // 1024 for number in range(64_000))
    assert len(fallen) == 64
    assert max(fallen.values()) < 1150 and min(fallen.values()) > 850


# -- who is on which ring -------------------------------------------------------


def test_workers_join_the_ring_with_the_least_capacity() -> None:
    """New workers even out the rings, the largest first; known ones stay."""
    assert join_rings({}, {"a": 1, "b": 1, "c": 4, "d": 2}, 2) == {"c": 0, "d": 1, "a": 1, "b": 1}
    assert join_rings({"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}


def test_dead_workers_keep_their_ring_but_do_not_fill_it() -> None:
    """A dead worker is remembered, and its replacement takes its place."""
    known = {"a": 0, "b": 1, "c": 0, "d": 1}
    assert join_rings(known, {"a": 1, "b": 1, "d": 1, "e": 1}, 2) == known | {"e": 0}


def test_a_ring_whose_workers_are_dead_is_left_to_them() -> None:
    """Nobody changes rings because another ring's workers are away."""
    known = {"a": 0, "b": 1, "c": 1, "d": 1}
    assert join_rings(known, {"b": 1, "c": 1, "d": 1}, 2) == known


def test_a_ring_more_takes_its_part_of_the_others() -> None:
    """A further ring, which never had a member, gets its part at once."""
    known = {name: number % 2 for number, name in enumerate(names(12))}
    joined = join_rings(known, dict.fromkeys(names(12), 5), 3)
    assert Counter(joined.values()) == {0: 4, 1: 4, 2: 4}
    assert sum(joined[name] != known[name] for name in known) == 4


def test_a_ring_less_has_its_workers_join_the_others() -> None:
    """With fewer rings, the workers of those that are gone are put again."""
    known = {name: number % 3 for number, name in enumerate(names(9))}
    joined = join_rings(known, dict.fromkeys(names(9), 5), 2)
    assert sorted(Counter(joined.values()).values()) == [4, 5]
    assert all(joined[name] == ring for name, ring in known.items() if ring < 2)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(names(20)), st.integers(0, 5)),
    st.dictionaries(st.sampled_from(names(20)), st.integers(1, 10)),
    st.integers(1, 5),
)
def test_joining_is_settled_at_once(
    known: dict[str, int], capacities: dict[str, float], count: int
) -> None:
    """Every live worker gets a ring that exists, and asking again changes nothing."""
    joined = join_rings(known, capacities, count)
    assert set(capacities) <= set(joined)
    assert all(0 <= ring < count for ring in joined.values())
    assert join_rings(joined, capacities, count) == joined
