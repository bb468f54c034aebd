"""The shell's own rows, shown like the rows of a query."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from trough.shell.output.sections import Layout, RowPiece
from trough.shell.output.sinks import Sink

#: Rows passed on at a time.
_PAGE = 1000


def show_rows(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], layout: Layout, sink: Sink
) -> int:
    """Write `rows` as they come.

    :return: how many there were
    """
    total = 0
    source = iter(rows)
    try:
        while True:
            page = list(itertools.islice(source, _PAGE))
            total += len(page)
            ends = len(page) < _PAGE
            sink.write(layout.write(RowPiece("", columns, page, total == len(page), ends, total)))
            if ends:
                break
        sink.write(layout.end())
    except BrokenPipeError:
        pass  # the reader closed the pager or the pipe
    finally:
        sink.close()
    return total
