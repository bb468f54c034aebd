"""``trough-load``: files of captures or tables into segments, through the write API.

Plans which file goes into which segment, loads several segments at once, promotes each of
them, and reports skipped records. If a file stops, the message names the line to continue from.
Loading is not idempotent: a record that is loaded twice is stored twice, unless the table's own
keys refuse it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TextIO

from trough import errors, model
from trough.cli import metadata_url
from trough.cli.load_progress import LoadProgress
from trough.client import TroughClient, TroughException
from trough.load import options as command_line
from trough.load.file_loader import FileLoader, Interrupted
from trough.load.journal import Journal
from trough.load.promotion import promote
from trough.load.records import DamagedEnd
from trough.load.segment_loader import LoadingStopped
from trough.load.sources import COMPRESSED_SUFFIXES, STDIN
from trough.load.tables import no_answer
from trough.util.quoting import quoted

ALL_LOADED, SOME_SKIPPED, STOPPED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``trough-load``.

    :return: the exit status
    """
    options = command_line.parser().parse_intermixed_args(arguments)
    try:
        plan = _plan(options)
        url = metadata_url.registry_url(options.url, os.environ)
        token = metadata_url.access_token(os.environ)
        tls = metadata_url.tls_files(os.environ)
        with TroughClient(url, token=token, tls_ca=tls, name=uuid.uuid4().hex) as client:
            return _Run(client, options, sys.stderr).run(plan)
    except errors.TroughError as error:
        print(f"trough-load: {_reason(error)}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return INTERRUPTED


def _reason(error: Exception) -> str:
    """An error for a person, without the sent data and without line ends."""
    text = no_answer(error) if isinstance(error, TroughException) else str(error)
    return " ".join(text.split())


# -- which file goes where ---------------------------------------------------------


def _plan(options: argparse.Namespace) -> dict[str, list[str]]:
    """Files by segment.

    :raises trough.errors.BadRequest: the options do not fit together
    """
    files: list[str] = options.files
    if options.from_line > 1 and len(files) > 1:
        raise errors.BadRequest("--from-line says where to go on in one file", "name one file")
    if STDIN in files and (options.resume or options.segment_from):
        raise errors.BadRequest(
            "standard input has no name for --segment-from and --resume", "name files"
        )
    plan: dict[str, list[str]] = {}
    for path in files:
        segment = options.segment
        if options.segment_from is not None:
            segment = _segment_from(options.segment_from, path)
        model.check_segment_id(segment)
        plan.setdefault(segment, []).append(path)
    return plan


def _segment_from(rule: str, path: str) -> str:
    name = Path(path).name
    if rule == "name":
        for suffix in COMPRESSED_SUFFIXES:
            name = name.removesuffix(suffix)
        return name.partition(".")[0] if name[:1] != "." else name
    try:
        found = re.search(rule, path)
    except re.error as error:
        raise errors.BadRequest(
            f"--segment-from {quoted(rule)} is neither `name` nor a regular expression: {error}"
        ) from error
    if found is None:
        raise errors.BadRequest(f"--segment-from {quoted(rule)} is not found in {path}")
    segment: str | None = found[1] if found.re.groups else found[0]
    if not segment:
        raise errors.BadRequest(f"--segment-from {quoted(rule)} finds nothing in {path}")
    return segment


# -- loading -------------------------------------------------------------------------


class _Run:
    """One run of the tool.

    :param messages: the stream for messages to people
    """

    def __init__(self, client: TroughClient, options: argparse.Namespace, messages: TextIO) -> None:
        self._client = client
        self._options = options
        self._messages = messages
        self._interrupted = threading.Event()
        self._journal = Journal(options.resume) if options.resume else None
        self._progress = LoadProgress(messages, _total_bytes(options.files))

    def run(self, plan: dict[str, list[str]]) -> int:
        """Load all files, as far as possible.

        :return: the exit status
        """
        try:
            if len(plan) == 1:
                [(segment, paths)] = plan.items()
                statuses = [self._load_segment(segment, paths)]
            else:
                statuses = self._load_segments(plan)
        finally:
            if self._journal is not None:
                self._journal.close()
        self._progress.finish()
        skipped = SOME_SKIPPED if self._progress.skipped else ALL_LOADED
        return max([*statuses, skipped])

    def _load_segments(self, plan: dict[str, list[str]]) -> list[int]:
        statuses = []
        with ThreadPoolExecutor(self._options.jobs, thread_name_prefix="segment") as pool:
            loading = [pool.submit(self._load_segment, *each) for each in plan.items()]
            try:
                for each in as_completed(loading):
                    statuses.append(each.result())
            except KeyboardInterrupt:
                self._interrupted.set()
                pool.shutdown(wait=True, cancel_futures=True)
                statuses.append(INTERRUPTED)
        return statuses

    def _load_segment(self, segment: str, paths: Sequence[str]) -> int:
        """Load files into one segment, and promote it. Return the worst status."""
        status, loaded = ALL_LOADED, 0
        for path in paths:
            file = FileLoader(
                self._client,
                self._options,
                segment,
                path,
                self._progress,
                journal=self._journal,
                interrupted=self._interrupted,
            )
            found, goes_on = self._load_file(file)
            status, loaded = max(status, found), loaded + file.loaded
            if not goes_on:
                break
        if loaded:
            status = max(status, self._promote(segment, status))
        return status

    def _load_file(self, file: FileLoader) -> tuple[int, bool]:
        """Load a file. Return the status, and whether another file can be loaded."""
        try:
            file.run()
        except DamagedEnd as error:
            file.say_stop(_reason(error), damaged=True)
            return STOPPED, True
        except OSError as error:
            file.say_stop(f"cannot be read: {error.strerror or error}")
            return STOPPED, True
        except errors.TroughError as error:
            file.say_stop(_reason(error))
            return STOPPED, not isinstance(error, LoadingStopped)
        except (KeyboardInterrupt, Interrupted):
            file.say_stop("interrupted")
            return INTERRUPTED, False
        return ALL_LOADED, True

    def _promote(self, segment: str, status: int) -> int:
        if self._options.no_promote or status == INTERRUPTED:
            self._progress.say(
                f"segment {segment} is on one disk only until it is promoted "
                "(PROMOTE in trough-shell -w)"
            )
            return ALL_LOADED
        try:
            path = promote(self._client, segment, self._progress)
        except TroughException as error:
            self._progress.say(
                f"trough-load: segment {segment} is stored, and not promoted; it is on one disk "
                f"only: {_reason(error)}"
            )
            return STOPPED
        except KeyboardInterrupt:
            self._progress.say(f"segment {segment}: interrupted before it was promoted")
            return INTERRUPTED
        self._progress.say(f"segment {segment} is promoted: {path}")
        return ALL_LOADED


def _total_bytes(names: Sequence[str]) -> int | None:
    """The length of all files, or None if one has no length."""
    paths = [Path(name) for name in names]
    if STDIN in names or not all(path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)
