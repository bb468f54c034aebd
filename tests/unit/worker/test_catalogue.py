"""The worker's memory of its local copies."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from trough import errors
from trough.util.sqlite_transaction import numbered_scripts
from trough.worker.catalogue import Catalogue, Entry


def test_entries_come_back_as_they_were_put(tmp_path):
    """What was put is there, in full, after the database was opened again."""
    path = tmp_path / "catalogue.db"
    reading = Entry("a", "a.sqlite", 5, 6, "sha256:00", file_size=6, file_modified=7)
    writing = Entry("b.1", "b/b.1.sqlite", epoch=3, unpromoted=True, publishing="sha256:11")
    catalogue = Catalogue(path)
    catalogue.put(reading, writing)
    catalogue.close()
    assert Catalogue(path).entries() == [reading, writing]


def test_put_replaces_and_remove_forgets(tmp_path):
    """A segment has one entry, and none after it was removed; unknown ids are no error."""
    catalogue = Catalogue(tmp_path / "catalogue.db")
    catalogue.put(Entry("a", "a.sqlite"))
    catalogue.put(Entry("a", "a.sqlite", epoch=1))
    assert [entry.epoch for entry in catalogue.entries()] == [1]
    catalogue.remove(["a", "never-was"])
    assert catalogue.entries() == []


def test_failed_put_changes_nothing(tmp_path):
    """Entries of one call are stored together or not at all."""
    catalogue = Catalogue(tmp_path / "catalogue.db")
    with pytest.raises(sqlite3.IntegrityError):
        catalogue.put(Entry("a", "a.sqlite"), Entry("b", None))
    assert catalogue.entries() == []


def test_a_full_disk_is_told_as_such(tmp_path):
    """SQLite itself takes the change back, and that hides no reason; once there is room,
    the next entry is stored."""
    catalogue = Catalogue(tmp_path / "catalogue.db")
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
    catalogue._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(errors.DiskFull, match="no room for the catalogue"):
        catalogue.put(*(Entry(f"{number}", "a" * 1000) for number in range(100)))
    catalogue._database.execute("PRAGMA max_page_count = 1000000")
    catalogue.put(Entry("a", "a.sqlite"))
    assert catalogue.entries() == [Entry("a", "a.sqlite")]


def test_a_failed_removal_changes_nothing(tmp_path):
    """It leaves no transaction behind that would keep every later change from its commit."""
    catalogue = Catalogue(tmp_path / "catalogue.db")
    catalogue.put(Entry("a", "a.sqlite"))
    with pytest.raises(UnicodeEncodeError):
        catalogue.remove(["a", "\ud800"])
    assert catalogue.entries() == [Entry("a", "a.sqlite")]
    catalogue.put(Entry("b", "b.sqlite"))
    catalogue.close()
    assert [entry.segment for entry in Catalogue(tmp_path / "catalogue.db").entries()] == ["a", "b"]


def test_later_version_is_refused(tmp_path):
    """A catalogue of a later Trough is named and left alone."""
    path = tmp_path / "catalogue.db"
    Catalogue(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE catalogue_version SET number = 99")
    with pytest.raises(errors.BadSettings, match=r"version 99; .*use that one"):
        Catalogue(path)


def test_what_put_returned_from_outlives_kill(tmp_path):
    """An entry is on disk once put returned, whatever happens to the process."""
    path = tmp_path / "catalogue.db"
    script = (
        "import sys, pathlib; from trough.worker.catalogue import *;"
        "c = Catalogue(pathlib.Path(sys.argv[1])); c.put(Entry('a', 'a.sqlite', unpromoted=True));"
        "print('put', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"put\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert Catalogue(path).entries() == [Entry("a", "a.sqlite", unpromoted=True)]


def test_a_file_of_every_released_version_is_opened(tmp_path):
    """Also one of the first version, with all that it says."""
    scripts = numbered_scripts("trough.worker", "catalogue")
    for version in range(1, len(scripts) + 1):
        path = tmp_path / f"{version}.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for script in scripts[:version]:
                database.executescript(script)
            database.execute("UPDATE catalogue_version SET number = ?", (version,))
            values = "'a', 'a.sqlite', 5, 6, 'sha256:00', 3, 1, 'sha256:11', 7, 8"
            columns = "segment, path, modified, size, checksum, epoch, unpromoted, publishing"
            database.execute(
                f"INSERT INTO local_copy ({columns}, file_size, file_modified) VALUES ({values})"
            )
        for _ in range(2):
            catalogue = Catalogue(path)
            entry = Entry("a", "a.sqlite", 5, 6, "sha256:00", 3, True, "sha256:11", 7, 8)
            assert catalogue.entries() == [entry]
            catalogue.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xab" * 5000])
def test_a_damaged_catalogue_is_refused(tmp_path, content):
    """Its error names the file and what to do, instead of being SQLite's own."""
    path = tmp_path / "catalogue.db"
    path.write_bytes(content)
    with pytest.raises(errors.BadSettings, match=r"is damaged: .*keep LOCAL_DATA aside"):
        Catalogue(path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM catalogue_version",
        "UPDATE catalogue_version SET number = -1",
        "UPDATE catalogue_version SET number = 'one'",
    ],
)
def test_a_catalogue_without_a_version_is_refused(tmp_path, damage):
    """As damaged bytes can leave it."""
    path = tmp_path / "catalogue.db"
    Catalogue(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(damage)
    with pytest.raises(errors.BadSettings, match="is damaged: it has no version"):
        Catalogue(path)
