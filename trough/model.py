"""The terms of Trough as values, which its parts exchange.

Everything in here is frozen, compares by value and does no I/O. Times are seconds since the epoch
by the writer's clock, sizes are bytes, and names are those of the design document. This module has
the one rule for segment ids and worker names, for all engines.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from trough import errors
from trough.util.quoting import quoted

#: Bytes of UTF-8 in the longest segment id. A key of RethinkDB holds 127, and existing
#: clients look for the write lock under ``write:lock:ID``.
MAX_SEGMENT_ID = 127 - len("write:lock:")
#: Characters of the longest worker's name.
MAX_NODE_NAME = 49

SEGMENT_ID_RULE = (
    f"a segment id is 1 to {MAX_SEGMENT_ID} bytes of UTF-8 without slash, colon and control "
    "characters, and does not begin with a dot"
)
NODE_NAME_RULE = (
    f"a worker's name is 1 to {MAX_NODE_NAME} characters out of A-Z a-z 0-9 _ - . "
    "and does not begin with a dot"
)

# An id is free text: clients use names that people gave. What it may not be has a reason
# each: a slash makes another path; HDFS has no colon in names; a dot in front marks
# unfinished work; a control character, the end of a line or a change of direction would break
# or falsify lines of text; half a surrogate pair is no text, and U+FFFD is what is left where
# text was decoded wrongly. The client library of HDFS reads ``#LATEST`` as another file.
# WebHDFS normalises names to NFC: an id that is not in this form would be another one there.
# Case matters, and Trough normalises nothing: other code points are another id.
_PLAIN_ID = re.compile(rf"[A-Za-z0-9_\-~@=][A-Za-z0-9_\-.~@=]{{0,{MAX_SEGMENT_ID - 1}}}")
_UNSAFE = re.compile(
    "[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffd\ud800-\udfff]|#LATEST"
)
#: A pattern for the whole of a worker's name.
NODE_NAME = rf"^[A-Za-z0-9_\-][A-Za-z0-9_\-.]{{0,{MAX_NODE_NAME - 1}}}$"
_NODE_NAME = re.compile(NODE_NAME)

#: Characters that stand for themselves where an id is one word: in a URL, and in the line
#: protocol. All others are escaped there, as ``%`` and two hexadecimal digits for each byte.
_PLAIN_CHARACTERS = "~@="


def unsafe_text(text: str) -> str:
    """What in `text` could break lines or paths that it stands in, or ``""``."""
    found = _UNSAFE.search(text)
    return ascii(found[0])[1:-1] if found else ""


def why_no_segment_id(text: object) -> str:
    """Why `text` is no segment id, or ``""`` if it is one."""
    if not isinstance(text, str):
        return "it is no text"
    if _PLAIN_ID.fullmatch(text):
        return ""
    if not text:
        return "it is empty"
    if text[0] == ".":
        return "it begins with a dot"
    if text == "*":
        return "it stands for all segments"
    for character, name in (("/", "a slash"), (":", "a colon")):
        if character in text:
            return f"it has {name}"
    if unsafe := unsafe_text(text):
        return f"it has {unsafe}"
    if not unicodedata.is_normalized("NFC", text):
        return "it has letters in parts, of which HDFS makes composed ones (Unicode's NFC)"
    size = len(text.encode())
    return f"it has {size} bytes" if size > MAX_SEGMENT_ID else ""


def check_segment_id(text: object) -> str:
    """Return `text` if it is a segment id.

    :raises trough.errors.BadSegmentId: naming the id and the rule
    """
    if isinstance(text, str) and _PLAIN_ID.fullmatch(text):
        return text
    if why := why_no_segment_id(text):
        raise errors.BadSegmentId(f"not a segment id: {_shown(text)}: {why}", SEGMENT_ID_RULE)
    assert isinstance(text, str)
    return text


def is_segment_id(text: str) -> bool:
    """Whether `text` follows the rule for segment ids."""
    return _PLAIN_ID.fullmatch(text) is not None or not why_no_segment_id(text)


def segment_named(value: object) -> str:
    """The segment id that a value in JSON names: a text, or a number's text.

    The original took numbers, and clients send them: ``{"segment": 300123}``.

    :raises trough.errors.BadSegmentId: naming the value and the reason
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return check_segment_id(str(value))
    if isinstance(value, int | float):
        raise errors.BadSegmentId(
            f"not a segment id: {json.dumps(value)}: of numbers, only whole ones from 0 name one",
            "send the id as a text",
        )
    return check_segment_id(value)


