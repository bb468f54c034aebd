"""Look-ups in a registry that block. A router has its driver call them."""

from __future__ import annotations

import time

from trough import errors
from trough.metadata.blocking import BlockingMetadata

#: Seconds to wait for a new leader after the last one was lost.
LEADER_SECONDS = 15.0
#: Seconds between two looks while waiting.
_PAUSE = 0.5


def leader_address(metadata: BlockingMetadata) -> str:
    """The address of the leader's line protocol.

    :raises trough.errors.Unavailable: no sync server leads, and none did for
        :data:`LEADER_SECONDS`; or the store does not answer
    """
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        leader = metadata.leader()
        if leader is not None and leader.line:
            return leader.line
        if time.monotonic() > deadline:
            raise errors.Unavailable("no sync server leads now", "ask again in some seconds")
        time.sleep(_PAUSE)
