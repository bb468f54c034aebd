"""What a worker decides by itself."""

import pytest

from trough.worker import Timing


@pytest.mark.parametrize(
    ("lock_idle", "unwritten", "draining", "idle"),
    [
        (10.0, 9.9, False, False),
        (10.0, 10.0, False, True),
        (0.0, 1e9, False, False),
        (0.0, 0.0, True, True),
        (10.0, 0.0, True, True),
    ],
)
def test_when_a_write_lock_is_given_up(lock_idle, unwritten, draining, idle):
    """After the time that the settings say, never for 0, at once on a worker being drained."""
    assert Timing(lock_idle=lock_idle).is_idle(unwritten, draining) is idle
