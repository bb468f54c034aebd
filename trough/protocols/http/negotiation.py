"""Chooses the format and the compression of an answer to a GET. Pure.

``format=`` in the URL decides. Without it, the ``Accept`` header does. Without either, or if
``Accept`` names no known format, the answer is JSON. ``Accept-Encoding`` chooses the compression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trough import errors
from trough.formats import columnar, encoder
from trough.util.quoting import quoted

#: The content type of each format.
CONTENT_TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8; header=present",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}

#: Content types by which clients ask, without their parameters. ``*/*`` is not one of them.
_BY_TYPE = {kind.partition(";")[0]: name for name, kind in CONTENT_TYPES.items()}
_BY_TYPE |= {"application/x-ndjson": "jsonl", "application/x-parquet": "parquet"}

#: Formats whose bytes are compressed already.
_COMPRESSED = frozenset({"parquet"})

#: Compressions, the best one first.
_COMPRESSIONS = ("zstd", "gzip")


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """What an answer is to look like.

    :ivar format: one of :data:`trough.formats.encoder.FORMATS`
    :ivar compression: ``gzip``, ``zstd`` or empty
    """

    format: str
    compression: str

    @property
    def is_plain(self) -> bool:
        """Whether it is what executors write themselves."""
        return self.format == "json" and not self.compression


def reply_for(format: str | None, accept: Sequence[str], encodings: Sequence[str]) -> ReplyFormat:
    """The reply that a request asks for.

    :param format: as the URL names it; None where it names none
    :param accept: values of the header ``Accept``
    :param encodings: values of the header ``Accept-Encoding``
    :raises trough.errors.BadRequest: there is no such format, or its library is not there
    """
    name = _by_accept(accept) if format is None else format.lower()
    if name not in encoder.FORMATS:
        raise errors.BadRequest(
            f"format is {quoted(name, 40)}", f"known: {', '.join(encoder.FORMATS)}"
        )
    if name in encoder.COLUMNAR:
        columnar.check_installed(name)
    return ReplyFormat(name, "" if name in _COMPRESSED else _compression(encodings))


def _by_accept(accept: Sequence[str]) -> str:
    best, name = 0.0, "json"
    for kind, quality in _weighted(accept):
        if quality > best and kind in _BY_TYPE:
            best, name = quality, _BY_TYPE[kind]
    return name


def _compression(encodings: Sequence[str]) -> str:
    wanted = dict(_weighted(encodings))
    offered = [
        (wanted.get(name, 0.0), -place, name)
        for place, name in enumerate(_COMPRESSIONS)
        if wanted.get(name, 0.0) > 0 and encoder.can_compress(name)
    ]
    return max(offered)[2] if offered else ""


def _weighted(values: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The members of a header with their weights (RFC 9110, section 12.4.2)."""
    for value in values:
        # The reactor's thread parses what any client sends, so the work has a bound. Common
        # clients send a small part of this.
        for member in value[:4096].split(","):
            name, *parameters = (part.strip().lower() for part in member.split(";"))
            weights = [each[2:] for each in parameters if each.startswith("q=")]
            try:
                yield name, float(weights[0]) if weights else 1.0
            except ValueError:
                yield name, 0.0
