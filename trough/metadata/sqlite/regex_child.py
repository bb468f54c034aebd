"""A process that matches a pattern against all segment ids, for one caller.

A regular expression can keep Python's matcher busy for longer than the universe lasts,
and the matcher lets no other thread run meanwhile. So the servers have it run here, where
the system ends the process at its limit of processor time. Arguments: the registry's path,
that limit in seconds, and the size of a page; the pattern comes on standard input, pages
of copies go to standard output, one JSON line each.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import astuple
from pathlib import Path

from trough.metadata import conditions
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Database


def main() -> None:
    """Print all pages."""
    path, seconds, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    matches = conditions.matcher(json.load(sys.stdin))
    database = Database(path)
    place: reads.Place | None = ("", "")
    while place is not None:
        page, place = database.read(reads.readable_page, matches, place, size)
        if page:
            print(json.dumps([astuple(copy) for copy in page]), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Nobody wants the rest.
        sys.stderr.close()
