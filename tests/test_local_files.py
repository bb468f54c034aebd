"""What a worker finds in its data directory when it starts, and what it makes of it."""

import pytest

from trough.local_files import open_and_reconcile

PLACE = "segments/300"


def started(directory, *names):
    """Names of the files that are left after a start that found these, which nobody noted."""
    (directory / PLACE).mkdir(parents=True)
    for name in names:
        (directory / PLACE / name).write_bytes(b"x")
    catalogue, entries = open_and_reconcile(directory)
    catalogue.close()
    assert entries == []
    return sorted(path.name for path in (directory / "segments").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "name", ["300001.sqlite", ".300001.sqlite.0123.unfinished", ".a", "300001.sqlite.copy"]
)
@pytest.mark.parametrize("companions", [(), ("-journal",), ("-shm", "-journal")])
def test_what_nobody_noted_is_removed_with_what_is_beside_it(tmp_path, name, companions):
    """Whichever of them a directory lists first."""
    assert started(tmp_path, name, *(name + each for each in companions)) == []


def test_what_is_beside_nothing_is_removed(tmp_path):
    """A crash came between the removals of a database and of what is beside it."""
    assert started(tmp_path, "300001.sqlite-wal", "300002.sqlite-journal") == []


def test_what_may_hold_writes_is_kept_aside(tmp_path):
    """A database with a write-ahead log that nobody noted goes aside, log and all."""
    assert started(tmp_path, "300001.sqlite", "300001.sqlite-wal") == []
    kept = sorted(path.name for path in (tmp_path / "aside").iterdir())
    assert [name.partition(".sqlite")[2] for name in kept] == ["", "-wal"]
