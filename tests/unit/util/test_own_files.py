"""Which files are Trough's own: by what they are, whatever their names."""

import os

import pytest

from trough.util.confined_files import OwnFiles


@pytest.fixture
def folders(tmp_path):
    """Trough's directory with one file, and the place of canonical copies."""
    for name in ("own", "canonical"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "copy").write_bytes(b"ours")
    return tmp_path / "own", tmp_path / "canonical"


def aged(status, seconds):
    """The same file, whose last name is so much older."""
    fields = list(status)
    fields[9] = int(status.st_ctime - seconds)
    return os.stat_result(fields)


def link_of(source, target):
    """The status of a file that has a second name."""
    target.hardlink_to(source)
    return target.stat()


def test_a_second_name_of_an_own_file_is_known(folders):
    """And that of any other file is none."""
    own, canonical = folders
    other = canonical / "plain"
    other.write_bytes(b"somebody's")
    is_own = OwnFiles(directories=(own,)).snapshot()
    assert is_own(link_of(own / "copy", canonical / "mine"))
    assert not is_own(link_of(other, canonical / "backup"))


def test_files_with_old_second_names_cost_one_look_at_the_directories(folders, monkeypatch):
    """A backup by hard links gives a second name to each of a million segments."""
    own, canonical = folders
    (canonical / "plain").write_bytes(b"somebody's")
    old = aged(link_of(canonical / "plain", canonical / "backup"), 1000)
    looks, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda folder: (looks.append(folder), walk(folder))[1])
    files = OwnFiles(directories=(own,))
    assert not any(files.snapshot()(old) for _ in range(50))
    assert len(looks) == 1


def test_a_name_that_is_newer_than_the_look_is_not_missed(folders):
    """The look before it holds for older names alone."""
    own, canonical = folders
    (canonical / "plain").write_bytes(b"somebody's")
    files = OwnFiles(directories=(own,))
    assert not files.snapshot()(aged(link_of(canonical / "plain", canonical / "backup"), 1000))
    assert files.snapshot()(link_of(own / "copy", canonical / "mine"))
