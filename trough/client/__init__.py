"""The blocking client: what crawlers and scripts import.

:class:`TroughClient` finds segments through the metadata store and talks HTTP with the
workers and the sync server. It keeps the interface of the original system's client, so
that programs written for that one run unmodified. Any number of threads may use one.

It repeats a read at another worker when one does not answer. It repeats a write only when it is
certain that the write was not carried out: the worker could not be reached, or refused because it
no longer holds the lock. In every other case it raises. It imports neither Twisted nor any server.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from trough import errors, model
from trough.client.absences import Absences, Missed
from trough.client.auto_promoter import AutoPromoter
from trough.client.completeness import what_is_left_out
from trough.client.http import Connections, NoAnswer, NotSent, Response
from trough.client.leader_requests import (
    JSON,
    PROVISION_SECONDS,
    LeaderRequests,
    NoLeader,
    RetryPolicy,
)
from trough.client.responses import (
    STATE_HEADER,
    GatheredRows,
    Rows,
    TroughException,
    TroughOutcomeUnknown,
    TroughSegmentNotFound,
    gathered,
    lock_is_elsewhere,
    may_return,
    rows_of,
    unexpected,
    worth_asking_elsewhere,
)
from trough.client.transfers import published
from trough.metadata.open_blocking import open_blocking
from trough.sql.text import filled_in, sql_value
from trough.tls import TlsFiles
from trough.tls.blocking import client_context

__all__ = [
    "TroughClient",
    "TroughException",
    "TroughOutcomeUnknown",
    "TroughSegmentNotFound",
]

#: Seconds of silence that are borne, by kind of call; those of the original client.
QUERY_SECONDS = 600.0
PROMOTE_SECONDS = 21600.0
DELETE_SECONDS = 1200.0
SCHEMA_SECONDS = 60.0

_SQL = {"Content-Type": "application/sql;charset=utf-8"}


class TroughClient:
    """Reads and writes segments, wherever they are.

    It remembers addresses, and looks them up again when one of them fails. It connects at the
    first call.

    :param url: of the metadata store, ``rethinkdb://host[:port],host/database`` or
        ``sqlite:///path/registry.db``
    :param promotion_interval: seconds between two rounds in which a daemon thread
        promotes the segments written to since the last round; None for no such thread
    :param token: for the servers; None: the environment's
        ``AUTH_TOKEN``, if any, so that programs that know of none need no change
    :param tls_ca: file with the certificate of the CA that signed those of the servers: they
        have to speak TLS then; None: the environment's ``TLS_CA``, if any, else the CAs of the
        system where a server speaks TLS
    :param name: the servers know by it who provisioned a segment, so that
        :meth:`undo_provision` works; no other client may have the same one
    :raises TroughException: `url` cannot be that of a metadata store
    """

    logger = logging.getLogger("trough.client.TroughClient")

    #: Seconds to wait for a sync server to lead again after the last leader was lost; and for the
    #: only worker that has a segment. warcprox waits for 20 seconds.
    failover_seconds = 15.0
    #: Seconds between two attempts meanwhile.
    failover_pause = 0.5

    def __init__(
        self,
        url: str,
        promotion_interval: float | None = None,
        *,
        token: str | None = None,
        tls_ca: str | TlsFiles | None = None,
        name: str = "",
    ) -> None:
        with _as_trough_exception():
            self._metadata = open_blocking(url)
        self._url = url
        self._token = token
        self._authorization = _authorization(token)
        self._name = name
        self._tls = _tls_files(tls_ca)
        self._connections = Connections(tls=self._tls)
        self._read_urls: dict[str, str] = {}
        self._write_urls: dict[str, str] = {}
        self._absences = Absences(self._metadata.is_known)
        self._leader = LeaderRequests(
            self._connections,
            lambda: self.segment_manager_url(),  # which a program may replace
            self._authorization,
            lambda: RetryPolicy(self.failover_seconds, self.failover_pause),
        )
        self.promotion_interval = promotion_interval
        self._promoter: AutoPromoter | None = None
        if promotion_interval:
            self._promoter = AutoPromoter(self.promote, promotion_interval, self.logger)

    def close(self) -> None:
        """End the promotion thread after its present promotion, and close all connections.
        Segments that were not promoted stay as they are. Idempotent; never necessary."""
        self._leader.close()
        self._absences.close()
        if self._promoter is not None:
            self._promoter.stop()
        self._connections.close()
        self._metadata.close()

    def __enter__(self) -> TroughClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @staticmethod
    def sql_value(value: Any) -> str | int | float:
        """See :func:`trough.sql.text.sql_value`.

        :raises TroughException: there is no SQL for such a value
        """
        with _as_trough_exception():
            return sql_value(value)

    # -- reading and writing ---------------------------------------------------

    def write(
        self,
        segment_id: str,
        sql_tmpl: str,
        values: Iterable[Any] | None = (),
        schema_id: str = "default",
    ) -> None:
        """Run statements that change a segment, in one transaction, provisioning the
        segment first where this client has not done so yet.

        Returns when the change is on the holder's disk.

        :param sql_tmpl: SQL with ``%s`` for each value, and ``%%`` for a percent sign
        :param values: see :func:`trough.sql.text.sql_value`; None takes `sql_tmpl` as
            it stands, percent signs included
        :param schema_id: the schema that a new segment is created from
        :raises TroughOutcomeUnknown: no answer came; the write is not repeated
        :raises TroughException: nothing was written
        """
        payload = _payload(sql_tmpl, values)
        for last in (False, True):
            url = self.write_url(segment_id, schema_id)
            try:
                response = self._post(url, payload)
            except NotSent as error:
                self._write_urls.pop(segment_id, None)
                if last:
                    raise TroughException(f"nothing was written: {error}", payload) from error
                continue
            except NoAnswer as error:
                self._write_urls.pop(segment_id, None)
                self._mark_dirty(segment_id)
                raise TroughOutcomeUnknown(
                    f"the write may be on disk or not: {error}", payload
                ) from error
            if response.status == 200:
                self._mark_dirty(segment_id)
                return
            self._write_urls.pop(segment_id, None)
            if last or not lock_is_elsewhere(response):
                raise unexpected(response, f"POST {url}", payload)

    def read(self, segment_id: str, sql_tmpl: str, values: Iterable[Any] | None = ()) -> Rows:
        """Ask one segment.

        :param sql_tmpl: one query; this and `values` as for :meth:`write`
        :return: a dict a row, by column name; BLOBs as bytes; with an attribute ``state``,
            which is not empty where the rows need not be the segment's present state
        :raises TroughSegmentNotFound: no worker serves the segment
        :raises TroughException: the query was refused or failed
        """
        payload = _payload(sql_tmpl, values)
        began = time.monotonic()
        while True:
            try:
                rows = self._read_once(segment_id, payload)
            except Missed as missed:
                seconds, pause = self.failover_seconds, self.failover_pause
                if not self._absences.wait(segment_id, began, seconds, pause):
                    raise missed.error from missed.__cause__
                self.logger.info("segment %r: asking again: %s", segment_id, missed.error)
            else:
                self._absences.answered(segment_id)
                return rows

    def _read_once(self, segment_id: str, payload: bytes) -> Rows:
        """Ask two of the segment's workers at most.

        :raises Missed: neither answers, and one may do so in a moment
        """
        known = self._read_urls.get(segment_id)
        try:
            url = known or self.read_url(segment_id)
            answer, url = self._post_somewhere(segment_id, url, payload, known is not None)
        except TroughSegmentNotFound as error:
            raise Missed(error) from error
        except (NotSent, NoAnswer) as error:
            self._read_urls.pop(segment_id, None)
            raise Missed(TroughException(str(error), payload)) from error
        if may_return(answer):
            self._read_urls.pop(segment_id, None)
            raise Missed(unexpected(answer, f"POST {url}", payload))
        return self._rows(segment_id, answer, url, payload)

    def _post_somewhere(
        self, segment_id: str, url: str, payload: bytes, remembered: bool
    ) -> tuple[Response, str]:
        try:
            response = self._post(url, payload)
        except (NotSent, NoAnswer) as error:
            self.logger.info("segment %r: asking elsewhere: %s", segment_id, error)
        else:
            if response.status == 200 or not worth_asking_elsewhere(response, remembered):
                return response, url
        self._read_urls.pop(segment_id, None)
        url = self._remember_read_url(segment_id, avoid=url)
        return self._post(url, payload), url

    async def async_read(
        self, segment_id: str, sql_tmpl: str, values: Iterable[Any] | None = ()
    ) -> Rows:
        """:meth:`read` for asyncio, on the running loop's default threads."""
        return await asyncio.to_thread(self.read, segment_id, sql_tmpl, values)

    def gather(
        self,
        segments: Iterable[str] | str,
        sql_tmpl: str,
        values: Iterable[Any] | None = (),
        partial: bool = False,
        within: bool = False,
        stale: str = "allow",
    ) -> GatheredRows:
        """Ask many segments as if they were one database, by way of a sync server.

        :param segments: ids, or a regular expression that is searched for in all ids
        :param sql_tmpl: one SELECT; this and `values` as for :meth:`write`
        :param partial: answer from the rest where segments fail, and log which ones
        :param within: rows of different segments never meet in a join
        :param stale: ``refuse`` fails where a segment cannot answer its present state;
            ``allow`` answers, and logs which ones
        :return: a dict a row, by column name; BLOBs as bytes; with attributes ``missing``
            and ``stale``
        :raises TroughException: segments failed, or there is no exact answer
        """
        asked = {"matching": segments} if isinstance(segments, str) else {"segments": [*segments]}
        sql = _payload(sql_tmpl, values).decode()
        question = {**asked, "sql": sql, "partial": partial, "within": within}
        if stale != "allow":
            question["stale"] = stale
        payload = json.dumps(question).encode()
        response, what = self._leader.ask(
            "POST", "gather", payload, JSON, QUERY_SECONDS, "there is no answer"
        )
        if response.status != 200:
            raise unexpected(response, what, payload)
        try:
            rows, missing = gathered(response.body)
        except (ValueError, LookupError, TypeError) as error:
            raise TroughException(
                f"the answer of {what} is not JSON, or not whole: {error!s:.200}", payload
            ) from error
        self._log_gaps(missing, rows.stale)
        return rows

    def gather_arrow(
        self,
        segments: Iterable[str] | str,
        sql_tmpl: str,
        values: Iterable[Any] | None = (),
        partial: bool = False,
        within: bool = False,
        stale: str = "allow",
    ) -> Any:
        """:meth:`gather` as a :class:`pyarrow.Table`: faster, and in a fraction of the memory.

        It asks the sync server over the line protocol. Needs the extra ``arrow``. The schema's
        metadata has ``trough.missing`` and ``trough.stale`` where there is anything to say.

        :raises TroughException: see :meth:`gather`; or a column holds values of several types
        """
        from trough.client.arrow import gather_arrow

        table, missing, marks = gather_arrow(
            self._url,
            segments,
            _payload(sql_tmpl, values).decode(),
            self._token,
            self._tls.known_ca,
            partial=partial,
            within=within,
            stale=stale,
        )
        self._log_gaps(missing, marks)
        return table

    def gather_df(
        self, segments: Iterable[str] | str, sql_tmpl: str, *args: Any, **options: Any
    ) -> Any:
        """:meth:`gather_arrow` as a :class:`pandas.DataFrame`; needs pandas besides."""
        return self.gather_arrow(segments, sql_tmpl, *args, **options).to_pandas()

    def _log_gaps(self, missing: Mapping[str, object], stale: Mapping[str, str]) -> None:
        for segment, reason in missing.items():
            self.logger.warning("segment %r is missing from an answer: %s", segment, reason)
        for segment, mark in stale.items():
            self.logger.warning("segment %r did not answer its present state: %s", segment, mark)

    def _post(self, url: str, payload: bytes) -> Response:
        headers = _SQL | self._authorization
        return self._connections.request("POST", url, payload, headers, timeout=QUERY_SECONDS)

    def _rows(self, segment_id: str, response: Response, url: str, payload: bytes) -> Rows:
        if response.status != 200:
            self._read_urls.pop(segment_id, None)
            raise unexpected(response, f"POST {url}", payload)
        try:
            rows = rows_of(response.body)
        except ValueError as error:
            self._read_urls.pop(segment_id, None)
            raise TroughException(
                f"the answer of POST {url} is not JSON, or not whole: {error}", payload
            ) from error
        rows.state = response.headers.get(STATE_HEADER, "")
        if rows.state:
            self.logger.warning(
                "segment %r did not answer its present state: %s", segment_id, rows.state
            )
        return rows

    # -- where segments are ----------------------------------------------------

    def read_url(self, segment_id: str) -> str:
        """Where the segment can be read, by POST; remembered.

        :raises TroughSegmentNotFound: no worker serves it
        """
        return self._read_urls.get(segment_id) or self._remember_read_url(segment_id)

    def read_url_nocache(self, segment_id: str) -> str:
        """:meth:`read_url`, asked of the metadata store."""
        return self._readable_at(segment_id)[0]

    def write_url(self, segment_id: str, schema_id: str = "default") -> str:
        """Where the segment can be written, by POST; remembered. Provisions it.

        :raises TroughException: it cannot be provisioned
        """
        url = self._write_urls.get(segment_id)
        if url is None:
            url = self.write_url_nocache(segment_id, schema_id)
            self._write_urls[segment_id] = url
            self.logger.info("segment %r write url is %r", segment_id, url)
        return url

    def write_url_nocache(self, segment_id: str, schema_id: str = "default") -> str:
        """:meth:`write_url`, asked of the sync server."""
        body = {"segment": segment_id, "schema": schema_id}
        if self._name:
            body["provisioner"] = self._name
        url: str = self._leader.order("provision", body, "write_url")["write_url"]
        return url

    def read_urls_for_regex(self, regex: str, strict: bool = False) -> dict[str, str]:
        """Where each segment can be read whose id `regex` is found in.

        One that exists and cannot be read now has no URL, and is logged.

        :param strict: raise instead
        :raises TroughException: with `strict`, where not all that match can be read
        """
        found: dict[str, model.Copy] = {}
        for copy in self._readable_copies(regex):
            other = found.get(copy.segment)
            if other is None or copy.load < other.load:
                found[copy.segment] = copy
        urls = {segment: copy.url for segment, copy in found.items()}
        left_out = self._left_out(regex, urls)
        if left_out and strict:
            raise TroughException(left_out)
        self._read_urls.update(urls)
        return urls

    def readable_segments(self, regex: str | None = None) -> Iterator[dict[str, Any]]:
        """Each copy that can be read, with ``segment``, ``url``, ``first_heartbeat`` and
        ``last_heartbeat`` (datetimes); a segment with two copies comes twice.

        Segments that exist and cannot be read now are logged at the end.

        :param regex: is searched for in the segment's id
        """
        found = set()
        for copy in self._readable_copies(regex):
            found.add(copy.segment)
            yield {
                "segment": copy.segment,
                "url": copy.url,
                "first_heartbeat": _moment(copy.first_heartbeat),
                "last_heartbeat": _moment(copy.last_heartbeat),
            }
        self._left_out(regex, found)

    def _left_out(self, regex: str | None, found: Collection[str]) -> str:
        """Log what a pattern means and cannot be read; the same as a sentence."""
        left_out = what_is_left_out(self._metadata, regex, found)
        if left_out:
            self.logger.warning("%s", left_out)
        return left_out

    def segment_manager_url(self) -> str:
        """Base URL of the sync server that leads.

        :raises TroughException: none does now
        """
        with _as_trough_exception():
            leader = self._metadata.leader()
        if leader is None:
            raise NoLeader("no healthy trough-sync-master in service registry")
        return leader.url

    def _remember_read_url(self, segment_id: str, avoid: str = "") -> str:
        urls = self._readable_at(segment_id)
        url = next((url for url in urls if url != avoid), urls[0])
        self._read_urls[segment_id] = url
        self.logger.info("segment %r read url is %r", segment_id, url)
        return url

    def _readable_at(self, segment_id: str) -> list[str]:
        with _as_trough_exception():
            copies = self._metadata.copies_of([segment_id]).get(segment_id, ())
        urls = [copy.url for copy in copies if copy.role == model.READ]
        if not urls:
            raise TroughSegmentNotFound(
                f"no read url for segment {segment_id}; usually this means the segment "
                "hasn't been provisioned yet"
            )
        return urls

    def _readable_copies(self, regex: str | None) -> Iterator[model.Copy]:
        with _as_trough_exception():
            yield from self._metadata.segments_matching(regex)

    # -- what the sync server does ---------------------------------------------

    def promote(self, segment_id: str) -> dict[str, Any]:
        """Publish a snapshot of a writable segment as its canonical copy.

        Returns when that is done, which takes as long as the upload.

        :return: among others ``remote_path``, where the canonical copy is
        """
        body = {"segment": segment_id}
        return self._leader.order("promote", body, "remote_path", PROMOTE_SECONDS)

    def published(self, segment_id: str) -> tuple[int, int]:
        """How far a promotion is that is under way, perhaps in another thread.

        :return: bytes that are published, and all of them; zeros while no transfer is under way
        :raises trough.client.transfers.Unknown: nobody tells; it needs the right ``admin``
        """
        return published(self._metadata, self._connections, self._authorization, segment_id)

    def delete_segment(self, segment_id: str) -> None:
        """Delete a segment everywhere, its canonical copy included.

        :raises TroughSegmentNotFound: it is nowhere
        :raises TroughException: it could not be deleted; while it has a write lock,
            for one
        """
        path = f"segment/{quote(segment_id, safe='')}"
        response, what = self._leader.ask("DELETE", path, timeout=DELETE_SECONDS)
        if response.status == 404:
            raise TroughSegmentNotFound(f"received 404 from {what}", None, response.text)
        if response.status != 204:
            raise unexpected(response, what)
        self._forget(segment_id)

    def undo_provision(self, segment_id: str) -> None:
        """Remove a segment that this client alone provisioned, as a new one, and that holds
        nothing yet.

        :raises TroughException: it is not certain that nothing is lost; the segment stays
        """
        payload = json.dumps({"segment": segment_id, "provisioner": self._name}).encode()
        response, what = self._leader.ask("POST", "provision/undo", payload, JSON, DELETE_SECONDS)
        if response.status != 204:
            raise unexpected(response, what, payload)
        self._forget(segment_id)

    def _forget(self, segment_id: str) -> None:
        self._read_urls.pop(segment_id, None)
        self._write_urls.pop(segment_id, None)
        if self._promoter is not None:
            self._promoter.forget(segment_id)

    def register_schema(self, schema_id: str, sql: str) -> None:
        """Add a schema, or replace the one of this name.

        :raises TroughException: the SQL is not valid, or the sync server refuses
        """
        payload = sql.encode()
        path = f"schema/{quote(schema_id, safe='')}/sql"
        response, what = self._leader.ask("PUT", path, payload, _SQL, PROVISION_SECONDS)
        if response.status not in (201, 204):
            raise unexpected(response, what, payload)

    def schema_exists(self, schema_id: str) -> bool:
        """Whether there is a schema of this name.

        :raises TroughException: no sync server answered
        """
        path = f"schema/{quote(schema_id, safe='')}"
        response, what = self._leader.ask("GET", path, timeout=SCHEMA_SECONDS)
        if response.status not in (200, 404):
            raise unexpected(response, what)
        return response.status == 200

    def schemas(self) -> Iterator[dict[str, str]]:
        """The names of all schemas, as ``{"name": ...}``.

        :raises TroughException: the metadata store did not answer
        """
        with _as_trough_exception():
            names = self._metadata.schemas()
        return iter([{"name": name} for name in names])

    def schema(self, schema_id: str) -> list[dict[str, str]] | None:
        """One schema, as ``[{name: sql}]``, or None where there is none of this name.

        :raises TroughException: the metadata store did not answer
        """
        try:
            with _as_trough_exception():
                schema = self._metadata.schema(schema_id)
        except _NoSuchSchema:
            return None
        return [{schema.id: schema.sql}]

    def _mark_dirty(self, segment_id: str) -> None:
        if self._promoter is not None:
            self._promoter.note(segment_id)


class _NoSuchSchema(TroughException):
    pass


@contextmanager
def _as_trough_exception() -> Iterator[None]:
    try:
        yield
    except TroughException:
        raise
    except errors.NoSuchSchema as error:
        raise _NoSuchSchema(error) from error
    except errors.TroughError as error:
        raise TroughException(error) from error


def _authorization(token: str | None) -> dict[str, str]:
    token = os.environ.get("AUTH_TOKEN", "") if token is None else token
    return {"Authorization": f"Bearer {token}"} if token else {}


def _tls_files(ca: str | TlsFiles | None) -> TlsFiles:
    """:raises TroughException: the file cannot be used"""
    if not isinstance(ca, TlsFiles):
        ca = TlsFiles(ca=ca or os.environ.get("TLS_CA") or None)
    with _as_trough_exception():
        if ca.known_ca is not None:
            client_context(ca.known_ca)
    return ca


def _payload(template: str, values: Iterable[Any] | None) -> bytes:
    try:
        return filled_in(template, values).encode()
    except (errors.BadRequest, UnicodeEncodeError) as error:
        raise TroughException(error) from error


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
