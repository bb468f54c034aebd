"""What a worker finds in its data directory when it starts, and what it makes of it."""

import os
from pathlib import Path

import pytest
from small_disk import mounted

from trough import errors
from trough.worker import local_files
from trough.worker.local_files import open_and_reconcile

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


def test_a_directory_that_a_disk_has_no_room_for_is_said_to_have_none(tmp_path):
    """It is needed before the file is, and fails in the same words."""
    with mounted(tmp_path / "disk", "1m,nr_inodes=2") as disk:
        path = local_files.path_of(disk, "300001")
        for prepare in (
            local_files.make_way,
            lambda path: local_files.check_room_for_copy(path, 1),
        ):
            with pytest.raises(errors.DiskFull, match="no room for"):
                prepare(path)


def test_the_directories_of_a_new_segment_outlive_a_power_cut(tmp_path, monkeypatch):
    """A write is answered once the file is on disk, which it is not without its directories."""
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    path = local_files.path_of(tmp_path, "300001")
    local_files.make_way(path)
    assert {tmp_path, *path.parents} >= set(flushed) >= {tmp_path, path.parent.parent}
