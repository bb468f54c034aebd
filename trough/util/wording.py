"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``2 rows``, ``1,234 rows``.

    :param noun: in the singular
    :param plural: where that is not the noun with an ``s``
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
