"""A network namespace for servers that can be cut off without a reset, as by a cable or a firewall.

It needs root, the program ``ip``, and a kernel with veth pairs. No packet filter is needed: while
the link is cut, this side sends to a hardware address that nobody has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass


def _ip(*arguments: str) -> str:
    """Run ``ip``; what it complains about, empty for nothing."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    return done.stderr.strip() or ("" if not done.returncode else f"status {done.returncode}")


@dataclass(frozen=True)
class Namespace:
    """A network namespace, linked to ours.

    :ivar name: of the namespace; our end of the link is called the same
    :ivar address: of what runs in it
    """

    name: str
    address: str

    @property
    def before(self) -> tuple[str, ...]:
        """What comes before a command that is to run in it."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Have every packet to it vanish."""
        nobody = ("lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", self.name)
        problem = _ip("neigh", "replace", self.address, *nobody)
        assert not problem, problem

    def mend(self) -> None:
        """Have packets arrive again."""
        problem = _ip("neigh", "del", self.address, "dev", self.name)
        assert not problem, problem

    def close(self) -> None:
        """Remove it, and the link with it."""
        _ip("link", "del", self.name)
        _ip("netns", "del", self.name)


def open_namespace() -> tuple[Namespace | None, str]:
    """A new namespace, which the caller closes; or None and the reason why there is none."""
    if os.geteuid() or shutil.which("ip") is None:
        return None, "to cut a network takes root and the program ip"
    name, other = f"trough{os.getpid() % 100_000}", f"peer{os.getpid() % 100_000}"
    third, fourth = os.getpid() // 64 % 256, os.getpid() % 64 * 4
    ours, theirs = (f"10.253.{third}.{fourth + number}" for number in (1, 2))
    namespace = Namespace(name, theirs)
    inside = ("-n", name)
    for command in (
        ("netns", "add", name),
        ("link", "add", name, "type", "veth", "peer", "name", other, "netns", name),
        ("addr", "add", f"{ours}/30", "dev", name),
        ("link", "set", name, "up"),
        (*inside, "addr", "add", f"{theirs}/30", "dev", other),
        (*inside, "link", "set", other, "up"),
        (*inside, "link", "set", "lo", "up"),
    ):
        problem = _ip(*command)
        if problem:
            namespace.close()
            return None, f"no network namespace can be made: ip {' '.join(command)}: {problem}"
    return namespace, ""
