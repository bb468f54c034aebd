"""Recognises the usual form of a request in one step. Pure.

Twisted's parser splits a request line by line, which costs as much as all that Trough does for a
point read. Most requests are alike: a POST to ``/?...`` over HTTP/1.1 with a few headers and a
length, whole in one read of the socket. This module recognises only such a request. Twisted's
parser takes all others: those with a body that is still to come, with a header that changes how
the connection goes on, or with anything malformed. Both give the same answer, byte for byte;
``tests/unit/protocols/test_short_path.py`` compares the two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Bytes of a request line and headers, far below the limits of Twisted's parser.
_MOST_HEAD = 8192

#: A target of printable ASCII; header names that need no further look; no line that goes on.
_HEAD = re.compile(
    rb"POST (/\?[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z][A-Za-z0-9-]*:[^\r\n\x00]*\r\n){1,40})\r\n"
)

#: Headers that change how a body is read or how the connection goes on.
_SPECIAL = frozenset({b"transfer-encoding", b"expect", b"cookie", b"upgrade"})


class WholeRequest(NamedTuple):
    """A recognised request; header names are as they were sent."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


def whole_request(data: bytes, max_body: int) -> WholeRequest | None:
    """The one request that `data` is, neither more nor less; None: leave it to the parser.

    :param max_body: bytes; a greater body is left to the parser
    """
    head = _HEAD.match(data)
    if head is None or head.end() > _MOST_HEAD:
        return None
    headers: list[tuple[bytes, bytes]] = []
    length = -1
    for line in head[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        lower = name.lower()
        if lower == b"content-length":
            if length >= 0 or not value.isdigit() or len(value) > 9:
                return None
            length = int(value)
        elif lower in _SPECIAL or (lower == b"connection" and value.lower() != b"keep-alive"):
            return None
        headers.append((name, value))
    body = data[head.end() :]
    # Without a body there is none to be taken in; so rare that the parser may have it.
    if length <= 0 or length != len(body) or length > max_body:
        return None
    return WholeRequest(head[1], headers, body)