@functools.lru_cache(maxsize=8192)
def segment_word(segment: str) -> str:
    """A segment id as one word of ASCII, for a URL or a line of the line protocol; most ids
    are such a word."""
    return segment if _PLAIN_ID.fullmatch(segment) else quote(segment, _PLAIN_CHARACTERS)


def segment_of_word(word: str) -> str:
    """The segment id that :func:`segment_word` made this word of; not checked.

    :raises trough.errors.BadSegmentId: what is escaped is not UTF-8
    """
    if "%" not in word:
        return word
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError as error:
        raise errors.BadSegmentId(
            f"not a segment id: {_shown(word)}: it is not UTF-8", SEGMENT_ID_RULE
        ) from error


def is_node_name(text: str) -> bool:
    """Whether `text` follows the rule for workers' names."""
    return _NODE_NAME.fullmatch(text) is not None


def check_node_name(text: object) -> str:
    """Return `text` if it can be a worker's or sync server's name.

    :raises trough.errors.BadSegmentId: naming the name and the rule
    """
    if isinstance(text, str) and _NODE_NAME.fullmatch(text):
        return text
    raise errors.BadSegmentId(f"not a worker's name: {_shown(text)}", NODE_NAME_RULE)


def _shown(text: object) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown)} characters)"


def canonical_directory(segment: str) -> str:
    """The directory that a segment's canonical copy goes to, relative to the storage's
    root, which is ``""``.

    The layout is that of the original system: a directory named by the id without
    its last three characters, so that a thousand consecutive job numbers share one.
    """
    return segment[:-3]


def canonical_path(segment: str) -> str:
    """Where a segment's canonical copy goes, relative to the storage's root."""
    directory = canonical_directory(segment)
    return f"{directory}/{segment}.sqlite" if directory else f"{segment}.sqlite"


@dataclass(frozen=True, slots=True)
class CanonicalCopy:
    """One version of a segment's file in canonical storage.

    :ivar path: relative to the storage's root, ``/`` between its parts
    :ivar size: length in bytes
    :ivar modified: modification time in milliseconds since the epoch, by the storage
    :ivar checksum: of the content, ``algorithm:hex``, or empty where only the
        storage's listing is known
    """

    segment: str
    path: str
    size: int
    modified: int
    checksum: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """What distinguishes two versions; the later one is greater."""
        return (self.modified, self.size)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as in its own row: one row, renewed every beat.

    :ivar identity: random, kept in the worker's data directory; two processes with
        one name and different identities are two machines configured alike
    :ivar line: ``host:port`` of the line protocol, with :data:`TLS_LINE` in front if it
        uses TLS; empty for a worker of the original system, which serves HTTP only
    :ivar read_url: base URL for reads, ``http://host:port/``; likewise the others
    :ivar capacity: bytes that the worker offers for copies in all
    :ivar load: requests under way and runnable processes, in any unit that is the
        same on all workers; smaller is better
    :ivar ttl: seconds after which a row that was not renewed counts as dead
    :ivar trouble: what an operator has to look at, and where the guide describes it; empty: nothing
    :ivar unpromoted: segments that it writes with writes that are in no canonical copy
    :ivar unpromoted_bytes: that the files of these take
    :ivar unpromoted_since: since when the oldest of these writes waits, in seconds since the epoch;
        0: nothing waits, or it is not known
    :ivar replication: it understands the orders of replicated writes up to this version
        (:data:`trough.replication.orders.VERSION`); 0: none, as workers of earlier versions
    """

    node: str
    identity: str = ""
    line: str = ""
    read_url: str = ""
    write_url: str = ""
    manager_url: str = ""
    capacity: int = 0
    available_bytes: int = 0
    load: float = 0.0
    cold_storage: bool = False
    draining: bool = False
    ttl: float = 30.0
    first_heartbeat: float = 0.0
    last_heartbeat: float = 0.0
    trouble: str = ""
    unpromoted: int = 0
    unpromoted_bytes: int = 0
    unpromoted_since: float = 0.0
    replication: int = 0


#: In front of an address of the line protocol that uses TLS.
TLS_LINE = "tls://"


def line_host_and_port(address: str) -> tuple[str, int, bool]:
    """Host, port, and whether TLS is used, of an address such as ``tls://host:6440``.

    :raises ValueError: it is not one
    """
    encrypted = address.startswith(TLS_LINE)
    host, _, port = address.removeprefix(TLS_LINE).rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise ValueError(f"not the address of a server: {quoted(address)}")
    return host.strip("[]"), int(port), encrypted


READ = "trough-read"
WRITE = "trough-write"


@dataclass(frozen=True, slots=True)
class Copy:
    """A segment that a worker can serve now.

    :ivar role: :data:`READ` or :data:`WRITE`
    :ivar url: where existing clients POST their SQL
    :ivar ttl: seconds; long, since the worker's own row is what shows life
    """

    segment: str
    node: str
    role: str
    url: str
    load: float = 0.0
    ttl: float = 86400.0
    first_heartbeat: float = 0.0
    last_heartbeat: float = 0.0


#: ``dirty_since`` of a lock under which everything is promoted.
CLEAN = 0.0


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A worker together with its disk: a worker that lost its disk is another member.

    :ivar disk: the worker's ``identity``, random and kept in its data directory; empty where it
        is not known
    """

    node: str
    disk: str


