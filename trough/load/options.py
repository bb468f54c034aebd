"""The command line of ``trough-load``."""

from __future__ import annotations

import argparse

from trough import __version__
from trough.cli import metadata_url
from trough.cli.completion import add_completion
from trough.load import formats
from trough.load.records import MAX_RECORD
from trough.load.sources import STDIN
from trough.util.quoting import quoted

DESCRIPTION = """\
Load files of captures or tables into segments: CDX, CDXJ, JSON captures, Heritrix crawl.log,
WARC, CSV, TSV, JSON, JSON lines, Parquet and Arrow; compressed with gzip, bzip2, xz or
zstandard, or not.

Captures become rows of a table crawled_url, with its columns as far as the table has them.
CSV and TSV name their columns in the first record (or by --fields), JSON by the keys of each
object. What the shell writes as CSV, TSV, JSON and JSON lines comes back as the same values.
A record is stored whole or skipped whole; a skipped one is reported with its lines and the
reason. The schema, the table and the format are checked before a segment is created.
"""

EPILOG = """\
Loading a file twice stores its rows twice. Where loading stops half-way, it says with
which line to go on (--from-line); with --resume it goes on by itself.

WARC needs the extra trough[warc], Parquet and Arrow trough[arrow], zstandard trough[zstd].

exit status: 0 everything was loaded, 1 records were skipped, 2 loading stopped, could not
begin, or a file ends early, 130 interrupted

examples:
  trough-load --segment 300001 --schema crawled_url index.cdx.gz
  trough-load --segment-from '([0-9]+)' --schema crawled_url --resume done.log crawls/*.cdxj
  trough-load --segment table-1 --table t --create export.parquet
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = argparse.ArgumentParser(
        "trough-load",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("-u", "--url", help=metadata_url.HELP)
    add("--version", action="version", version=f"trough-load {__version__}")
    add_completion(made)
    _add_target(made)
    _add_reading(made)
    add("files", nargs="*", default=[STDIN], metavar="FILE", help="default, or -: standard input")
    return made


def _add_target(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("where to")
    segment = group.add_mutually_exclusive_group(required=True)
    segment.add_argument("--segment", metavar="ID", help="the segment to load into")
    segment.add_argument(
        "--segment-from",
        metavar="name|REGEX",
        help="one segment for each file: its name without suffixes, or what a regular "
        "expression finds in its path (its first group, if it has one)",
    )
    add = group.add_argument
    add(
        "--schema",
        default="default",
        metavar="NAME",
        help="what a new segment is created from (default: the empty schema)",
    )
    add("--table", default="crawled_url", help="the table to load into (default: %(default)s)")
    add(
        "--create",
        action="store_true",
        help="make the table if there is none, with types by the first 10,000 records",
    )
    add("--alter", action="store_true", help="add columns that the table lacks")
    add("--ignore-extra", action="store_true", help="drop columns that the table lacks")
    add(
        "--no-promote",
        action="store_true",
        help="do not promote at the end; the rows are on one disk only then",
    )
    add(
        "--batch",
        type=_positive,
        default=5000,
        metavar="ROWS",
        help="rows in one transaction, at most (default: %(default)s)",
    )
    add(
        "--jobs",
        type=_positive,
        default=4,
        metavar="N",
        help="segments that are loaded at once (default: %(default)s)",
    )


def _add_reading(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("what from").add_argument
    add(
        "--format",
        choices=["auto", *formats.NAMES],
        default="auto",
        help="default: auto, by the name and the first lines of each file",
    )
    add(
        "--fields",
        type=_fields,
        metavar="A,B,...",
        help="names of the fields of a file without a header: columns for CSV and TSV, "
        "letters or names for CDX",
    )
    add(
        "--delimiter",
        type=_delimiter,
        default=",",
        metavar="CHAR",
        help="between the fields of CSV (default: a comma)",
    )
    add(
        "--max-record",
        type=_positive,
        default=MAX_RECORD,
        metavar="BYTES",
        help="skip records that are longer (default: %(default)s)",
    )
    add(
        "--from-line",
        type=_positive,
        default=1,
        metavar="N",
        help="pass over the records that begin before this line, of one file (of WARC, "
        "Parquet and Arrow: before this record)",
    )
    add(
        "--resume",
        metavar="FILE",
        help="keep in FILE what is stored, and go on from there in the next run",
    )
    add(
        "--show-skipped",
        type=int,
        default=20,
        metavar="N",
        help="report the first N skipped records of each file (default: %(default)s); "
        "the summary counts all",
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number of 1 or more")
    return int(text)


def _fields(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a list of names")
    return names


def _delimiter(text: str) -> str:
    found = "\t" if text == "\\t" else text
    if len(found) != 1 or not found.isascii() or found in '"\r\n':
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not one ASCII character")
    return found
