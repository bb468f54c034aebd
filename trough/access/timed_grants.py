"""Random texts that each stand for a grant for some time, at one process.

A ticket of another server and a session of the web console are such texts. They are in memory
alone: a restart ends them. A grant loses its rights with its token, and these with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from trough.access.rights import Grant
from trough.util.bounded_lru import BoundedLru


class TimedGrants:
    """Grants by the texts that stand for them; those used least recently are forgotten first.

    :param lifetime: seconds that a text is good for
    :param most: how many are kept
    :param seconds: a clock that only counts
    """

    def __init__(self, lifetime: float, most: int, seconds: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._seconds = seconds
        self._grants: BoundedLru[str, tuple[float, Grant]] = BoundedLru(most)

    def add(self, grant: Grant) -> str:
        """A new text for a grant: 256 random bits in hexadecimal."""
        text = secrets.token_hex(32)
        self._grants.put(text, (self._seconds() + self._lifetime, grant))
        return text

    def get(self, text: str) -> Grant | None:
        """The grant for a text; None: it is unknown, too old, or its token was removed."""
        until, grant = self._grants.get(text) or (0.0, None)
        return grant if grant is not None and grant.rights and until > self._seconds() else None

    def remove(self, text: str) -> None:
        """Forget a text, if it is known."""
        self._grants.pop(text)
