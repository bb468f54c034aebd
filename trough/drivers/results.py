"""Makes one result of an answer's lines: a QUERY of one segment, or a GATHER. No I/O."""

from __future__ import annotations

from trough import errors
from trough.model import segment_of_word
from trough.protocols.line.messages import parse_error, parse_fields
from trough.protocols.line.query_replies import decoded
from trough.protocols.line.values import decode_names


class PartialResult:
    """The part of a result that is known so far.

    :ivar names: of the columns; None: not known yet
    :ivar states: segments whose rows may not be their present state, with the mark
    :ivar missing: segments that are not in the answer
    :ivar fields: of the last line
    :ivar ended: whether the last line has come
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] | None = None
        self.states: dict[str, str] = {}
        self.missing: dict[str, errors.TroughError] = {}
        self.fields: dict[str, int | str] = {}
        self.ended = False
        self._failure: errors.TroughError | None = None

    def take(self, word: bytes, rest: bytes) -> bytes | None:
        """Take a line.

        :return: JSON of some rows, or None
        :raises trough.errors.TroughError: there is no whole answer; the last line has come
        """
        place, _, body = rest.partition(b" ")
        if word == b"ROWS":
            return body
        if word == b"COLS":
            self.names = decoded(decode_names, body)
        elif word == b"STATE":
            self.states[_segment(place)] = body.decode("utf-8", "replace")
        elif word == b"MISS":
            self.missing[_segment(place)] = parse_error(body)
        elif word == b"FAIL":
            self._failure = parse_error(body)
        elif word in (b"END", b"ERR", b"OK"):
            self.ended = True
            if word == b"ERR":
                raise parse_error(rest)
            if self._failure is not None:
                raise self._failure
            self.fields = parse_fields(rest.decode("utf-8", "replace"))
        return None


def _segment(word: bytes) -> str:
    return segment_of_word(word.decode("utf-8", "replace"))