#: The member of these two; one object for all segments that name it.
member = functools.lru_cache(maxsize=4096)(Member)


@functools.lru_cache(maxsize=4096)
def members(pairs: tuple[tuple[str, str], ...]) -> frozenset[Member]:
    """The members with these names and disks; one object for all segments that name them."""
    return frozenset(member(node, disk) for node, disk in pairs)


@dataclass(frozen=True, slots=True)
class Lock:
    """The write lock of a segment: at most one worker writes it.

    :ivar epoch: grows every time the lock of this segment changes hands, and never
        goes back, even after the lock was released
    :ivar dirty_since: since when there may be writes in no canonical copy, in seconds since the
        epoch; :data:`CLEAN`: there are none; None: not known, as of a lock that an earlier
        version took. Locks are compared without it
    :ivar disk: of the holder; empty: nobody replicates the segment
    :ivar revision: grows with each change of a lock that was taken, and begins again when the
        lock is taken
    :ivar followers: that have every acknowledged write, see :mod:`trough.replication`
    """

    segment: str
    node: str
    epoch: int
    acquired_on: float = 0.0
    dirty_since: float | None = field(default=None, compare=False)
    disk: str = ""
    revision: int = 0
    followers: frozenset[Member] = frozenset()

    @property
    def holder(self) -> Member:
        """The worker that writes, with its disk."""
        return member(self.node, self.disk)

    @property
    def is_clean(self) -> bool:
        """Whether all that was written under it is in the canonical copy."""
        return self.dirty_since == CLEAN


#: What :attr:`Assignment.ring` is of a cold worker, which is on no ring.
COLD_RING = -1


@dataclass(frozen=True, slots=True)
class Assignment:
    """Worker `node` keeps a copy of `segment`; decided by the leader.

    :ivar ring: the hash ring that the copy comes from
    :ivar path: of the canonical copy, relative to the storage's root
    :ivar size: bytes of the canonical copy, 0 before the first promotion
    :ivar modified: of the canonical copy, milliseconds since the epoch, 0 likewise:
        a worker whose local copy is of another version fetches this one
    :ivar generation: of the leader that decided it
    """

    segment: str
    node: str
    ring: int
    path: str
    size: int = 0
    modified: int = 0
    generation: int = 0
    assigned_on: float = 0.0

    @property
    def canonical(self) -> CanonicalCopy:
        """The version of the canonical copy that the worker should hold."""
        return CanonicalCopy(self.segment, self.path, self.size, self.modified)


@dataclass(frozen=True, slots=True)
class Leader:
    """The sync server that leads, for a time.

    :ivar identity: random for each process, so that a restarted server is a new
        candidate and not the one that led before
    :ivar url: base URL of its HTTP port
    :ivar line: the address of its line protocol, as a worker's
    :ivar generation: grows by one with every change of leadership
    :ivar ttl: seconds that the lease runs from its last renewal
    :ivar trouble: why its rounds fail, or empty
    """

    node: str
    identity: str
    url: str
    line: str = ""
    generation: int = 0
    ttl: float = 10.0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Whether the store lists all existing segments.

    :ivar known: each segment that the leader saw in canonical storage is assigned, or is
        among those that no worker can take at present
    :ivar change: grows whenever a leader reports anything else
    """

    known: bool = False
    change: int = 0


@dataclass(frozen=True, slots=True)
class Schema:
    """SQL that creates an empty segment's tables, under a name."""

    id: str
    sql: str


#: The schema that always exists, and is empty.
DEFAULT_SCHEMA = Schema("default", "")
