"""A worker's data directory: whose it is."""

import pytest

from trough import errors
from trough.worker.data_directory import DataDirectory


def test_a_directory_stays_with_its_worker(tmp_path):
    """Under its own name a worker finds the same identity again."""
    first = DataDirectory(tmp_path / "data", "w1")
    assert DataDirectory(tmp_path / "data", "w1").identity == first.identity


def test_another_name_is_refused_and_changes_nothing(tmp_path):
    """A renamed machine would lose its write locks: both names are told, and the way out."""
    DataDirectory(tmp_path, "w1")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(errors.BadSettings, match="worker w1, and HOSTNAME is w2") as refusal:
        DataDirectory(tmp_path, "w2")
    assert "HOSTNAME: w1" in str(refusal.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_directory_can_be_given_another_name(tmp_path):
    """Whoever removes the file that the refusal names says that this is meant."""
    DataDirectory(tmp_path, "w1")
    (tmp_path / "node").unlink()
    DataDirectory(tmp_path, "w2")
    with pytest.raises(errors.BadSettings):
        DataDirectory(tmp_path, "w1")


def test_a_file_that_a_crash_left_empty_is_written_anew(tmp_path):
    """A process that died, or found the disk full, right after it made a small file keeps
    no later one from starting, nor leaves it without an identity of its own."""
    for name in ("node", "identity"):
        (tmp_path / name).touch()
    first = DataDirectory(tmp_path, "w1")
    assert first.identity
    assert DataDirectory(tmp_path, "w1").identity == first.identity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity", "node"]
