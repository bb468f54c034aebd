"""How far a file of statements is."""

from __future__ import annotations

import io
import os

from trough.shell.input.script_progress import ScriptProgress, size_of


def test_a_file_tells_how_long_the_rest_takes(monkeypatch):
    """By the share of its bytes; on a narrow terminal without the statements."""
    monkeypatch.setenv("COLUMNS", "60")
    screen, now, read = io.StringIO(), [0.0], [0]
    progress = ScriptProgress(screen, "a.sql", 1000, lambda: read[0], lambda: now[0])
    now[0], read[0], progress.done = 10.0, 250, 1234
    assert progress.line() == (
        "25% of a.sql, 1,234 statements run, 10.0 s, about 30.0 s left; Ctrl-C stops"
    )
    progress.draw()
    assert screen.getvalue() == "\r\x1b[K25% of a.sql, 10.0 s, about 30.0 s left; Ctrl-C stops"
    read[0] = 1000
    assert progress.line() == "100% of a.sql, 1,234 statements run, 10.0 s; Ctrl-C stops"


def test_a_pipe_has_no_length(tmp_path):
    """Its statements are counted; a file's bytes are known."""
    ends = os.pipe()
    try:
        assert size_of(ends[0]) == 0
    finally:
        os.close(ends[0])
        os.close(ends[1])
    (tmp_path / "a.sql").write_bytes(b"12345")
    with (tmp_path / "a.sql").open() as file:
        assert size_of(file.fileno()) == 5
    progress = ScriptProgress(None, "stdin", 0, lambda: 0, lambda: 0.0)
    progress.done = 2
    assert progress.line() == "2 statements run, 0 ms; Ctrl-C stops"
