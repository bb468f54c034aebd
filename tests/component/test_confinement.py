"""What a process that runs users' SQL can still do, tried in one."""

import os
import platform
import subprocess
import sys

import pytest

from trough.util import child_process, confinement
from trough.util.confinement import Confinement

if found := confinement.missing():
    pytest.skip(f"this kernel has no {found}", allow_module_level=True)


def tried(tmp_path, code):
    """What a confined process says about a statement: ``done``, or the kind of the error."""
    (tmp_path / "own").mkdir(exist_ok=True)
    (tmp_path / "shared").mkdir(exist_ok=True)
    (tmp_path / "shared" / "there").write_text("x")
    (tmp_path / "secret").write_text("s3cret")
    files = Confinement((str(tmp_path / "shared"),), (str(tmp_path / "own"),), True)
    script = f"""
import ctypes, os, socket, subprocess, signal, sys, json
from pathlib import Path
from trough.util.confinement import Confinement, confine
at, parent = Path({str(tmp_path)!r}), os.getppid()
confine(Confinement.of_argument({files.argument()!r}))
try:
    {code}
except BaseException as error:
    print(type(error).__name__)
else:
    print("done")
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=child_process.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ran.stdout.strip() or ran.stderr


@pytest.mark.parametrize(
    "code",
    [
        "(at / 'own' / 'new').write_text('x'); (at / 'own' / 'new').unlink()",
        "(at / 'own' / 'a').write_text('x'); (at / 'own' / 'a').rename(at / 'own' / 'b')",
        "assert (at / 'shared' / 'there').read_text() == 'x'; list((at / 'shared').iterdir())",
        "import decimal, zoneinfo, sqlite3; open('/dev/urandom', 'rb').read(1)",
        "os.kill(os.getpid(), 0) if False else os.getpid()",
    ],
)
def test_what_it_needs(tmp_path, code):
    """Files in its own directories, reading in shared ones, and Python's modules."""
    assert tried(tmp_path, code) == "done"


@pytest.mark.parametrize(
    "code",
    [
        "(at / 'secret').read_text()",
        "(at / 'secret').write_text('x')",
        "(at / 'shared' / 'there').write_text('x')",
        "(at / 'shared' / 'new').write_text('x')",
        "(at / 'own' / 'link').symlink_to(at / 'secret')",
        "os.link(at / 'secret', at / 'own' / 'link')",
        "(at / 'own' / 'pipe').unlink() if os.mkfifo(at / 'own' / 'pipe') else None",
        "list(at.iterdir())",
        "open('/etc/passwd')",
        "open(f'/proc/{parent}/environ', 'rb').read()",
        "open('/proc/self/mem', 'rb')",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "os.fork()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "os.kill(parent, 0)",
        "os.pidfd_open(parent)",
        "os.chroot(at)",
        "import threading; threading.Thread(target=print).start()",
    ],
)
def test_what_it_can_do_no_more(tmp_path, code):
    """Other files, the network, other processes."""
    assert tried(tmp_path, code) in ("PermissionError", "RuntimeError", "OSError")


def test_the_filter_ends_in_allowing():
    """For each processor that it knows; none for others."""
    for machine in ("x86_64", "aarch64"):
        program = confinement.filter_program(machine)
        assert len(program) % 8 == 0 and len(program) // 8 < 4096
        assert program[-4:] == (0x7FFF0000).to_bytes(4, "little")
    assert confinement.filter_program("vax") == b""


def test_children_hear_no_secrets(monkeypatch):
    """Of the environment only what a process of Python needs is passed on."""
    monkeypatch.setenv("AUTH_TOKEN", "s3cret-token")
    monkeypatch.setenv("RETHINKDB_PASSWORD", "s3cret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    found = child_process.environment()
    assert "s3cret" not in str(found)
    assert found["LC_ALL"] == "C.UTF-8" and found["PATH"] == os.environ["PATH"]


def test_this_processor_is_known():
    """Else executors here run without a filter."""
    assert confinement.filter_program(platform.machine())
