"""HDFS as seen through WebHDFS: the calls that canonical storage needs.

The package *hdfs* does requests, redirects, several NameNodes and authentication. This module adds
what a program needs that runs for years. Every wait has a deadline, and can be cancelled. What is
safe to repeat is retried with backoff and jitter. Listings come in pages, and a rename replaces.
Errors are those of :mod:`trough.errors`. It knows nothing of segments.

Blocking; may be called from any number of threads at once.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import hdfs
import requests
import urllib3
from hdfs.client import _Request

from trough import errors
from trough.storage.hdfs.abortable_http import AbortableSession
from trough.storage.hdfs.silence import SilenceWatch, Silent, WatchedTransfer
from trough.util.error_text import error_text
from trough.util.threads import Cancellation

T = TypeVar("T")

#: Makes the package's client for a session: plain, or with Kerberos.
MakeClient = Callable[[AbortableSession, tuple[float, float]], hdfs.Client]

#: Bytes of a piece on its way up or down.
PIECE = 1 << 20

# A call that Hadoop has since 3.0 and the package lacks: what to name it is the only
# thing that the package's own calls differ in.
_list_status_batch = _Request("GET").to_method("LISTSTATUS_BATCH")

#: Answers of a server to a request that fails however often it is repeated.
_PERMANENT = {
    "AccessControlException": "let the user that Trough runs as read and write there",
    "SecurityException": "check user and authentication",
    "AuthorizationException": "check user and authentication",
    "QuotaExceededException": "raise the quota there",
    "DSQuotaExceededException": "raise the quota there",
    "NSQuotaExceededException": "raise the quota there",
    "SafeModeException": "wait until the NameNode leaves safe mode",
    "ParentNotDirectoryException": "a file lies where a directory is needed",
    "FileAlreadyExistsException": "",
    "IllegalArgumentException": "",
    "UnsupportedOperationException": "",
}


class NotThere(Exception):
    """No file or directory has this path. Never leaves this package."""


class Changed(Exception):
    """The file is not the one any more whose status was given. Never leaves this package."""


class _SourceFailed(Exception):
    """The content for an upload could not be read. Not an OSError: *requests* would take
    that for the connection's."""


_FAILURES = (hdfs.HdfsError, requests.RequestException, urllib3.exceptions.HTTPError)


@dataclass(frozen=True, slots=True)
class HdfsRetryPolicy:
    """How long a server is waited for. Times are in seconds.

    :ivar connect: until a connection is made
    :ivar answer: between two bytes of a short call's answer
    :ivar transfer: the same while a file is moved: a DataNode answers an upload after
        all of its replicas are closed
    :ivar still: until the server of a transfer that does not move is asked for a sign of life
    :ivar sign: until it has to give that; together less than the five that a caller may wait
    :ivar attempts: in all, for a call that may be repeated
    :ivar pause: before the first repetition; doubled each time, with jitter
    """

    connect: float = 10.0
    answer: float = 30.0
    transfer: float = 120.0
    still: float = 2.0
    sign: float = 2.0
    attempts: int = 4
    pause: float = 0.5
    longest_pause: float = 8.0

    def pauses(self) -> Iterator[float]:
        """How long to wait before each repetition."""
        pause = self.pause
        for _ in range(self.attempts - 1):
            # Jitter, so that fifty workers do not come back in one instant.
            yield pause * random.uniform(0.5, 1.5)
            pause = min(2 * pause, self.longest_pause)


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file or directory.

    :ivar identity: stays with a file when it is renamed, and is never used again;
        0 if the server does not report it
    :ivar modified: milliseconds since the epoch, by the NameNode's clock
    :ivar block_size: bytes; 0 for a directory
    """

    name: str
    is_directory: bool
    is_file: bool
    size: int
    modified: int
    identity: int
    block_size: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> FileStatus:
        """From an element of WebHDFS's JSON."""
        return cls(
            row["pathSuffix"],
            row["type"] == "DIRECTORY",
            row["type"] == "FILE",
            row["length"],
            row["modificationTime"],
            row.get("fileId", 0),
            row["blockSize"],
        )


