"""Files and standard input, decompressed if they are compressed.

All content that can be decompressed comes first. Then damage after it is raised, as
:class:`trough.load.records.DamagedEnd`. :mod:`trough.load.seams` decides whether the end of a
member or stream ends a line.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from trough import errors
from trough.load.records import DamagedEnd
from trough.load.seams import LOOKED_AT, Seams

STDIN = "-"

#: Bytes that are read at once, and returned at once.
CHUNK = 1 << 18

#: Suffixes that only show a compression.
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

#: What a zstd frame begins with, and a WARC file with a dictionary for its frames.
FRAME, DICTIONARY = b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"

_EARLY = "the file ends early"
_WRONG_SUM = (
    "the compressed data is damaged, as its check sum tells: what was read of this gzip member, "
    "the last one, may be wrong"
)


class Source:
    """A file that is being read.

    :ivar name: the name for a person
    :ivar head: its first bytes, as they are in the file
    :raises OSError: it cannot be opened
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else path
        self._end = 0
        self.raw: BinaryIO = open(0 if path == STDIN else path, "rb", closefd=path != STDIN)  # noqa: SIM115
        self.head: bytes = self.raw.peek(CHUNK)[:512]  # type: ignore[attr-defined]

    @property
    def plain_name(self) -> str:
        """The name in lower case, without the suffix of a compression."""
        name = Path(self.path).name.lower()
        for suffix in COMPRESSED_SUFFIXES:
            name = name.removesuffix(suffix)
        return name

    def chunks(self) -> Iterator[bytes]:
        """The content of the file, decompressed.

        :raises DamagedEnd: after everything that could be read
        """
        for magic, decompress in _COMPRESSIONS.items():
            if self.head.startswith(magic):
                return decompress(self._pieces())
        return self._pieces()

    def position(self) -> int:
        """Bytes of the file itself that have been read."""
        if not self.raw.closed and self.raw.seekable():
            self._end = self.raw.tell()
        return self._end

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.position()
        self.raw.close()

    def _pieces(self) -> Iterator[bytes]:
        try:
            while piece := self.raw.read(CHUNK):
                yield piece
        except OSError as error:
            raise DamagedEnd(f"cannot be read further: {error.strerror}") from error


class _Parts(Protocol):
    """A file of separately compressed parts, one after the other."""

    @property
    def blocked(self) -> bool:
        """Whether the part is marked as one that begins anywhere in the file."""
        ...

    def next(self) -> bool:
        """Move to the next part, if there is one.

        :raises DamagedEnd: there is something else
        """
        ...

    def content(self) -> Iterator[bytes]:
        """The content of the part.

        :raises DamagedEnd: after all that could be read
        """
        ...


def _with_line_ends(members: _Parts, seams: Seams) -> Iterator[bytes]:
    """The content of the parts. A line end is added if a part ends a line without one."""
    while members.next():
        # In a line that the last member cut off: the content until it is clear if the line goes on.
        held: bytes | None = b"" if seams.within_line and not members.blocked else None
        damage = None
        try:
            for content in members.content():
                if held is not None:
                    held += content
                    if b"\n" not in held and len(held) < LOOKED_AT:
                        continue
                    content, held = _after_seam(seams, held), None
                seams.feed(content)
                yield content
        except DamagedEnd as error:
            damage = error
        if held:
            content = _after_seam(seams, held)
            seams.feed(content)
            yield content
        if damage is not None:
            raise damage


def _after_seam(seams: Seams, content: bytes) -> bytes:
    return content if seams.goes_on(content) else b"\n" + content


# -- gzip ----------------------------------------------------------------------


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    return _with_line_ends(_Members(pieces), Seams())


