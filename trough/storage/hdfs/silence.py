"""Ends transfers whose server has fallen silent, and remembers which servers are.

A process that is stopped, or a machine that is cut off, closes no connection: the kernel takes an
upload, and the answer never comes. A DataNode may also be slow for a good reason, since it answers
an upload after all replicas are on disk. So a transfer without progress is ended only once its
server does not answer a plain HTTP request either. Later transfers to that server are refused at
once, until it answers again.

One thread watches all transfers. It runs while there are any, or a server is silent.
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

import requests
import urllib3

from trough.storage.hdfs.abortable_http import AbortableSession

#: Seconds between two checks of the transfers.
_CHECK = 0.25

#: Seconds for which a server that stays silent is asked again. Afterwards the next transfer finds
#: out by itself.
_REMEMBERED = 600.0


class Silent(requests.ReadTimeout):
    """The server of a transfer takes connections and answers nothing."""

    def __init__(self, server: str) -> None:
        super().__init__(f"{urllib.parse.urlsplit(server).netloc} is silent")


class SilenceWatch:
    """Watches the transfers of one HDFS. Its methods may be called on any thread.

    :param new_session: makes a session to ask servers with
    :param still: seconds without progress after which the server is asked
    :param answer: seconds within which it has to answer
    """

    def __init__(
        self, new_session: Callable[[], AbortableSession], still: float, answer: float
    ) -> None:
        self._new_session = new_session
        self._still = still
        self._answer = answer
        self._lock = threading.Lock()
        self._transfers: set[WatchedTransfer] = set()
        #: By server, when it was found to be silent.
        self._silent: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def transfer(self, session: AbortableSession) -> Iterator[WatchedTransfer]:
        """Watch what a block sends and receives over `session`.

        :raises Silent: the server of the block's last request is silent
        """
        transfer = WatchedTransfer(session, self._check)
        session.before_request = transfer.begin
        with self._lock:
            self._transfers.add(transfer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
        try:
            yield transfer
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if transfer.silent:
                raise Silent(transfer.server) from error
            raise
        finally:
            session.before_request = None
            with self._lock:
                self._transfers.discard(transfer)

    def _check(self, server: str) -> None:
        if server in self._silent:
            raise Silent(server)

    # -- on the watching thread ----------------------------------------------------------

    def _watch(self) -> None:
        with contextlib.closing(self._new_session()) as session:
            while self._has_work():
                for server in self._in_question():
                    self._note(server, self._answers(session, server))
                time.sleep(_CHECK)

    def _has_work(self) -> bool:
        with self._lock:
            if not self._transfers and not self._silent:
                self._thread = None
            return self._thread is not None

    def _in_question(self) -> set[str]:
        now = time.monotonic()
        with self._lock:
            for server, since in list(self._silent.items()):
                if now - since > _REMEMBERED:
                    del self._silent[server]
            still = {each.server for each in self._transfers if now - each.moved >= self._still}
            return (still | set(self._silent)) - {""}

    def _answers(self, session: AbortableSession, server: str) -> bool:
        try:
            with session.head(server, timeout=self._answer, allow_redirects=False):
                return True
        except requests.Timeout:
            return False
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            # It refuses or breaks off, and so does a transfer, by itself.
            return True

    def _note(self, server: str, answers: bool) -> None:
        with self._lock:
            if answers:
                self._silent.pop(server, None)
                return
            self._silent.setdefault(server, time.monotonic())
            for transfer in self._transfers:
                if transfer.server == server:
                    transfer.end()


class WatchedTransfer:
    """A transfer under way.

    :ivar server: URL of the server that its last request went to
    :ivar moved: when it last made progress, by the monotonic clock
    :ivar silent: whether it was ended because its server is silent
    """

    def __init__(self, session: AbortableSession, check: Callable[[str], None]) -> None:
        self.server = ""
        self.moved = time.monotonic()
        self.silent = False
        self._session = session
        self._check = check

    def begin(self, url: str) -> None:
        """A request is about to be sent.

        :raises Silent: its server is known to be silent
        """
        parts = urllib.parse.urlsplit(url)
        self.server = f"{parts.scheme}://{parts.netloc}"
        self.progress()
        self._check(self.server)

    def progress(self) -> None:
        """Some bytes moved."""
        self.moved = time.monotonic()

    def end(self) -> None:
        """End it from another thread."""
        self.silent = True
        self._session.abort()
