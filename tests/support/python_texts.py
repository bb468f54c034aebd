"""Finds names of Python's objects in texts that people read."""

from __future__ import annotations

import re

#: What Python prints of an object, a class, an exception, a failure, a list or tuple of them.
_PRINTED = re.compile(
    r"<class |<twisted|<trough|\bFailure\b|object at 0x|\bat 0x[0-9a-f]|Pool\(|\bDeferred\b"
    r"|\bCancelledError\b"
    r"|\b\w+(?:Error|Exception|Failed|Lost|Done)\(|\b[A-Z]\w+\(\w+=|\[Failure|None, None"
    r"|\(\d[\d.]*, '|(?<![\w/])b'[^ ':]"
)


def python_texts(text: str) -> list[str]:
    """The lines that show one."""
    return [line for line in text.splitlines() if _PRINTED.search(line)]