class _Members:
    """The members of a gzip file, one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._data = b""

    def next(self) -> bool:
        """Whether there is a further member; zeros between members are padding.

        :raises DamagedEnd: there is something else
        """
        while not (data := self._data.lstrip(b"\0")):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._data = piece
        self._fill(data, 18)
        if not b"\x1f\x8b".startswith(self._data[:2]):
            raise DamagedEnd("after a member of this gzip file comes something that is no gzip")
        return True

    @property
    def blocked(self) -> bool:
        """Whether it is blocked gzip (bgzip), which divides a file anywhere and is marked so."""
        return self._data[3:4] == b"\4" and self._data[12:14] == b"BC"

    def _fill(self, data: bytes, size: int) -> None:
        while len(data) < size and (piece := next(self._pieces, None)) is not None:
            data += piece
        self._data = data

    def content(self) -> Iterator[bytes]:
        """The content of the member."""
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not self._data and not (piece := next(self._pieces, b"")):
                raise DamagedEnd(_EARLY)
            data, self._data = self._data or piece, b""
            yield from _inflated(member, data)
        self._data = member.unused_data


def _inflated(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while data and not member.eof:
        before = member.copy()
        try:
            content = member.decompress(data, CHUNK)
        except zlib.error as error:
            yield from _before_damage(before, data)
            if "data check" in str(error):
                raise DamagedEnd(_WRONG_SUM) from error
            raise _damaged(error) from error
        data = member.unconsumed_tail
        if content:
            yield content


def _damaged(error: Exception) -> DamagedEnd:
    # A decoder notices wrong bits only some bytes later.
    return DamagedEnd(
        f"the compressed data is damaged ({error}): what was read right before may be wrong"
    )


def _before_damage(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """The content before the byte that cannot be decompressed."""
    for place in range(len(data)):
        try:
            content = member.decompress(data[place : place + 1])
        except zlib.error:
            return
        if content:
            yield content


# -- bzip2, xz, zstandard --------------------------------------------------------


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _streams(
    pieces: Iterator[bytes], magic: bytes, make: Callable[[], _Decompressor]
) -> Iterator[bytes]:
    return _with_line_ends(_Streams(pieces, magic, make), Seams(cut_anywhere=True))


#: Bytes that are decompressed at once. The modules return nothing of a portion that is damaged, and
#: 4 KiB may hold a thousand lines. Small portions cost a sixth more time with xz, less otherwise.
_PORTION = 64


class _Streams:
    """The streams of a file, one after the other."""

    blocked = False

    def __init__(
        self, pieces: Iterator[bytes], magic: bytes, make: Callable[[], _Decompressor]
    ) -> None:
        self._pieces = (
            piece[place : place + _PORTION]
            for piece in pieces
            for place in range(0, len(piece), _PORTION)
        )
        self._magic = magic
        self._make = make
        self._data = b""
        self._damaged: tuple[type[Exception], ...] = (
            OSError,
            EOFError,
            ValueError,
            lzma.LZMAError,
            *_zstd_errors(),
        )

    def next(self) -> bool:
        """See :class:`_Parts`; zeros between streams are padding."""
        while not (data := self._data.lstrip(b"\0")):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._data = piece
        if not (self._magic.startswith(data[: len(self._magic)]) or data.startswith(self._magic)):
            raise DamagedEnd("after the compressed data comes something else")
        self._data = data
        return True

    def content(self) -> Iterator[bytes]:
        """See :class:`_Parts`."""
        stream = self._make()
        while not stream.eof:
            if not self._data and not (piece := next(self._pieces, b"")):
                raise DamagedEnd(_EARLY)
            data, self._data = self._data or piece, b""
            try:
                content = stream.decompress(data)
            except self._damaged as error:
                raise _damaged(error) from error
            if content:
                yield content
        self._data = stream.unused_data


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        import zstandard
    except ImportError:
        return ()
    return (zstandard.ZstdError,)


def _zstd() -> _Decompressor:
    try:
        import zstandard
    except ImportError as error:
        raise errors.BadRequest(
            "it is compressed with zstandard, which is not installed",
            "pip install 'trough[zstd]', or decompress it first",
        ) from error
    made: _Decompressor = zstandard.ZstdDecompressor().decompressobj()
    return made


_COMPRESSIONS: dict[bytes, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"BZh": lambda pieces: _streams(pieces, b"BZh", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda pieces: _streams(pieces, b"\xfd7zXZ\0", lzma.LZMADecompressor),
    FRAME: lambda pieces: _streams(pieces, FRAME, _zstd),
}
