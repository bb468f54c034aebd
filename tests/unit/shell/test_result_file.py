"""A file of results: it replaces the former one when it is complete, and only then."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from trough import errors
from trough.shell.output.result_file import result_file


class Broken(Exception):
    """What ends a query early."""


def write(path, text, error=None):
    """Write a whole file of results, or fail after the text."""
    with result_file(path, binary=False) as file:
        file.write(text)
        file.flush()
        if error is not None:
            raise error


@pytest.mark.parametrize("former", [None, "old\n"])
@pytest.mark.parametrize("error", [Broken(), KeyboardInterrupt()], ids=["failed", "interrupted"])
def test_what_fails_leaves_everything_as_it_was(tmp_path, former, error):
    """Neither a part of the new rows nor a file beside."""
    path = tmp_path / "out.csv"
    if former is not None:
        path.write_text(former)
    with pytest.raises(type(error)):
        write(path, "new\n", error)
    assert [each.name for each in tmp_path.iterdir()] == ([] if former is None else ["out.csv"])
    assert former is None or path.read_text() == former


def test_the_former_file_can_be_read_until_the_end(tmp_path):
    """It is replaced by one step, and keeps its mode."""
    path = tmp_path / "out.csv"
    path.write_text("old\n")
    path.chmod(0o640)
    with result_file(path, binary=False) as file:
        file.write("new\r\n")
        file.flush()
        assert path.read_text() == "old\n"
    assert path.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_mode_of_a_new_file_is_that_of_any_other(tmp_path):
    """As the umask of its user says."""
    before = os.umask(0o027)
    try:
        write(tmp_path / "out.csv", "new\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_stays_a_link(tmp_path, link):
    """Both names show the new rows, and nothing when it failed."""
    target, path = tmp_path / "a.csv", tmp_path / "b.csv"
    target.write_text("a long former text\n")
    getattr(path, link)(target)
    with pytest.raises(Broken):
        write(path, "part\n", Broken())
    assert target.read_text() == path.read_text() == "a long former text\n"
    write(path, "new\n")
    assert target.read_text() == path.read_text() == "new\n"
    assert path.is_symlink() == (link == "symlink_to")


def test_a_link_to_nothing_makes_what_it_names(tmp_path):
    """As any program does that opens it."""
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    write(tmp_path / "b.csv", "new\n")
    assert (tmp_path / "a.csv").read_text() == "new\n" and (tmp_path / "b.csv").is_symlink()


def test_a_pipe_is_written_to(tmp_path):
    """Its reader gets the rows."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    write(path, "new\n")
    reader.join(30)
    assert read == ["new\n"] and stat.S_ISFIFO(path.stat().st_mode)


def test_the_output_of_the_process_is_added_to(tmp_path):
    """``/dev/stdout`` and its like mean what is open already, at its end."""
    with (tmp_path / "log").open("w+") as log:
        log.write("before\n")
        log.flush()
        write(type(tmp_path)(f"/dev/fd/{log.fileno()}"), "new\n")
    assert (tmp_path / "log").read_text() == "before\nnew\n"
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


def test_what_cannot_be_written_is_named(tmp_path):
    """With the reason, before any query runs."""
    for path, reason in (
        (tmp_path / "nowhere" / "x.csv", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(errors.BadRequest, match=f"^{path}: {reason}"):
            write(path, "new\n")
