"""``trough-admin certificate``, as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from trough.settings import settings_from
from trough.tls.contexts import check_own_name, client_context, server_context


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    command = [str(Path(sys.executable).with_name("trough-admin")), "certificate", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_from_nothing_to_settings(tmp_path):
    """A CA, a certificate, and what it prints are settings that a process can use."""
    status, said, _ = run("ca", cwd=tmp_path)
    assert status == 0 and "trough-ca/ca.key" in said
    status, said, _ = run("node", "w1.example", "10.0.0.7", cwd=tmp_path)
    assert status == 0
    printed = yaml.safe_load(said.partition("\n\n")[2])
    own = {key: str(tmp_path / "trough-ca" / Path(path).name) for key, path in printed.items()}
    assert set(own) == {"TLS_CERT", "TLS_KEY", "TLS_CA", "TLS_PEER_CA"}
    files = settings_from(own, "w1").tls
    server_context(files)
    client_context(files, peers=True)
    check_own_name(files, "10.0.0.7")


def test_a_mistake_is_one_line(tmp_path):
    """Nothing is written over without --renew, and no name is guessed."""
    status, _, reason = run("node", "w1", cwd=tmp_path)
    assert status == 1 and "trough-admin certificate ca" in reason
    assert run("ca", cwd=tmp_path)[0] == 0
    assert run("ca", cwd=tmp_path)[0] == 1
    assert run("node", "w1", cwd=tmp_path)[0] == 0
    status, _, reason = run("node", "w1", cwd=tmp_path)
    assert (status, len(reason.splitlines())) == (1, 1) and "--renew" in reason
    assert run("node", "w1", "--renew", cwd=tmp_path)[0] == 0
    status, _, reason = run("node", "no host", cwd=tmp_path)
    assert status == 1 and "'no host'" in reason
    assert run("node", "w1", "--days", "0", cwd=tmp_path)[0] == 2
