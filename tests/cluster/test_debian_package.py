"""The package of ``make deb`` in an empty Debian: installed, used, upgraded, removed.

``make debtest`` runs it as root. It takes minutes and fetches a Debian, so nothing else does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

#: Seconds for the longest step, which fetches packages.
STEP = 600

#: Once Trough is ready: a query, the file in canonical storage, and the end.
USE = """
set -e
ip link set lo up
mount -t proc proc /proc
cd /tmp
touch /tmp/log
trough up --home /tmp/home >> /tmp/log 2>&1 &
node=$!
until grep 'trough is ready' /tmp/log; do kill -0 $node; sleep 0.2; done
trough-shell -u sqlite:////tmp/home/registry.db -e 'SELECT count(*) AS n FROM crawled_url' example-1
printf 'a,b\\n1,x\\n' > t.csv
trough-load -u sqlite:////tmp/home/registry.db --segment mine --table t --create t.csv
ls /tmp/home/canonical/m/mine.sqlite
kill -TERM $node
wait $node || true
"""


def _why_not() -> str:
    if os.environ.get("TROUGH_DEBOOTSTRAP") != "1":
        return "it fetches a whole Debian: make debtest runs it"
    if os.geteuid() != 0:
        return "a new root directory needs root"
    missing = [each for each in ("debootstrap", "dpkg-deb", "unshare") if not shutil.which(each)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


class Debian:
    """An empty Debian below a directory; its processes have a network of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, script: str, *, network: bool = False) -> str:
        """Run a shell script in it, and return what it prints."""
        apart = ["--pid", "--fork", "--kill-child", "--mount", *([] if network else ["--net"])]
        done = subprocess.run(
            ["unshare", *apart, "chroot", str(self.root), "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=STEP,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.quote(script)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A fresh Debian with the package."""
    root = tmp_path_factory.mktemp("debian")
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    name = release.partition("VERSION_CODENAME=")[2].splitlines()[0]
    # The link of /tmp may be on a file system without devices.
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=iproute2", name, str(root)],
        check=True,
        capture_output=True,
        timeout=STEP,
    )
    for host in ("/etc/resolv.conf", "/etc/hosts"):
        shutil.copy(host, root / host.lstrip("/"))
    for host in Path("/etc/apt/apt.conf.d").iterdir():
        shutil.copy(host, root / "etc/apt/apt.conf.d")
    packages = list((ROOT / "dist").glob("trough_*.deb"))
    assert packages, "make deb first"
    newest = max(packages, key=lambda path: path.stat().st_mtime)
    shutil.copy(newest, root / "tmp/trough.deb")
    made = Debian(root)
    made.run("apt-get update -q && apt-get install -y -q /tmp/trough.deb", network=True)
    yield made
    shutil.rmtree(root, ignore_errors=True)


def test_it_installs_what_help_names(debian: Debian) -> None:
    """Units, settings, manual pages, completion, and a user without a password."""
    for path in (
        "etc/trough/settings.yml",
        "lib/systemd/system/trough-worker.service",
        "usr/share/man/man1/trough-load.1.gz",
        "usr/share/bash-completion/completions/trough-shell",
        "usr/share/zsh/vendor-completions/_trough-admin",
        "opt/trough/share/trough/trough.yml",
        "opt/trough/share/doc/trough/operations.rst",
    ):
        assert (debian.root / path).exists(), path
    assert ":/usr/sbin/nologin" in debian.run("getent passwd trough")
    for tool in ("trough", "trough-shell", "trough-load", "trough-admin"):
        assert debian.run(f"{tool} --version").startswith("trough")


def test_it_serves(debian: Debian) -> None:
    """A whole Trough starts, answers, and loads a file."""
    said = debian.run(USE)
    assert "200" in said.split()
    assert "/tmp/home/canonical/m/mine.sqlite" in said


def test_settings_outlive_an_upgrade_and_segments_a_purge(debian: Debian) -> None:
    """As for any package of Debian; segments stay even then."""
    said = debian.run(
        "set -e; echo 'WORKER_TTL: 13' >> /etc/trough/settings.yml;"
        " mkdir -p /var/lib/trough; touch /var/lib/trough/kept;"
        " apt-get install -y -q --reinstall /tmp/trough.deb > /dev/null;"
        " grep WORKER_TTL: /etc/trough/settings.yml; apt-get purge -y -q trough;"
        " ls /var/lib/trough",
        network=True,
    )
    assert "WORKER_TTL: 13" in said
    assert said.endswith("kept\n")
    assert not (debian.root / "opt/trough").exists()
    assert not (debian.root / "etc/trough/settings.yml").exists()
