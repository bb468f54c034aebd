"""Local files that appear whole or not at all."""

import errno
import hashlib
import os

import pytest

from trough import errors
from trough.util import atomic_files


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_replacing_makes_the_whole_file(tmp_path):
    """What the block wrote is the file when the block ends, and nothing is left beside it."""
    target = tmp_path / "a.sqlite"
    target.write_bytes(b"before")
    with atomic_files.replacing(target) as file:
        file.write(b"after")
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after"
    assert names(tmp_path) == ["a.sqlite"]


def test_replacing_leaves_the_target_alone_when_the_block_fails(tmp_path):
    """An exception in the block comes out, the old file stays, the new one is gone."""
    target = tmp_path / "a.sqlite"
    target.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), atomic_files.replacing(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["a.sqlite"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_disk_full(tmp_path, number):
    """Both ways in which a system says that it has no room become one error that names
    the file."""
    target = tmp_path / "a.sqlite"
    with pytest.raises(errors.DiskFull, match=r"no room for .*a\.sqlite"):
        with atomic_files.replacing(target):
            raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_a_full_device_is_disk_full():
    """A real device without room gives the same error."""
    with pytest.raises(errors.DiskFull), atomic_files.in_our_words("/dev/full"):
        with open("/dev/full", "wb", buffering=0) as device:
            atomic_files.write_all(device, b"x")


def test_other_errors_are_no_full_disk(tmp_path):
    """A missing directory, say; the error names it."""
    with pytest.raises(errors.Unavailable, match=r"/no/.*: No such file") as raised:
        with atomic_files.replacing(tmp_path / "no" / "a"):
            pass
    assert not isinstance(raised.value, errors.DiskFull)


def test_check_room(tmp_path):
    """A file that cannot fit is refused beforehand, with both numbers; a small one is not."""
    atomic_files.check_room(tmp_path, 1)
    with pytest.raises(errors.DiskFull, match=f"{1 << 60} bytes are needed"):
        atomic_files.check_room(tmp_path, 1 << 60)


def test_temporary_names_are_hidden_new_and_known():
    """Each name is another one, begins with a dot, and is recognised; others are not."""
    first, second = atomic_files.temporary_name("a.sqlite"), atomic_files.temporary_name("a.sqlite")
    assert first != second
    assert first.startswith(".a.sqlite.")
    assert atomic_files.is_temporary(first)
    for other in ("a.sqlite", ".a.sqlite", ".a.sqlite.unfinished", first[1:], first + "x"):
        assert not atomic_files.is_temporary(other)


@pytest.mark.parametrize(
    "size", [0, 1, atomic_files.CHUNK - 1, atomic_files.CHUNK, atomic_files.CHUNK + 1]
)
def test_checksum(tmp_path, size):
    """The checksum is SHA-256 of the content, around the edges of a chunk too."""
    content = os.urandom(size)
    path = tmp_path / "a"
    path.write_bytes(content)
    assert atomic_files.checksum(path) == "sha256:" + hashlib.sha256(content).hexdigest()
    assert atomic_files.checksum(str(path)) == atomic_files.checksum(path)


def test_checksum_can_be_cancelled(tmp_path):
    """What the check raises before a chunk ends the work."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * (2 * atomic_files.CHUNK))
    checks = [None, None]
    with pytest.raises(IndexError):
        atomic_files.checksum(path, checks.pop)


def test_make_directories_makes_parents_and_takes_what_is_there(tmp_path):
    """Missing parents are made; doing it again changes nothing; a file in the way fails."""
    deep = tmp_path / "a" / "b" / "c"
    atomic_files.make_directories(deep)
    atomic_files.make_directories(deep)
    assert deep.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        atomic_files.make_directories(tmp_path / "file" / "below")


def test_replace_file_moves_over_the_target(tmp_path):
    """The temporary file is the target afterwards."""
    temporary, target = tmp_path / ".t", tmp_path / "t"
    temporary.write_bytes(b"new")
    target.write_bytes(b"old")
    atomic_files.replace_file(temporary, target)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["t"]
