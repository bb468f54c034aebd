"""A line of the line protocol that is too large to be sent at once.

One row may have 100 MB. If its line went to the parent whole, every reader that takes its time
would keep all of it there. So it stays here, and goes in pieces, no faster than its reader reads.
Lines of other answers must not stand between the pieces. So a line waits until the parent gives it
the connection (``SendLarge``). Nothing stops it once its first piece is gone: half a line cannot be
taken back.
"""

from __future__ import annotations

from trough.executors.messages import LargeData
from trough.sql.queries import PIECE

#: Bytes from which a piece of an answer goes like that.
LARGE = 16 * PIECE


class LargeLine:
    """Some whole lines of one segment's answer, one of which is large.

    :ivar place: of the segment, as in :class:`trough.executors.messages.PartPieces`
    :ivar count: what to report when all is sent
    """

    def __init__(self, lines: bytes, place: int, count: int) -> None:
        self._rest = memoryview(lines)
        self.place = place
        self.count = count

    def next_message(self, number: int) -> tuple[LargeData, int]:
        """The message with the next piece, and its size.

        :param number: of the part that it belongs to
        """
        piece, self._rest = bytes(self._rest[:PIECE]), self._rest[PIECE:]
        return LargeData(number, self.place, piece, self.is_sent), len(piece)

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left."""
        return not self._rest
