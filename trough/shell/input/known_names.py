"""Names in the connected segments, looked up in the background for completion.

The lookup reports no failure: an unknown name is not offered. Typing waits :data:`PATIENCE`
seconds at most. Segments of one kind of crawl look alike, so a few of the connected ones are
queried for all.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence

from trough.errors import TroughError
from trough.shell.runner import TICK
from trough.shell.session import Failed, MoreRows, Remote

#: Connected segments that are queried for their tables.
ASKED = 3

#: Segments that are offered for one prefix.
OFFERED = 200

#: Seconds that typing waits for names. The line editor accepts Enter only after its completion
#: has ended.
PATIENCE = 0.4

#: Views that are queried one by one, if one of them is broken.
SINGLY = 20

_COLUMNS = (
    "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
    " WHERE m.type = '{}' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)
_VIEWS = f"SELECT name, name FROM sqlite_master WHERE type = 'view' LIMIT {SINGLY}"
_VIEW = "SELECT ?1, name FROM pragma_table_info(?1)"


class KnownNames:
    """Names for completion.

    :ivar tables: columns by table
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._lock = threading.Lock()
        self._segments: dict[str, list[str]] = {}  # by prefix
        self._schemas: list[str] | None = None
        self._wanted: tuple[str, ...] = ()
        self._thread: threading.Thread | None = None
        self._looking: threading.Thread | None = None
        self.tables: dict[str, list[str]] = {}

    def refresh(self, segments: Sequence[str]) -> None:
        """Look up again, in the background, what these segments hold."""
        with self._lock:
            self._wanted = tuple(segments[:ASKED])
            self._segments, self._schemas = {}, None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="names", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            wanted = self._wanted
            found: dict[str, list[str]] = {}
            with contextlib.suppress(TroughError):
                found = self._ask(wanted) if wanted else {}
            with self._lock:
                if wanted == self._wanted:
                    self.tables = found
                    self._thread = None
                    return

    def _ask(self, segments: Sequence[str]) -> dict[str, list[str]]:
        pairs, _ = self._pairs(segments, _COLUMNS.format("table"))
        of_views, whole = self._pairs(segments, _COLUMNS.format("view"))
        pairs += of_views
        if not whole:  # a view of a missing table makes the query fail for all views
            for view in dict(self._pairs(segments, _VIEWS)[0]):
                pairs += self._pairs(segments, _VIEW, [view])[0]
        tables: dict[str, dict[str, None]] = {}
        for table, column in pairs:
            tables.setdefault(table, {})[column] = None
        return {table: list(columns) for table, columns in tables.items()}

    def _pairs(
        self, segments: Sequence[str], sql: str, values: Sequence[str] | None = None
    ) -> tuple[list[tuple[str, str]], bool]:
        """Rows of two columns, and whether all segments answered."""
        pairs: list[tuple[str, str]] = []
        whole = True
        with self._remote.query(segments, sql, values) as query:
            for event in query.events(TICK):
                if isinstance(event, MoreRows):
                    pairs += [(table, column) for table, column in event.rows]
                whole = whole and not isinstance(event, Failed)
        return pairs, whole

    def segments(self, beginning: str) -> list[str]:
        """Some segments whose ids have this prefix, if they are known soon."""
        if self._known(beginning) is None:
            self._look_up(lambda: self._find(beginning))
        return self._known(beginning) or []

    def schemas(self) -> list[str]:
        """All schemas, if they are known soon enough."""
        if self._schemas is None:
            self._look_up(self._find_schemas)
        return self._schemas or []

    def _known(self, beginning: str) -> list[str] | None:
        for length in range(len(beginning), -1, -1):
            known = self._segments.get(beginning[:length])
            if known is not None and (len(known) < OFFERED or length == len(beginning)):
                return [segment for segment in known if segment.startswith(beginning)]
        return None

    def _look_up(self, find: Callable[[], None]) -> None:
        """Start a lookup, unless another one runs, and wait a little."""
        with self._lock:
            if self._looking is None or not self._looking.is_alive():
                self._looking = threading.Thread(target=find, name="names", daemon=True)
                self._looking.start()
            looking = self._looking
        looking.join(PATIENCE)

    def _find(self, beginning: str) -> None:
        found: list[str] = []
        whole = False
        with contextlib.suppress(TroughError):
            for page in self._remote.matching(f"^{re.escape(beginning)}"):
                found += page
                if len(found) >= OFFERED:
                    break
            whole = True
        # A failed search also keeps the names that it found before.
        if whole or found:
            self._segments[beginning] = sorted(found)[:OFFERED]

    def _find_schemas(self) -> None:
        with contextlib.suppress(TroughError):
            self._schemas = self._remote.schemas()
