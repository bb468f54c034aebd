"""Ranges of the values in a column: which comparisons are surely true of none of them.

Each value has a *key*, hexadecimal digits of a fixed number. SQLite orders values as NULL, numbers,
texts, BLOBs. Of two values that it orders, the lesser one never has the greater key. So if all keys
of a column are below the key of a bound, no value is above the bound. Different values may have one
key: nothing is known then.

:func:`made_range` makes the range, as a function of SQLite. The processes that plan a query, read
the column and keep the range compute keys alike. Texts are compared as UTF-8 bytes. The collation
BINARY does so in a database whose encoding is UTF-8; there is no range of texts in any other one.
"""

from __future__ import annotations

import re
import struct
from binascii import b2a_base64

#: The function's name in SQL; its arguments are the least and the greatest value, and whether texts
#: are UTF-8 (0, 1).
FUNCTION = "trough_column_range"

#: A condition that is true where texts are UTF-8.
IS_UTF8 = "hex(CAST('a' AS BLOB)) = '61'"

#: Bytes of a text that its key depends on.
_BYTES = 32
#: Bytes of a key: one for the kind of value before those.
_KEY = _BYTES + 1
_NUMBER, _TEXT, _BLOB = b"\x01", b"\x02", b"\x03"

#: The key of a BLOB, and keys below and above those of all values.
_OF_BLOB = _BLOB.ljust(_KEY, b"\0")
_LEAST, _GREATEST = b"\x00" * _KEY, b"\xff" * _KEY

#: The least and the greatest key of values that a bound may have; None: there is no bound.
Range = tuple[str | None, str | None]

_DIGITS = re.compile(f"[0-9a-f]{{{2 * _KEY}}}")


def key_of(value: float | str) -> str:
    """The key of a number or a text.

    :raises UnicodeEncodeError: it is no text of SQLite
    """
    return _key_of(value).hex()


def is_key(text: object) -> bool:
    """Whether a text may be a key."""
    return isinstance(text, str) and _DIGITS.fullmatch(text) is not None


def _key_of(value: float | str) -> bytes:
    if isinstance(value, str):
        return (_TEXT + value.encode()[:_BYTES]).ljust(_KEY, b"\0")
    # Zero has two signs. The bits of positive numbers are in their order already.
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(value) + 0.0))
    ordered = bits ^ ((1 << 64) - 1) if bits >> 63 else bits | 1 << 63
    return (_NUMBER + ordered.to_bytes(8, "big")).ljust(_KEY, b"\0")


def is_outside(made: bytes, low: str | None, high: str | None) -> bool:
    """Whether no key of a range lies between two keys, which are included.

    :param made: the range
    """
    return (low is not None and made[_KEY:].hex() < low) or (
        high is not None and made[:_KEY].hex() > high
    )


def made_range(least: object, greatest: object, is_utf8: object) -> str | None:
    """The function :data:`FUNCTION`: the range as base64, or NULL if there is none.

    :param least: of the values in a column by SQLite's order, or None of no value; likewise
        `greatest`
    """
    low, high = _key_of_end(least, is_utf8), _key_of_end(greatest, is_utf8)
    if least is None and greatest is None:
        # Outside of any range.
        low, high = _GREATEST, _LEAST
    if low is None or high is None:
        return None
    return b2a_base64(low + high, newline=False).decode()


def _key_of_end(value: object, is_utf8: object) -> bytes | None:
    if isinstance(value, bytes):
        return _OF_BLOB
    if isinstance(value, int | float):
        return _key_of(value)
    # A function of Python's may get what is before a NUL. That is a lesser text, and no bound
    # without a NUL lies between the two.
    return _key_of(value) if isinstance(value, str) and is_utf8 else None
