"""What one request may hold, whichever protocol it came by.

A body of 64 MiB may be a batch of rows; as four million keys of JSON it would take the
reactor a quarter of a minute. So values are counted before they are decoded, which costs
next to nothing.
"""

from __future__ import annotations

import re

from trough import errors

#: Segments that one request may name. A pattern selects more.
MAX_IDS = 131_072

#: Values for one statement: the most that SQLite takes unless it was built for more.
MAX_PARAMETERS = 32_766

#: Values in a JSON body: the segments and the parameters of a GATHER, and some more.
MAX_JSON_VALUES = 200_000

#: Bytes up to which all of a text is counted.
_COUNTED = 4 << 20

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)


def check_json_values(text: bytes, most: int, what: str) -> None:
    """Refuse JSON with too many values, before it is decoded.

    :param what: names it
    :raises trough.errors.TooLarge: it has more than `most` commas and brackets
        outside of its strings
    """
    # To count is quicker than to read, but does not stop at the first that is too much.
    if len(text) <= most or (
        len(text) <= _COUNTED and sum(map(text.count, (b",", b"[", b"{"))) <= most
    ):
        return
    # Strings may hold any number of these, so they are left out one by one.
    marks = strings = 0
    for token in _TOKEN.finditer(text):
        if token[0][:1] == b'"':
            strings += 1
        else:
            marks += 1
        if marks > most or strings > most:
            raise errors.TooLarge(f"{what} has more than {most} values", "send fewer at once")


def check_number_of_ids(number: int) -> None:
    """Refuse a list of too many segments.

    :raises trough.errors.TooLarge: it has more than :data:`MAX_IDS`
    """
    if number > MAX_IDS:
        raise errors.TooLarge(
            f"{number} segments in one request, of at most {MAX_IDS}",
            "ask in several requests, or with a pattern",
        )
