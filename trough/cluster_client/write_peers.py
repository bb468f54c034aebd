"""Passes a write on to the worker that holds the segment's lock, over the line protocol."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.interfaces import IReactorTime

from trough import errors
from trough.cluster_client.connection_pool import ConnectionPool
from trough.model import segment_word
from trough.protocols.line.arguments import WriteArguments
from trough.protocols.line.messages import format_options, format_text

#: Seconds beyond the write's own limit for which the other worker's answer is awaited.
PATIENCE = 10.0


class WritePeers:
    """See the module's text."""

    def __init__(self, connections: ConnectionPool, clock: IReactorTime) -> None:
        self._connections = connections
        self._clock = clock

    async def pass_on(self, address: str, write: WriteArguments, seconds: float) -> int:
        """Send a write to the line port at `address`, once.

        :param seconds: that the write may take on the other worker
        :return: how many rows changed
        :raises trough.errors.NoWriteLock: the other worker cannot be connected to
        :raises trough.errors.OutcomeUnknown: it was sent, and no answer came
        :raises trough.errors.TroughError: the other worker refuses it
        """
        try:
            connection = await self._connections.to(address)
        except errors.TroughError as failure:
            raise errors.NoWriteLock(
                f"{address} holds the write lock of segment {write.segment}, and cannot be "
                f"connected to: {failure.message}",
                "provision the segment again",
            ) from failure
        words = [
            segment_word(write.segment).encode(),
            *format_options(seconds, None, write.parameters),
            b"passed=yes",
            format_text(write.sql.encode()),
        ]
        asked = connection.request("WRITE", words, f"a write to segment {write.segment}")
        try:
            answer = await asked.addTimeout(seconds + PATIENCE, self._clock)
        except (CancelledError, TimeoutError) as failure:
            raise errors.OutcomeUnknown(
                f"the write was passed on to {address}, and no answer came",
                "it may be on disk or not: look before writing again",
            ) from failure
        return int(str(answer.fields.get("changes", 0)))
