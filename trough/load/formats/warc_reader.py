"""How the parts of a compressed WARC file are read: each record is a gzip member or a zstd frame.

warcio reads gzip alone, takes the end of a file within a member for the end of the records, and
writes an error of the data to the terminal. This reader, in place of its own, reports both. The
form of zstd files is that of the IIPC (https://iipc.github.io/warc-specifications/, *WARC-Zstandard
file format*): frames, and perhaps a dictionary for them in a skippable frame at the beginning.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from warcio.bufferedreaders import BUFF_SIZE, DecompressingBufferedReader

from trough import errors
from trough.load.records import PartDamaged
from trough.load.sources import DICTIONARY, FRAME

#: Bytes of a zstd file that are decompressed at once: 4 of them may make 128 KiB.
_STEP = 512

#: Bytes of a dictionary, compressed or not, at most.
_MOST = 32 << 20


def reader_of(head: bytes, file: BinaryIO) -> DecompressingBufferedReader:
    """The reader of a file.

    :param head: its first bytes
    :param file: at its beginning
    :raises trough.errors.BadRequest: it needs a package that is not installed
    :raises PartDamaged: its dictionary cannot be read
    """
    if not head.startswith((DICTIONARY, FRAME)):
        return _PartReader(file, BUFF_SIZE)
    try:
        import zstandard
    except ImportError as error:
        raise errors.BadRequest(
            "it is compressed with zstandard, which is not installed", "pip install 'trough[zstd]'"
        ) from error
    dictionary = None
    if head.startswith(DICTIONARY):
        dictionary = zstandard.ZstdCompressionDict(_dictionary(zstandard, file))

    class Frames(_PartReader):
        def _init_decomp(self, decomp_type: str | None) -> None:
            self.num_block_read = 0
            self.decomp_type = decomp_type
            self.decompressor = _Frame(
                zstandard.ZstdDecompressor(dict_data=dictionary).decompressobj()
            )
            self._fed = False

    return Frames(file, _STEP)


def _dictionary(zstandard: Any, file: BinaryIO) -> bytes:
    beginning = file.read(8)
    size = int.from_bytes(beginning[4:], "little")
    if size > _MOST:
        raise PartDamaged(f"its dictionary has {size} bytes")
    content = file.read(size)
    if len(content) < size:
        raise PartDamaged("the file ends within its dictionary")
    if not content.startswith(FRAME):
        return content
    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as stream:
            found: bytes = stream.read(_MOST)
    except zstandard.ZstdError as error:
        raise PartDamaged(f"its dictionary is damaged ({error})") from error
    return found


class _Frame:
    """A frame, with the interface of zlib's objects."""

    def __init__(self, decompressor: Any) -> None:
        self._decompressor = decompressor
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        found: bool = self._decompressor.eof
        return found

    def decompress(self, data: bytes) -> bytes:
        if self.eof:
            self.unused_data += data
            return b""
        found: bytes = self._decompressor.decompress(data)
        self.unused_data = self._decompressor.unused_data
        return found

    def flush(self) -> bytes:
        return b""


class _PartReader(DecompressingBufferedReader):  # type: ignore[misc]
    """Reads gzip members, or what is not compressed."""

    #: Whether the present part has had some bytes.
    _fed = False
    decompressor: Any

    def __init__(self, file: BinaryIO, block_size: int) -> None:
        super().__init__(file, block_size=block_size)

    def _init_decomp(self, decomp_type: str | None) -> None:
        super()._init_decomp(decomp_type)
        self._fed = False

    def _process_read(self, data: bytes) -> None:
        part = self.decompressor
        if not data and part is not None and self._fed and not part.eof:
            raise PartDamaged("the file ends within its compressed part")
        super()._process_read(data)

    def _decompress(self, data: bytes) -> bytes:
        if self.decompressor is None or not data:
            return data
        try:
            found: bytes = self.decompressor.decompress(data)
        except Exception as error:  # zlib's and zstandard's
            if not self._fed and isinstance(self.decompressor, _Frame):
                raise PartDamaged("what follows is no zstd frame") from error
            if not self._fed:
                self.decompressor = None  # not compressed, or what follows is not
                return data
            raise PartDamaged(f"its compressed part is damaged ({error})") from error
        self._fed = True
        return found