class WebHdfs:
    """Calls on one HDFS; paths are absolute.

    :param url: of the NameNode's HTTP port, or of several, separated by semicolons
    :param proxy: URL of the HTTP proxy to use, or None
    :param ca: file with the certificates of CAs, or None for those that *requests* knows
    """

    def __init__(
        self,
        url: str,
        make_client: MakeClient,
        patience: HdfsRetryPolicy,
        proxy: str | None = None,
        ca: str | None = None,
    ) -> None:
        self.url = url
        self._ca = ca
        self._proxy = proxy
        self.patience = patience
        self._make_client = make_client
        self._threads = threading.local()
        self._silence = SilenceWatch(self._new_session, patience.still, patience.sign)
        self._namenodes = {urllib.parse.urlsplit(each).netloc for each in url.split(";")}
        self._clock_offset = 0.0
        self._batches = True

    def now(self) -> float:
        """The NameNode's clock as of its last answer, to a second, running on since."""
        return time.time() + self._clock_offset

    # -- short calls -----------------------------------------------------------

    def status(self, cancellation: Cancellation, path: str) -> FileStatus | None:
        """What is at `path`, or None."""
        try:
            row = self._repeat(cancellation, lambda client: client.status(path))
        except NotThere:
            return None
        return FileStatus.of(row)

    def entries(self, cancellation: Cancellation, path: str) -> Iterator[list[FileStatus]]:
        """What is in a directory, in pages.

        :raises NotThere: there is no such directory
        """
        after = ""
        while self._batches:
            try:
                page, remaining = self._page(cancellation, path, after)
            except errors.Unavailable as error:
                if not _unknown_operation(error):
                    raise
                self._batches = False  # an older server, or HttpFS
                break
            yield page
            if not remaining or not page:
                return
            after = page[-1].name
        rows = self._repeat(
            cancellation,
            lambda client: client._list_status(path).json()["FileStatuses"]["FileStatus"],
        )
        yield [FileStatus.of(row) for row in rows]

    def _page(
        self, cancellation: Cancellation, path: str, after: str
    ) -> tuple[list[FileStatus], int]:
        start = {"startAfter": after} if after else {}
        listing = self._repeat(
            cancellation,
            lambda client: _list_status_batch(client, path, **start).json()["DirectoryListing"],
        )
        rows = listing["partialListing"]["FileStatuses"]["FileStatus"]
        return [FileStatus.of(row) for row in rows], listing["remainingEntries"]

    def make_directory(self, cancellation: Cancellation, path: str) -> None:
        """Create a directory and its parents. Idempotent."""
        self._repeat(cancellation, lambda client: client.makedirs(path))

    def set_modified(self, cancellation: Cancellation, path: str, modified: int) -> None:
        """Set a file's modification time, in milliseconds since the epoch."""
        self._repeat(
            cancellation, lambda client: client.set_times(path, modification_time=modified)
        )

    def delete(self, cancellation: Cancellation, path: str) -> bool:
        """Remove a file without any trash; return whether there was one. Idempotent, except that
        a repeated call may return False where the first one removed it."""
        return self._repeat(cancellation, lambda client: client.delete(path, skip_trash=True))

    def replace(
        self,
        cancellation: Cancellation,
        source: str,
        target: str,
        identity: int,
        permitted: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the file `source` be `target`, in one step, whether or not there is one.

        :param identity: of the source, by which a repeated call sees that the former one
            was carried out and only its answer got lost
        :param permitted: called before each attempt, of which the last may be minutes after
            the first; raises to refuse it
        :raises NotThere: there is no `source`
        """
        attempts = 0

        def is_done(client: hdfs.Client) -> bool:
            there = client.status(target, strict=False)
            return bool(there and identity and FileStatus.of(there).identity == identity)

        def rename(client: hdfs.Client) -> None:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and is_done(client):
                return
            permitted()
            # The package's own rename refuses a target that exists. With this option
            # the NameNode replaces it under its lock, and answers without a body.
            try:
                client._rename(source, destination=target, renameoptions="overwrite")
            except hdfs.HdfsError as error:
                if error.exception != "FileNotFoundException" or not is_done(client):
                    raise

        self._repeat(cancellation, rename)

    # -- streams ---------------------------------------------------------------

    def write(self, cancellation: Cancellation, path: str, pieces: Iterable[bytes]) -> None:
        """Create a file, which must not be there; one attempt.

        What it fails with is for :meth:`repeat` to understand. To repeat it under the
        same name would not be safe: a DataNode may carry out a broken attempt late, and
        empty what a later one has written.

        :raises OSError: from `pieces`, as it was
        """
        try:
            with self._transfer(cancellation) as (session, watched):
                data = _guarded(pieces, watched.progress)
                self._client(session, transfer=True).write(path, data=data)
        except _SourceFailed as failed:
            raise failed.args[0] from None

    def read(self, cancellation: Cancellation, path: str, expected: FileStatus) -> Iterator[bytes]:
        """The content of the file that had this status, all of it and nothing else.

        Goes on where a broken connection left off.

        :raises Changed: there is another file by now, or none; perhaps after some pieces
        """
        done, pauses = 0, self.patience.pauses()
        while done < expected.size:
            begun = done
            try:
                for piece in self._stream(cancellation, path, done, expected.size - done):
                    done += len(piece)
                    # A stream that only ever brings some bytes is no progress.
                    if done - begun >= PIECE:
                        pauses = self.patience.pauses()
                    yield piece
                if done < expected.size:
                    raise requests.ConnectionError(f"{path} ended after {done} bytes")
            except _FAILURES as error:
                self._pause(cancellation, error, pauses)
                self._check_unchanged(cancellation, path, expected)
        if done > expected.size:
            raise Changed
        # A file that is replaced while it is read has its blocks taken away, or mixed.
        self._check_unchanged(cancellation, path, expected)

    def _stream(
        self, cancellation: Cancellation, path: str, offset: int, left: int
    ) -> Iterator[bytes]:
        with self._transfer(cancellation) as (session, watched):
            client = self._client(session, transfer=True)
            with contextlib.closing(client._open(path, offset=offset)) as response:
                length = response.headers.get("content-length", "")
                if length.isdecimal() and int(length) != left:
                    raise requests.ConnectionError(
                        f"{path}: the answer has {length} bytes in place of {left}: "
                        f"does {urllib.parse.urlsplit(response.url).netloc} belong to this HDFS?"
                    )
                for piece in response.iter_content(chunk_size=PIECE):
                    cancellation.check()
                    watched.progress()
                    yield piece
                    watched.progress()  # the caller took its time

    def probe(self, cancellation: Cancellation, path: str) -> None:
        """Read the first byte of a file, by one attempt.

        :raises NotThere: there is no such file
        :raises trough.errors.Unavailable: it cannot be read
        """
        try:
            with self._session(cancellation) as session:
                client = self._client(session, transfer=True)
                with contextlib.closing(client._open(path, offset=0, length=1)) as response:
                    if len(response.content) > 1:
                        raise requests.ConnectionError(
                            f"{path}: the answer has {len(response.content)} bytes in place of 1: "
                            f"does {urllib.parse.urlsplit(response.url).netloc} belong to this "
                            "HDFS?"
                        )
        except _FAILURES as error:
            self._pause(cancellation, error, iter(()))

    def _check_unchanged(self, cancellation: Cancellation, path: str, expected: FileStatus) -> None:
        if self.status(cancellation, path) != expected:
            raise Changed

    # -- patience --------------------------------------------------------------

    def repeat(self, cancellation: Cancellation, attempt: Callable[[], T]) -> T:
        """Retry a call until it succeeds or cannot succeed.

        :raises NotThere: the server says that there is no such file
        """
        pauses = self.patience.pauses()
        while True:
            try:
                return attempt()
            except _FAILURES as error:
                self._pause(cancellation, error, pauses)

    def _repeat(self, cancellation: Cancellation, call: Callable[[hdfs.Client], T]) -> T:
        """The same, for one short call.

        A server that was silent for the whole patience is not asked again: the caller has
        waited long enough.
        """

        def attempt() -> T:
            with self._session(cancellation) as session:
                try:
                    return call(self._client(session, transfer=False))
                except requests.ReadTimeout as error:
                    cancellation.check()
                    raise errors.Unavailable(f"HDFS at {self.url}: {_shown(error)}") from error
                except (ValueError, KeyError, TypeError) as error:
                    # Some other server's page: it stays what it is, however often one asks.
                    raise errors.Unavailable(
                        f"HDFS at {self.url}: the answer is not WebHDFS's",
                        "is that the HTTP port of the NameNode?",
                    ) from error

        return self.repeat(cancellation, attempt)

    def _pause(self, cancellation: Cancellation, error: Exception, pauses: Iterator[float]) -> None:
        """Wait before trying again, or raise what `error` means."""
        cancellation.check()  # an interrupted wait looks like a broken connection
        if isinstance(error, hdfs.HdfsError) and error.exception == "FileNotFoundException":
            raise NotThere from error
        pause = next(pauses, None)
        hint = _permanent(error)
        if pause is None or hint is not None:
            raise errors.Unavailable(f"HDFS at {self.url}: {_shown(error)}", hint or "") from error
        if not isinstance(error, Silent):  # the NameNode may name another server at once
            cancellation.wait(pause)

    @contextlib.contextmanager
    def _session(self, cancellation: Cancellation) -> Iterator[AbortableSession]:
        """This thread's session, whose waits end with the cancellation."""
        session: AbortableSession | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = self._new_session()
            session.hooks["response"].append(self._note_clock)
            self._threads.clients = {}
        session.reset()
        with cancellation.interrupting(session.abort):
            yield session

    @contextlib.contextmanager
    def _transfer(
        self, cancellation: Cancellation
    ) -> Iterator[tuple[AbortableSession, WatchedTransfer]]:
        """The session for moving a file, which ends when its server falls silent."""
        with self._session(cancellation) as session, self._silence.transfer(session) as watched:
            yield session, watched

    def _new_session(self) -> AbortableSession:
        return AbortableSession(self._proxy, self._ca)

    def _client(self, session: AbortableSession, transfer: bool) -> hdfs.Client:
        clients = self._threads.clients
        if transfer not in clients:
            patience = self.patience
            wait = patience.transfer if transfer else patience.answer
            clients[transfer] = self._make_client(session, (patience.connect, wait))
        return clients[transfer]

    def _note_clock(self, response: requests.Response, **_: object) -> None:
        if urllib.parse.urlsplit(response.url).netloc in self._namenodes:
            # Some answers carry two dates, with a comma between them and in each. A server that
            # is no NameNode may send none.
            with contextlib.suppress(ValueError):
                date = email.utils.parsedate_to_datetime(response.headers.get("Date", "")[:29])
                self._clock_offset = date.timestamp() - time.time()


def _guarded(pieces: Iterable[bytes], progress: Callable[[], None]) -> Iterator[bytes]:
    try:
        for piece in pieces:
            progress()
            yield piece
    except OSError as error:
        raise _SourceFailed(error) from error


def _permanent(error: Exception) -> str | None:
    """A hint, where trying again is of no use."""
    if not isinstance(error, hdfs.HdfsError):
        return None
    if error.message.startswith("Authentication failure"):
        return "check user and authentication"
    return _PERMANENT.get(error.exception)


def _unknown_operation(error: errors.Unavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, hdfs.HdfsError) and "LISTSTATUS_BATCH" in cause.message


def _shown(error: Exception) -> str:
    """One line about an error; a server's may be a page of HTML or a stack trace."""
    kind = getattr(error, "exception", None)
    return (f"{kind}: " if kind else "") + error_text(error)[:300]
