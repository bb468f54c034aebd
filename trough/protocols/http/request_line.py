"""Takes request lines whose target is not escaped.

Existing clients put segment ids into URLs as they are, and ids are free text: ``crawl 2026``, or
letters beyond ASCII. RFC 9112 allows neither a blank nor other bytes than ASCII in a target; but
the method has no blank, and the version comes last, so the target is all that is in between.
"""

from __future__ import annotations

import re

_LINE = re.compile(rb"([^ ]+) (.+) (HTTP/1\.[0-9])")
_RAW = re.compile(rb"[ \x80-\xff]")


def escaped(line: bytes) -> bytes:
    """A request line with blanks and bytes beyond ASCII in its target percent-encoded.

    What is no request line of HTTP/1 stays as it is, to be refused; so do control characters.
    """
    if line.isascii() and line.count(b" ") == 2:
        return line
    parts = _LINE.fullmatch(line)
    if parts is None:
        return line
    method, target, version = parts.groups()
    return b"%s %s %s" % (method, _RAW.sub(lambda raw: b"%%%02X" % raw[0][0], target), version)
