"""What all parts of a worker use: its engines, its segments, and two ways to coordinate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trough.metadata import Metadata
from trough.storage import Storage
from trough.util.keyed_lock import KeyedLock
from trough.util.log_digest import LogDigest
from trough.worker.cluster_view import ClusterView
from trough.worker.cold_cache import ColdSegments
from trough.worker.publisher import Publisher
from trough.worker.refusals import Refusals
from trough.worker.segments import Segments


@dataclass(frozen=True, slots=True)
class Shared:
    """The same for all parts of one worker, from its start to its end.

    :ivar node: the worker's name
    :ivar turns: the holder of a segment's turn provisions, reverts, replaces or drops it; no
        other caller provisions the segment meanwhile
    :ivar look_at: have these segments compared with their assignments and locks soon
    :ivar is_cold: whether a segment belongs to the cold tier
    :ivar cold: the cold segments, on a worker that serves only those
    :ivar digest: counts what happens to many segments at once, for the log
    """

    node: str
    metadata: Metadata
    storage: Storage
    segments: Segments
    publisher: Publisher
    refusals: Refusals
    cluster: ClusterView
    turns: KeyedLock
    look_at: Callable[[Iterable[str]], None]
    is_cold: Callable[[str], bool]
    cold: ColdSegments | None
    digest: LogDigest
