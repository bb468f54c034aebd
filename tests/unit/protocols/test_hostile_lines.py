"""Lines of a server that is broken, or none: errors of our own, whatever they say."""

from __future__ import annotations

from typing import Any

import pytest

from trough import errors
from trough.protocols.line.query_replies import deliver, parse_summary
from trough.protocols.line.values import decode_rows


class Listener:
    """Is told nothing, for each line below is refused."""

    def __getattr__(self, name: str) -> Any:
        return self._refuse

    def _refuse(self, *what: object) -> None:
        raise AssertionError(f"it was told {what}")


@pytest.mark.parametrize("rest", [b"segments=x failed=0 rows=1 ms=1", b"ms=" + b"9" * 5000])
def test_a_summary_that_cannot_be_read(rest: bytes) -> None:
    """Numbers that are none, or too long for one."""
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        parse_summary(rest)


@pytest.mark.parametrize(
    "rest", [b"segments=1 failed=0 rows=1 ms=\xff complete=yes", b"\xff=1"], ids=["value", "key"]
)
def test_a_summary_that_is_no_text(rest: bytes) -> None:
    """Bytes that are not UTF-8."""
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        parse_summary(rest)


@pytest.mark.parametrize("word", [b"DONE", b"COLS", b"ROWS"])
def test_lines_that_cannot_be_read(word: bytes) -> None:
    """No count and no names, and JSON that is nested too deeply."""
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        decoded = b"a " + (b"[" * 100_000 if word == b"ROWS" else b"5x")
        deliver(Listener(), word, decoded)


def test_an_object_that_is_no_blob() -> None:
    """Rows have no other objects."""
    with pytest.raises(errors.BadRequest, match="not the base64 of a blob"):
        decode_rows(b'[[{"x": 1}]]')
