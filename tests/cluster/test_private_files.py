"""What Trough makes on disk, and who may read it."""

import stat
import sys
from pathlib import Path

import pytest
from processes import TroughProcess, http, ports_of_all, write

#: twistd, started with the mask that hides nothing.
OPEN = ("/bin/sh", "-c", 'umask 000; exec "$0" "$@"', str(Path(sys.executable).with_name("twistd")))


def modes(root):
    """The mode of everything below a directory, and of itself."""
    found = [root, *root.rglob("*")]
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)
        for path in found
    }


def too_open(root, file_mode=0o600, directory_mode=0o700):
    """What others may do more with than they should."""
    return {
        path: oct(mode)
        for path, mode in modes(root).items()
        if mode & ~(directory_mode if (root / path).is_dir() else file_mode)
    }


def started(home, **settings):
    """A whole Trough below a directory, ready."""
    return TroughProcess(
        "trough", {**ports_of_all(), "EXECUTORS": "1", **settings}, ("--home", str(home)), OPEN
    ).wait_ready()


def url(process, key):
    return f"http://127.0.0.1:{process.settings[key]}/"


def written_and_promoted(process):
    """Have a segment made, written, promoted, and gathered from."""
    order = b'{"segment": "300001"}'
    sync = url(process, "SYNC_SERVER_PORT")
    assert http("POST", f"{sync}provision", order)[0] == 200
    write(url(process, "WRITE_PORT") + "?segment=300001", "CREATE TABLE t AS SELECT 1 AS a")
    assert http("POST", f"{sync}promote", order)[0] == 200
    gather = b'{"segments": ["300001"], "sql": "SELECT a FROM t ORDER BY a"}'
    assert http("POST", f"{sync}gather", gather)[0] == 200


def test_all_files_are_private_whatever_the_mask(tmp_path):
    """Registry, catalogue, local and canonical copies, and what SQLite keeps beside them."""
    home = tmp_path / "home"
    process = started(home)
    try:
        written_and_promoted(process)
        found = modes(home)
        assert {"registry.db", "registry.db-wal", "canonical/300/300001.sqlite"} <= set(found)
        assert {"worker/catalogue.db", "worker/segments/300/300001.sqlite-wal"} <= set(found)
        assert too_open(home) == {}
    finally:
        process.stop()


def test_what_was_open_to_others_is_closed_at_the_start(tmp_path):
    """A data directory and a registry of an earlier Trough."""
    home = tmp_path / "home"
    started(home).stop()
    (home / "registry.db").chmod(0o666)
    (home / "worker").chmod(0o777)
    process = started(home)
    try:
        process.wait_for("took access from others")
        assert modes(home)["registry.db"] == 0o600
        assert modes(home)["worker"] == 0o700
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("access", "file", "directory"), [("read", 0o640, 0o2750), ("write", 0o660, 0o2770)]
)
def test_a_group_is_let_in_where_that_is_asked_for(tmp_path, access, file, directory):
    """Into canonical storage and the registry, and nowhere else."""
    home = tmp_path / "home"
    process = started(home, GROUP_ACCESS=access)
    try:
        written_and_promoted(process)
        found = modes(home)
        assert found["canonical"] == found["canonical/300"] == directory
        assert found["canonical/300/300001.sqlite"] == file
        assert found["registry.db"] == found["registry.db-wal"] == file
        assert too_open(home / "worker") == {}
    finally:
        process.stop()
