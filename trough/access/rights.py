"""Rights, and the grants that carry them. Pure.

Rights are bits of an integer, since one is compared for each request. What a route or verb needs
is a set of rights of which a token has to have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trough import errors

READ, WRITE, PROVISION, PROMOTE, DELETE, SCHEMA, ADMIN, PEER = (1 << bit for bit in range(8))

#: All rights by their names, in the order of the documents.
RIGHTS = {
    "read": READ,
    "write": WRITE,
    "provision": PROVISION,
    "promote": PROMOTE,
    "delete": DELETE,
    "schema": SCHEMA,
    "admin": ADMIN,
    "peer": PEER,
}
EVERY_RIGHT = sum(RIGHTS.values())

#: Rights that are not about single segments, so a token with one of them cannot be limited.
UNLIMITED = SCHEMA | ADMIN | PEER

#: What one token's limit may hold.
MAX_GLOBS = 100
MAX_GLOB = 256

#: Segments that a refusal names.
_NAMED = 10


def names_of(rights: int) -> list[str]:
    """The names of some rights."""
    return [name for name, right in RIGHTS.items() if rights & right]


def rights_named(names: Iterable[str]) -> int:
    """Rights by their names.

    :raises trough.errors.BadRequest: one of them is no right, or there is none
    """
    rights = 0
    for name in names:
        if name not in RIGHTS:
            raise errors.BadRequest(
                f"there is no right {name[:40]!a}", f"rights are: {', '.join(RIGHTS)}"
            )
        rights |= RIGHTS[name]
    if not rights:
        raise errors.BadRequest("no right is given", f"rights are: {', '.join(RIGHTS)}")
    return rights


class SegmentLimit:
    """The segments that a token is limited to: ids and globs, in which ``*`` is any text.

    Regular expressions would be unbounded work on the reactor. A glob with nothing but ``*`` is
    matched from left to right without going back, in time linear in the id.

    :raises trough.errors.BadRequest: too many, too long, or empty
    """

    def __init__(self, globs: Sequence[str]) -> None:
        if not 0 < len(globs) <= MAX_GLOBS:
            raise errors.BadRequest(
                f"{len(globs)} patterns for segments", f"give between 1 and {MAX_GLOBS}"
            )
        for glob in globs:
            if not isinstance(glob, str) or not 0 < len(glob) <= MAX_GLOB:
                raise errors.BadRequest(
                    f"{glob!a:.40} is no pattern for segments",
                    f"1 to {MAX_GLOB} characters; * stands for any text",
                )
        self.globs = tuple(globs)
        self._split = [glob.split("*") for glob in globs]

    def __contains__(self, segment: object) -> bool:
        return any(_matches(parts, str(segment)) for parts in self._split)


def _matches(parts: list[str], text: str) -> bool:
    """Whether `text` is `parts` in their order with any text between them."""
    first, *middle = parts
    if not middle:
        return text == first
    last = middle.pop()
    end = len(text) - len(last)
    start = len(first)
    if start > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


@dataclass(slots=True, eq=False)
class Grant:
    """What a token gives. It is changed in place when the token is, and loses all rights with it,
    so a connection that keeps a grant never has more than its token.

    :ivar name: of the token
    :ivar rights: bits
    :ivar limit: the segments that it is limited to; None: to none
    """

    name: str
    rights: int
    limit: SegmentLimit | None = None

    def check(self, needed: int) -> None:
        """Refuse what none of the rights allows.

        :param needed: rights of which one suffices
        :raises trough.errors.Unauthorized: the token was removed
        :raises trough.errors.Forbidden: it has none of these rights
        """
        if self.rights & needed:
            return
        if not self.rights:
            raise errors.Unauthorized(f"the token {self.name} was removed or has expired")
        wanted = " or ".join(names_of(needed))
        raise errors.Forbidden(
            f"the token {self.name} lacks the right {wanted}",
            f"it has: {', '.join(names_of(self.rights))}",
        )

    def check_segment(self, segment: str) -> None:
        """Refuse a segment that the token is not for.

        :raises trough.errors.Forbidden: naming it
        """
        if self.limit is not None and segment not in self.limit:
            raise self._refusal([segment], 1)

    def check_segments(self, segments: Sequence[str], found: bool = False) -> None:
        """Refuse a list in which there are segments that the token is not for.

        :param found: the client did not name them, so the refusal does not either
        :raises trough.errors.Forbidden: naming the first of them
        """
        if self.limit is not None:
            self.refuse([segment for segment in segments if segment not in self.limit], found)

    def refuse(self, others: Sequence[str], found: bool = False) -> None:
        """As `check_segments`, where it is known which are the others.

        :raises trough.errors.Forbidden: there are some
        """
        if others and found:
            raise errors.Forbidden(
                f"the pattern also matches segments that the token {self.name} is not for",
                f"it is limited to {self._globs()}; a narrower pattern is answered",
            )
        if others:
            raise self._refusal(others[:_NAMED], len(others))

    def _refusal(self, segments: Sequence[str], number: int) -> errors.Forbidden:
        more = f" and {number - len(segments)} more" if number > len(segments) else ""
        plural = "s" if number > 1 else ""
        return errors.Forbidden(
            f"the token {self.name} is not for segment{plural} {', '.join(segments)}{more}",
            f"it is limited to {self._globs()}",
        )

    def _globs(self) -> str:
        assert self.limit is not None
        text = ", ".join(self.limit.globs)
        return text if len(text) <= 200 else f"{text[:197]}..."


#: Of a client where nobody has to show a token.
ANYBODY = Grant("", EVERY_RIGHT)
