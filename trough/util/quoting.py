"""A value that somebody sent, as a message shows it: not as Python would write it."""

from __future__ import annotations

from trough.util.safe_text import ELLIPSIS, safe

#: Characters of a value that are shown.
MOST = 200


def quoted(value: object, most: int = MOST) -> str:
    """A text in quotes, on one line; ``null``, ``true`` and numbers as JSON has them; of what holds
    other values, whether it is a list or a mapping.

    :param most: characters of it, at most
    """
    if isinstance(value, str):
        shown = f"'{safe(value[:most])}'"
    elif isinstance(value, bytes):
        shown = f"'{safe(value[:most].decode('utf-8', 'backslashreplace'))}'"
    elif value is None:
        return "null"
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, int | float):
        shown = str(value)[:most]
    elif isinstance(value, dict):
        return "a mapping"
    elif isinstance(value, list | tuple):
        return "a list"
    else:
        return "something else"
    return shown if isinstance(value, int | float) or len(value) <= most else shown + ELLIPSIS
