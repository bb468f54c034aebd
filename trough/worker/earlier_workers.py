"""Replication of writes while workers of earlier versions are alive.

A worker of an earlier version ignores followers in a lock's row. If it is started with the data of
a holder, it acknowledges writes that the followers lack, and these take over without them. So as
long as one is alive, this worker writes *plain* segments: their rows name neither disk nor
followers, and any version can write them. An upgrade can be given up at any moment until then.
Once all living workers are new, the next write to a plain segment begins to replicate it.
"""

from __future__ import annotations

from trough.replication.choice import is_able
from trough.util.trouble_log import Section
from trough.worker.cluster_view import ClusterView
from trough.worker.segments import Segments


class EarlierWorkers:
    """See the module's text.

    :param wanted: whether this worker is to replicate its writes
    """

    def __init__(self, cluster: ClusterView, segments: Segments, wanted: bool) -> None:
        self._cluster = cluster
        self._segments = segments
        self._wanted = wanted
        self._plain: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The living workers of earlier versions."""
        workers = self._cluster.workers.values()
        return sorted(each.node for each in workers if not is_able(each))

    @property
    def allow_followers(self) -> bool:
        """Whether this worker replicates segments that it begins to write."""
        return self._wanted and all(map(is_able, self._cluster.workers.values()))

    def is_plain(self, segment: str) -> None:
        """Note that a segment is written without followers for now."""
        if self._wanted:
            self._plain.add(segment)

    def look(self) -> None:
        """Have the next write to each plain segment replicate it, if that is allowed by now."""
        if not self._plain or not self.allow_followers:
            return
        for segment in list(self._plain):
            copy = self._segments.get(segment)
            if copy is None or not copy.noting:  # else its mark is being set now
                self._plain.discard(segment)
                if copy is not None and copy.replicated is None:
                    copy.marked = 0.0

    def trouble(self) -> str:
        """What needs an operator, and the section of the guide; or empty."""
        names = self.names if self._wanted else []
        if not names:
            return ""
        text = f"writes have one copy while workers of an earlier version are alive: {names[0]}"
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return Section.UNDER_REPLICATED.add_to(text + more)
