"""Texts that stand for grants: for how long, how many, and nothing without a token."""

from __future__ import annotations

from trough.access.rights import READ, Grant
from trough.access.timed_grants import TimedGrants


def test_a_text_is_good_for_its_time() -> None:
    """And no longer; nobody else's text is one."""
    now = [100.0]
    grants = TimedGrants(60, 10, lambda: now[0])
    grant = Grant("g", READ)
    text = grants.add(grant)
    assert len(text) == 64 and text != grants.add(grant)
    assert grants.get(text) is grant
    assert grants.get("") is None and grants.get("nothing") is None
    now[0] += 59
    assert grants.get(text) is grant
    now[0] += 1
    assert grants.get(text) is None


def test_a_text_ends_with_the_token() -> None:
    """Or when it is taken back, twice without harm."""
    grants = TimedGrants(60, 10, lambda: 0.0)
    grant = Grant("g", READ)
    first, second = grants.add(grant), grants.add(grant)
    grants.remove(first)
    grants.remove(first)
    assert grants.get(first) is None and grants.get(second) is grant
    grant.rights = 0
    assert grants.get(second) is None


def test_the_oldest_are_forgotten() -> None:
    """Memory is bounded, whatever is asked for."""
    grants = TimedGrants(60, 3, lambda: 0.0)
    texts = [grants.add(Grant(str(number), READ)) for number in range(5)]
    assert [grants.get(text) is not None for text in texts] == [False, False, True, True, True]
