"""The worker's memory of its local copies."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from trough import errors
from trough.catalogue import Catalogue, Entry


def test_entries_come_back_as_they_were_put(tmp_path):
    """What was put is there, in full, after the database was opened anew."""
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


def test_later_version_is_refused(tmp_path):
    """A catalogue of a later Trough is named and left alone."""
    path = tmp_path / "catalogue.db"
    Catalogue(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE catalogue_version SET number = 99")
    with pytest.raises(errors.BadSettings, match="version 99"):
        Catalogue(path)


def test_what_put_returned_from_outlives_kill(tmp_path):
    """An entry is on disk once put returned, whatever happens to the process."""
    path = tmp_path / "catalogue.db"
    script = (
        "import sys, pathlib; from trough.catalogue import *;"
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
