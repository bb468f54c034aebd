"""``trough-load``: files of captures or tables into a segment, through the write API.

Reads files, hands their rows to a :class:`trough.load.segment_loader.SegmentLoader`, shows how
far it is, and tells of every line that is skipped. Whatever stops it says with which line
to go on, since loading is not idempotent: a line that is loaded twice is stored twice,
unless the table's own keys refuse it.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from trough import __version__, errors, model
from trough.cli import metadata_url
from trough.cli.load_progress import Progress
from trough.client import TroughClient
from trough.load import records
from trough.load.records import Line, Row, Skipped
from trough.load.segment_loader import SegmentLoader

ALL_LOADED, SOME_SKIPPED, STOPPED, INTERRUPTED = 0, 1, 2, 130

_GZIP_MAGIC = b"\x1f\x8b"
_STDIN = "-"

# Lines that may tell the format: a damaged beginning is not rare, a longer one would be.
_LOOKED_AT = 50

DESCRIPTION = """\
Load CDX, CDXJ, CSV or JSON lines, gzipped or not, into one segment.

Captures (CDX, CDXJ) become rows of a table crawled_url, with the columns timestamp,
status_code, size, url, mimetype, content_digest, is_duplicate, warc_filename,
warc_offset and host as far as the table has them. CSV names its columns in its first
row, and JSON lines by the keys of each object. Lines that cannot be loaded are skipped,
and told of with their number and the reason.
"""

EPILOG = """\
Loading a file twice stores its rows twice. Where loading stops half-way, it says with
which line to go on (--from-line).

exit status: 0 everything was loaded, 1 lines were skipped, 2 loading stopped or could
not begin, 130 interrupted

