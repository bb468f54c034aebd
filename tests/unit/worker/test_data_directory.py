"""A worker's data directory: whose it is."""

import pytest

from trough import errors
from trough.worker.data_directory import DataDirectory, check_apart


def test_a_directory_stays_with_its_worker(tmp_path):
    """Under its own name a worker finds the same identity again."""
    first = DataDirectory(tmp_path / "data", "w1")
    assert DataDirectory(tmp_path / "data", "w1").identity == first.identity


def files_in(directory):
    """What stands in the files of a directory, by name; its folders left out."""
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


def test_another_name_is_refused_and_changes_nothing(tmp_path):
    """A renamed machine would lose its write locks: both names are told, and the way out."""
    DataDirectory(tmp_path, "w1")
    before = files_in(tmp_path)
    with pytest.raises(errors.BadSettings, match="worker w1, and HOSTNAME is w2") as refusal:
        DataDirectory(tmp_path, "w2")
    assert "HOSTNAME: w1" in str(refusal.value)
    assert files_in(tmp_path) == before


def test_a_directory_can_be_given_another_name(tmp_path):
    """Whoever removes the file that the refusal names says that this is meant."""
    DataDirectory(tmp_path, "w1")
    (tmp_path / "node").unlink()
    DataDirectory(tmp_path, "w2")
    with pytest.raises(errors.BadSettings):
        DataDirectory(tmp_path, "w1")


def test_a_file_that_a_crash_left_empty_is_written_anew(tmp_path):
    """A process may die, or find the disk full, right after it made a small file. A later one
    starts all the same, and has an identity of its own."""
    for name in ("node", "identity"):
        (tmp_path / name).touch()
    first = DataDirectory(tmp_path, "w1")
    assert first.identity
    assert DataDirectory(tmp_path, "w1").identity == first.identity
    assert sorted(files_in(tmp_path)) == ["identity", "node"]


def test_directories_that_lie_in_one_another_are_refused(tmp_path):
    """Local copies would pass for canonical ones, or be swept away with them; links on the
    way hide nothing."""
    data = tmp_path / "data"
    (data / "segments" / "canonical").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    for storage in (tmp_path, data, tmp_path / "link"):
        with pytest.raises(errors.BadSettings, match="lies in the canonical storage"):
            check_apart(data, storage, None)
    for storage in (data / "segments", data / "segments" / "canonical", data / "aside" / "new"):
        with pytest.raises(errors.BadSettings, match="lies in"):
            check_apart(data, storage, None)
    with pytest.raises(errors.BadSettings, match=r"registry .*lies in"):
        check_apart(data, tmp_path / "canonical", data / "snapshots" / "registry.db")
    with pytest.raises(errors.BadSettings, match="segment's name"):
        check_apart(data, tmp_path / "canonical", tmp_path / "canonical" / "registry.sqlite")


def test_directories_beside_each_other_are_taken(tmp_path):
    """Canonical storage and registry may lie in the data directory, beside its folders."""
    data = tmp_path / "data"
    check_apart(data, data / "canonical", data / "registry.db")
    check_apart(data, tmp_path / "data-canonical", tmp_path / "canonical" / "registry.db")


def test_a_lock_that_cannot_be_opened_is_named(tmp_path):
    """A worker that once ran as root leaves one; a directory can be opened by nobody."""
    directory = DataDirectory(tmp_path, "w1")
    (tmp_path / "lock").mkdir()
    with pytest.raises(SystemExit, match=r"lock cannot be opened for writing: .*; give this"):
        directory.privilegedStartService()
    directory.stopService()
