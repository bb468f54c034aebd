"""Loads one file into one segment: recognises it, checks it, loads it and reports the result."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from trough import errors
from trough.cli.load_progress import LoadProgress
from trough.client import TroughClient, TroughException, TroughSegmentNotFound
from trough.load import formats, tables
from trough.load.formats.delimited import typed_row
from trough.load.journal import Journal, JournalEntry, version_of
from trough.load.records import DamagedEnd, FormatOptions, Record, RecordRow, Skipped, folded_name
from trough.load.segment_loader import SegmentLoader
from trough.load.sources import Source
from trough.sql.text import quoted_name

#: Records that ``--create`` and ``--alter`` examine to find types.
SAMPLE = 10_000

#: Formats that have texts only; some texts mean numbers.
OF_TEXTS = frozenset({"csv", "tsv"})


class Interrupted(Exception):
    """Loading must end."""


class FileLoader:
    """Loads one file.

    :param interrupted: set when loading must end
    :ivar loaded: rows that are stored
    :ivar skipped: records that are not stored
    """

    def __init__(
        self,
        client: TroughClient,
        options: argparse.Namespace,
        segment: str,
        path: str,
        progress: LoadProgress,
        *,
        journal: Journal | None,
        interrupted: threading.Event,
    ) -> None:
        self._client = client
        self._options = options
        self._segment = segment
        self._path = path
        self._name = "standard input" if path == "-" else path
        self._progress = progress
        self._journal = journal
        self._key = f"{path} into {segment}.{options.table}"
        self._interrupted = interrupted
        self._from_line = options.from_line
        self._last_line = 0
        self._passed_over = False
        self._loader: SegmentLoader | None = None
        self._lock = threading.Lock()
        self.loaded = 0
        self.skipped = 0

    def run(self) -> None:
        """Load the file.

        :raises trough.errors.TroughError: it could not be loaded, or not to its end
        :raises OSError: it cannot be read
        """
        if self._journal is not None and not self._resumes(self._journal):
            return
        with Source(self._path) as source:
            self._progress.begin(source.position)
            try:
                self._load(source)
            finally:
                self._progress.end(source.position)
        if self._journal is not None:
            self._journal.write(self._key, done=True)
        self._say_nothing_left()

    def _resumes(self, journal: Journal) -> bool:
        """Find where to continue; False if nothing is left."""
        entry = journal.entry(self._key, version_of(self._path))
        if entry.done:
            self._say("loaded by an earlier run")
            return False
        if entry.base is None and not entry.line and entry.sent is None:
            journal.write(self._key, base=self._rows_of_table())
        if entry.sent is not None:
            self._settle(journal, entry, entry.sent)
        self._from_line = max(self._from_line, entry.line + 1)
        return True

    def _settle(self, journal: Journal, entry: JournalEntry, sent: tuple[int, int, int]) -> None:
        """Find out whether the rows are stored that an earlier run was storing when it ended."""
        first, last, rows = sent
        found = self._rows_of_table()
        more = None if found is None or entry.base is None else found - entry.base - entry.rows
        if more == rows:
            entry.line = last
            journal.write(self._key, line=last, rows=rows)
        elif more != 0:
            raise errors.BadRequest(
                f"a run ended while lines {first} to {last} were being stored, and somebody else "
                "has changed the table since",
                f"look whether they are there, and load the rest without --resume, --from-line "
                f"{first} or {last + 1}",
            )

    def _rows_of_table(self) -> int | None:
        """The number of rows of the table; None if it cannot be known."""
        sql = f"SELECT count(*) AS n FROM {quoted_name(self._options.table)}"
        try:
            [row] = self._client.read(self._segment, sql, None)
        except TroughSegmentNotFound:
            return 0
        except TroughException:
            return None
        return int(row["n"])

    def _load(self, source: Source) -> None:
        options = self._options
        given = None if options.format == "auto" else options.format
        opened = formats.opened(source, given, options.max_record)
        table = tables.look(
            self._client, self._segment, options.schema, options.table, options.create
        )
        types = _ColumnTypes(table.types, known=not (options.create or options.alter))
        reading = FormatOptions(
            fields=options.fields,
            keeps_type=types.keep,
            is_column=lambda name: folded_name(name) in table.types,
            types_known=lambda: types.known,
            delimiter=options.delimiter,
            max_record=options.max_record,
            note=self._say,
        )
        records = self._wanted(opened.records(reading))
        sample, damage = self._sample(records, opened.format)
        inferred = _types(sample, opened.format)
        sample = types.settled(inferred, sample, opened.format)
        self._loader = loader = SegmentLoader(
            self._client,
            self._segment,
            options.schema,
            options.table,
            table,
            batch_rows=options.batch,
            listener=self,
            leave_out=lambda columns: (
                options.ignore_extra or any(columns is each for each in formats.CAPTURES)
            ),
            alter=(lambda columns: _missing(inferred, columns)) if options.alter else None,
        )
        try:
            if options.create and not table.types and inferred:
                loader.create(inferred)
            self._feed(loader, chain(sample, _raised(damage) if damage else records), opened.format)
        finally:
            loader.close()
            if loader.left_empty:
                self._undo_provision()

    def _undo_provision(self) -> None:
        """Leave no empty segment behind that no one requested."""
        try:
            self._client.undo_provision(self._segment)
        except TroughException as error:
            self._say(
                f"segment {self._segment} was created and is empty ({tables.no_answer(error)}): "
                "load it again; or promote it, and delete it once its write lock is given back"
            )
        else:
            self._say(f"nothing was stored, so segment {self._segment} was removed again")

    def _wanted(self, records: Iterator[Record]) -> Iterator[Record]:
        """Records from the line where loading begins."""
        for record in records:
            self._last_line = record[1]
            if record[0] >= self._from_line:
                yield record
            else:
                self._passed_over = True

    def _sample(
        self, records: Iterator[Record], format_name: str
    ) -> tuple[list[Record], DamagedEnd | None]:
        """The first records, and the damage after them, if there is any."""
        options = self._options
        wanted = SAMPLE if options.create or options.alter else 1
        sample: list[Record] = []
        try:
            for record in records:
                sample.append(record)
                if len(sample) >= wanted:
                    break
        except DamagedEnd as error:
            return sample, error
        return sample, None

    def _feed(self, loader: SegmentLoader, records: Iterator[Record], format_name: str) -> None:
        checked = format_name not in formats.UNIFORM
        interrupted = self._interrupted.is_set
        try:
            for record in records:
                if isinstance(record, Skipped):
                    self.refused(record)
                    continue
                if not checked:
                    checked = True
                    if wrong := loader.misfit(record.columns):
                        raise errors.BadRequest(
                            wrong, "--alter adds columns, --ignore-extra drops them"
                        )
                loader.add(record)
                if interrupted():
                    raise Interrupted
        except DamagedEnd:
            loader.flush()
            raise
        loader.flush()

    # -- what became of rows ---------------------------------------------------------

    def sending(self, first: int, last: int, rows: int) -> None:
        """See :class:`trough.load.segment_loader.LoadListener`."""
        if self._journal is not None:
            self._journal.write(self._key, sent=[first, last, rows])

    def stored(self, first: int, last: int, rows: int) -> None:
        """See :class:`trough.load.segment_loader.LoadListener`."""
        self.loaded += rows
        self._progress.add(loaded=rows)
        if self._journal is not None:
            self._journal.write(self._key, line=last, rows=rows)

    def not_stored(self) -> None:
        """See :class:`trough.load.segment_loader.LoadListener`."""
        if self._journal is not None:
            self._journal.write(self._key)

    def refused(self, skipped: Skipped) -> None:
        """See :class:`trough.load.segment_loader.LoadListener`."""
        with self._lock:  # the format and the worker refuse on different threads
            self.skipped += 1
            number = self.skipped
        self._progress.add(skipped=1)
        most = self._options.show_skipped
        if number <= most:
            self._progress.say(f"{self._name}:{skipped.lines}: skipped: {skipped.reason}")
        elif number == most + 1 and most:
            self._say("more records are skipped, and only counted from here")

    def _say(self, text: str) -> None:
        self._progress.say(f"{self._name}: {text}")

    def _say_nothing_left(self) -> None:
        if self._from_line > 1 and self._last_line < self._from_line:
            self._say(
                f"there is nothing to load from line {self._from_line} on: "
                f"it ends with line {self._last_line}"
            )

    def say_stop(self, reason: str, damaged: bool = False) -> None:
        """Report what ended the loading, and from which line to continue."""
        self._progress.say(f"trough-load: {self._name}: {reason}")
        if self._loader is None:
            return
        go_on = max(self._loader.settled + 1, self._from_line)
        if damaged:
            # Records after the last row were skipped, and need not be read again.
            go_on = max(go_on, self._last_line + 1)
            self._say_nothing_left()
        if self._loader.doubtful is not None:
            first, last = self._loader.doubtful
            self._progress.say(
                f"lines {first} to {last} may be stored or not, and what comes before is: look, "
                f"and go on with --from-line {go_on} or {last + 1}"
            )
        elif go_on > 1:
            self._progress.say(f"what comes before is stored; go on with --from-line {go_on}")
        else:
            self._progress.say("nothing of it is stored: it can be loaded from its beginning")


class _ColumnTypes:
    """The types of a table's columns, as far as they are known while a file is read.

    :ivar known: whether all are known; before that, texts of CSV and TSV stay texts
    """

    def __init__(self, declared: Mapping[str, str], known: bool) -> None:
        self._declared = dict(declared)
        self.known = known

    def keep(self, name: str) -> bool:
        """See :func:`trough.load.tables.keeps_type`."""
        return tables.keeps_type(self._declared.get(folded_name(name)))

    def settled(
        self, inferred: Mapping[str, str], sample: list[Record], format_name: str
    ) -> list[Record]:
        """Take the types found in some records. Return these records with typed values."""
        if self.known:
            return sample
        found = {folded_name(name): kind for name, kind in inferred.items()}
        self._declared = found | self._declared
        self.known = True
        if format_name not in OF_TEXTS:
            return sample
        return [
            typed_row(each, self.keep) if isinstance(each, RecordRow) else each for each in sample
        ]


def _types(sample: list[Record], format_name: str) -> dict[str, str]:
    rows = [record for record in sample if isinstance(record, RecordRow)]
    found = tables.inferred(rows, read_as_text=format_name in OF_TEXTS)
    if rows and any(rows[0].columns is each for each in formats.CAPTURES):
        return {name: tables.CAPTURE_TYPES.get(name, kind) for name, kind in found.items()}
    return found


def _missing(types: Mapping[str, str], columns: tuple[str, ...]) -> dict[str, str]:
    # A column without a type keeps each value as it is.
    return {name: types.get(name, "") for name in columns}


def _raised(error: Exception) -> Iterator[Any]:
    raise error
    yield
