"""Ranges of the values in a column: which comparisons are surely true of none of them.

Each value has a *key*, an integer. SQLite orders values as NULL, numbers, texts, BLOBs. Of two
values that it orders, the lesser one never has the greater key. So if all keys of a column are
below the key of a bound, no value is above the bound. Different values may have one key: nothing
is known then.

:func:`made_range` makes the range, as a function of SQLite. The processes that plan a query, read
the column and keep the range compute keys alike. Texts are compared as UTF-8 bytes. The collation
BINARY does so in a database whose encoding is UTF-8; there is no range of texts in any other one.
"""

from __future__ import annotations

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
_NUMBER, _TEXT, _BLOB = (kind << 8 * _BYTES for kind in (1, 2, 3))

#: Above every key.
BEYOND = 1 << 8 * _KEY

#: The least and the greatest key of values that a bound may have; None: there is no bound.
Range = tuple[int | None, int | None]


def key_of(value: float | str) -> int:
    """The key of a number or a text.

    :raises UnicodeEncodeError: it is no text of SQLite
    """
    if isinstance(value, str):
        return _TEXT | int.from_bytes(value.encode()[:_BYTES].ljust(_BYTES, b"\0"), "big")
    # Zero has two signs. The bits of positive numbers are in their order already.
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(value) + 0.0))
    return _NUMBER | (bits ^ ((1 << 64) - 1) if bits >> 63 else bits | 1 << 63)


def is_outside(made: bytes, low: int | None, high: int | None) -> bool:
    """Whether no key of a range lies between two keys, which are included.

    :param made: the range
    """
    least, greatest = int.from_bytes(made[:_KEY], "big"), int.from_bytes(made[_KEY:], "big")
    return (low is not None and greatest < low) or (high is not None and least > high)


def made_range(least: object, greatest: object, is_utf8: object) -> str | None:
    """The function :data:`FUNCTION`: the range as base64, or NULL if there is none.

    :param least: of the values in a column by SQLite's order, or None of no value; likewise
        `greatest`
    """
    if least is None and greatest is None:
        keys: tuple[int | None, int | None] = BEYOND - 1, 0
    else:
        keys = _key_of_end(least, is_utf8), _key_of_end(greatest, is_utf8)
    low, high = keys
    if low is None or high is None:
        return None
    made = low.to_bytes(_KEY, "big") + high.to_bytes(_KEY, "big")
    return b2a_base64(made, newline=False).decode()


def _key_of_end(value: object, is_utf8: object) -> int | None:
    if isinstance(value, bytes):
        return _BLOB
    if isinstance(value, int | float):
        return key_of(value)
    # A function of Python's may get what is before a NUL. That is a lesser text, and no bound
    # without a NUL lies between the two.
    return key_of(value) if isinstance(value, str) and is_utf8 else None