example: trough-load --segment 300001 --schema crawled_url index.cdx.gz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``trough-load``.

    :return: the exit status
    """
    options = _parser().parse_args(arguments)
    try:
        model.check_segment_id(options.segment)
        url = metadata_url.registry_url(options.url, os.environ)
        token = metadata_url.access_token(os.environ)
        with TroughClient(url, token=token) as client:
            return _Loading(client, options, sys.stderr).run()
    except errors.TroughError as error:
        print(f"trough-load: {error}", file=sys.stderr)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "trough-load",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-u", "--url", help=metadata_url.HELP)
    add("--version", action="version", version=f"trough-load {__version__}")
    add("--segment", required=True, metavar="ID", help="the segment to load into")
    add(
        "--schema",
        default="default",
        metavar="NAME",
        help="what the segment is created from, if it is new (default: the empty schema)",
    )
    add("--table", default="crawled_url", help="the table to load into (default: %(default)s)")
    add(
        "--format",
        choices=["auto", *records.FORMATS],
        default="auto",
        help="default: auto, by the first lines of each file",
    )
    add(
        "--batch",
        type=_positive,
        default=1000,
        metavar="ROWS",
        help="rows in one transaction, at most (default: %(default)s)",
    )
    add(
        "--from-line",
        type=_positive,
        default=1,
        metavar="N",
        help="pass over the lines before this one, of one file",
    )
    add(
        "--show-skipped",
        type=int,
        default=20,
        metavar="N",
        help="tell of the first N skipped lines of each file (default: %(default)s); "
        "the summary counts all",
    )
    add("files", nargs="*", default=[_STDIN], metavar="FILE", help="default, or -: standard input")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


class _Loading:
    """One run of the tool.

    :param messages: where people read what goes on
    """

    def __init__(self, client: TroughClient, options: argparse.Namespace, messages: TextIO) -> None:
        self._client = client
        self._options = options
        self._progress = Progress(messages, _total_bytes(options.files))
        self._name = ""
        self._skipped_here = 0

    def run(self) -> int:
        """Load all files, as far as they can be.

        :return: the exit status
        """
        if self._options.from_line > 1 and len(self._options.files) > 1:
            raise errors.BadRequest("--from-line says where to go on in one file", "name one file")
        for name in self._options.files:
            status = self._load(name)
            if status is not None:
                break
        else:
            status = SOME_SKIPPED if self._progress.skipped else ALL_LOADED
        self._progress.finish()
        return status

    def _load(self, name: str) -> int | None:
        """Load one file; the exit status where that ends it all."""
        self._name = "standard input" if name == _STDIN else name
        self._skipped_here = 0
        loader = None
        try:
            with _opened(name) as stream:
                self._progress.begin(stream.position)
                format_name, lines = self._recognised(records.lines(stream.content))
                loader = self._loader(format_name)
                self._feed(loader, records.FORMATS[format_name](lines))
                return None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            self._tell_stop(loader, f"cannot be read: {reason}")
        except errors.TroughError as error:
            self._tell_stop(loader, str(error))
        except KeyboardInterrupt:
            self._tell_stop(loader, "interrupted")
            return INTERRUPTED
        return STOPPED

    def _recognised(self, lines: Iterator[Line]) -> tuple[str, Iterator[Line]]:
        """The format's name, and the lines, none of them lost."""
        if self._options.format != "auto":
            return self._options.format, lines
        if self._name.removesuffix(".gz").endswith(".csv"):
            return "csv", lines
        passed = list(islice(lines, _LOOKED_AT))
        texts = [text for _, text in passed if not isinstance(text, Skipped) and text.strip()]
        found = records.recognised(texts)
        if found is None and passed:
            raise errors.BadRequest("its first lines show no known format", "say --format")
        return found or "csv", chain(passed, lines)

    def _loader(self, format_name: str) -> SegmentLoader:
        loader = SegmentLoader(
            self._client,
            self._options.segment,
            self._options.schema,
            self._options.table,
            self._options.batch,
            # A capture has what its format has; a table need not want all of it.
            leave_out_unknown=format_name in ("cdx", "cdxj"),
            on_skip=self._skip,
        )
        loader.open()
        return loader

    def _feed(self, loader: SegmentLoader, rows: Iterator[Row | Skipped]) -> None:
        before = self._progress.loaded
        try:
            for row in rows:
                if row.line < self._options.from_line:
                    continue
                if isinstance(row, Skipped):
                    self._skip(row)
                else:
                    loader.add(row)
                    self._progress.update(before + loader.loaded)
            loader.flush()
        finally:
            self._progress.update(before + loader.loaded)

    def _skip(self, skipped: Skipped) -> None:
        self._progress.skipped += 1
        self._skipped_here += 1
        most = self._options.show_skipped
        if self._skipped_here <= most:
            self._progress.say(f"{self._name}:{skipped.line}: skipped: {skipped.reason}")
        elif self._skipped_here == most + 1 and most:
            self._progress.say(f"{self._name}: more lines are skipped, and only counted from here")

    def _tell_stop(self, loader: SegmentLoader | None, reason: str) -> None:
        self._progress.say(f"trough-load: {self._name}: {reason}")
        if loader is None:
            return
        go_on = max(loader.settled + 1, self._options.from_line)
        if loader.doubtful is not None:
            first, last = loader.doubtful
            self._progress.say(
                f"lines {first} to {last} may be stored or not: look before going on"
            )
        self._progress.say(f"what comes before is stored; go on with --from-line {go_on}")


class _opened:
    """A file for reading, decompressed where it is compressed.

    :ivar content: what is in it
    :ivar position: how many bytes of the file itself have been read
    """

    def __init__(self, name: str) -> None:
        # A buffer of our own round standard input too: its type promises no peek().
        self._end = 0
        self._raw = open(0 if name == _STDIN else name, "rb", closefd=name != _STDIN)  # noqa: SIM115
        compressed = self._raw.peek(2)[:2] == _GZIP_MAGIC
        self.content: records.Source = gzip.GzipFile(fileobj=self._raw) if compressed else self._raw

    def position(self) -> int:
        if not self._raw.closed and self._raw.seekable():
            self._end = self._raw.tell()
        return self._end

    def __enter__(self) -> _opened:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.position()
        self._raw.close()


def _total_bytes(names: Sequence[str]) -> int | None:
    """The length of all files, or None where one has none."""
    paths = [Path(name) for name in names]
    if _STDIN in names or not all(path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)
