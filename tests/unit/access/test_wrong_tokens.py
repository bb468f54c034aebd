"""Wrong tokens are slowed down."""

from __future__ import annotations

from twisted.internet.task import Clock

from trough.access.wrong_tokens import (
    ADDRESSES,
    FIRST,
    FORGIVEN,
    FREE,
    LONGEST,
    WAITING,
    WAITING_EACH,
    WrongTokens,
)


def test_each_further_one_waits_longer() -> None:
    """Some are answered at once, then ever later; another address begins again."""
    wrong = WrongTokens(Clock().seconds)
    assert [wrong.delay("10.0.0.1:1") for _ in range(FREE)] == [0.0] * FREE
    delays = []
    for port in range(10):
        delays.append(wrong.delay(f"10.0.0.1:{port}"))
        wrong.answered("10.0.0.1:1")
    assert delays[0] == FIRST
    assert delays == sorted(delays, key=float)
    assert delays[-1] == LONGEST
    assert wrong.delay("10.0.0.2:1") == 0.0


def test_they_are_forgiven() -> None:
    """One every half minute never waits."""
    clock = Clock()
    wrong = WrongTokens(clock.seconds)
    for _ in range(3 * FREE):
        assert wrong.delay("10.0.0.1:1") == 0.0
        clock.advance(FORGIVEN)


def test_few_wait_at_once() -> None:
    """Too many at once are to be cut off: of one address, and altogether."""
    wrong = WrongTokens(Clock().seconds)
    delays = [wrong.delay("10.0.0.1:1") for _ in range(FREE + WAITING_EACH + 1)]
    assert delays[-1] is None and None not in delays[:-1]
    wrong.answered("10.0.0.1:1")
    assert wrong.delay("10.0.0.1:1") == LONGEST
    for number in range(WAITING):
        [wrong.delay(f"10.1.{number // 256}.{number % 256}:1") for _ in range(FREE + 1)]
    assert [wrong.delay("10.0.0.9:1") for _ in range(FREE + 1)][-1] is None


def test_memory_is_bounded() -> None:
    """Addresses of long ago are forgotten; those of one IPv6 network count as one."""
    wrong = WrongTokens(Clock().seconds)
    for number in range(2 * ADDRESSES):
        wrong.delay(f"h{number}:1")
    assert len(wrong._tries) == ADDRESSES
    six = [wrong.delay(f"2001:db8::{number:x}:4000") for number in range(FREE + 1)]
    assert six[-1] == FIRST
