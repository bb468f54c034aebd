"""Each fuzz target for a second or two; ``make fuzz`` gives them an hour."""

from __future__ import annotations

import random

from fuzz_targets import TARGETS, mutations
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Bytes without any form break nothing."""
    for target, _ in TARGETS.values():
        target(data)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_bytes_that_are_nearly_right(number: int) -> None:
    """Neither do good inputs that are changed somewhere."""
    for target, seeds in TARGETS.values():
        inputs = mutations(seeds, random.Random(number))
        for _ in range(3):
            target(next(inputs))


def test_each_seed_is_taken() -> None:
    """The inputs to begin with are good ones."""
    for target, seeds in TARGETS.values():
        for seed in seeds:
            target(seed)
