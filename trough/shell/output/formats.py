"""The formats that FORMAT knows, by name; :mod:`trough.formats` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trough import errors
from trough.formats.text import (
    Csv,
    JsonArray,
    JsonLines,
    Markdown,
    Pretty,
    Renderer,
    RenderOptions,
    Table,
    Tsv,
    Vertical,
)
from trough.util.safe_text import safe


def _chart(columns: Sequence[str], options: RenderOptions) -> Renderer:
    from trough.shell.output.charts import Chart  # knows the renderers here

    return Chart(columns, options)


def _parquet(columns: Sequence[str], options: RenderOptions) -> Renderer:
    from trough.formats.columnar import Parquet

    return Parquet(columns, options)


def _arrow(columns: Sequence[str], options: RenderOptions) -> Renderer:
    from trough.formats.columnar import Arrow

    return Arrow(columns, options)


#: Every format, under the name that FORMAT takes.
FORMATS: dict[str, Callable[[Sequence[str], RenderOptions], Renderer]] = {
    "TABLE": Table,
    "PRETTY": Pretty,
    "RAW": JsonArray,
    "VERTICAL": Vertical,
    "CSV": Csv,
    "TSV": Tsv,
    "JSON": JsonArray,
    "JSONL": JsonLines,
    "MARKDOWN": Markdown,
    "CHART": _chart,
    "PARQUET": _parquet,
    "ARROW": _arrow,
}

#: Formats of bytes, which go to files only.
BINARY = frozenset({"PARQUET", "ARROW"})

#: What a format is for, by the same names; shown by HELP FORMAT.
SUMMARIES = {
    "TABLE": "columns side by side, for reading",
    "PRETTY": "JSON, one line a value",
    "RAW": "the same as JSON; the name it had first",
    "VERTICAL": "one line a column, for wide rows",
    "CSV": "comma-separated values, exact",
    "TSV": "tab-separated values, exact",
    "JSON": "one JSON array, as a worker answers over HTTP",
    "JSONL": "one JSON object a line, exact",
    "MARKDOWN": "a table for a text in Markdown",
    "CHART": "two columns as bars, or as a line over numbers or dates",
    "PARQUET": "columns with types, for a file",
    "ARROW": "columns with types, for a file",
}

#: By the end of a file's name.
BY_SUFFIX = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".tab": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".parquet": "PARQUET",
    ".arrow": "ARROW",
    ".md": "MARKDOWN",
    ".txt": "TABLE",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice by FORMAT: a format, and whether all segments make one result set."""

    name: str = "TABLE"
    merged: bool = False

    def __str__(self) -> str:
        return f"{self.name} MERGED" if self.merged else self.name

    @property
    def for_programs(self) -> bool:
        """See :attr:`Renderer.for_programs`."""
        return self.binary or bool(getattr(FORMATS[self.name], "for_programs", False))

    @property
    def binary(self) -> bool:
        """Whether the text of a result represents bytes; see ``columnar.py``."""
        return self.name in BINARY

    @property
    def is_document(self) -> bool:
        """See :attr:`Renderer.is_document`."""
        return bool(getattr(FORMATS[self.name], "is_document", False))


def parse_choice(text: str, current: Choice | None = None) -> Choice:
    """A format's name, ``MERGED`` after it, or ``MERGED`` alone for the current one.

    :raises trough.errors.BadRequest: naming the formats
    """
    words = text.upper().split()
    merged = "MERGED" in words
    names = [word for word in words if word != "MERGED"]
    if not names and merged:
        return Choice((current or Choice()).name, True)
    if len(names) != 1 or names[0] not in FORMATS:
        raise errors.BadRequest(f"no such format: {safe(text)}", f"there are {', '.join(FORMATS)}")
    return Choice(names[0], merged)
