"""Network namespaces for servers that can be cut off without a reset, as by a cable or a firewall.

They need root, the program ``ip``, and a kernel with veth pairs, for a :class:`Network` also with
bridges. No packet filter is needed: while a link is cut, its sender uses a hardware address that
nobody has.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

#: Not by the process's number, which two containers of one machine have in common.
_dice = random.SystemRandom()


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


#: Where a packet goes that is to vanish.
_NOBODY = ("lladdr", "02:00:00:00:00:99", "nud", "permanent")


@dataclass(frozen=True)
class Host:
    """A machine of a :class:`Network`.

    :ivar name: of its namespace
    :ivar address: in the network
    """

    name: str
    address: str

    @property
    def before(self) -> tuple[str, ...]:
        """What comes before a command that is to run on it."""
        return ("ip", "netns", "exec", self.name)


class Network:
    """Some hosts, each of which reaches all others and this process, until a link is cut.

    Use :func:`network`, which removes it again.
    """

    def __init__(self) -> None:
        self._number = _dice.randrange(1 << 20)
        self._bridge = f"tb{self._number}"
        self._subnet = f"10.252.{_dice.randrange(256)}"
        self._hosts: dict[str, Host] = {}
        self._cut: set[tuple[str, str]] = set()

    def open(self) -> None:
        """Make the bridge.

        :raises OSError: that is not possible here
        """
        _must("link", "add", self._bridge, "type", "bridge")
        _must("addr", "add", f"{self._subnet}.1/24", "dev", self._bridge)
        _must("link", "set", self._bridge, "up")

    def close(self) -> None:
        """Remove all hosts, and the bridge."""
        for host in self._hosts.values():
            _ip("netns", "del", host.name)
        _ip("link", "del", self._bridge)

    def host(self, name: str) -> Host:
        """The host of this name; a new one if there is none."""
        if name not in self._hosts:
            self._hosts[name] = self._new_host(len(self._hosts) + 2)
        return self._hosts[name]

    def _new_host(self, number: int) -> Host:
        host = Host(f"trough{self._number}n{number}", f"{self._subnet}.{number}")
        outer, inside = f"tv{self._number}n{number}", ("-n", host.name)
        _must("netns", "add", host.name)
        _must("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        _must("link", "set", outer, "master", self._bridge, "up")
        _must(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _must(*inside, "link", "set", "eth0", "up")
        _must(*inside, "link", "set", "lo", "up")
        return host

    def cut(self, sender: str, *receivers: str) -> None:
        """Have each packet vanish that goes from one host to others."""
        for receiver in receivers:
            self._neighbour(sender, "replace", receiver, *_NOBODY)
            self._cut.add((sender, receiver))

    def cut_both(self, one: str, *others: str) -> None:
        """Have each packet between one host and others vanish."""
        for other in others:
            self.cut(one, other)
            self.cut(other, one)

    def mend(self) -> None:
        """Have all packets arrive again."""
        for sender, receiver in self._cut:
            self._neighbour(sender, "del", receiver)
        self._cut.clear()

    def _neighbour(self, sender: str, act: str, receiver: str, *more: str) -> None:
        address = self._hosts[receiver].address
        _must("-n", self._hosts[sender].name, "neigh", act, address, *more, "dev", "eth0")


def _must(*arguments: str) -> None:
    problem = _ip(*arguments)
    if problem:
        raise OSError(f"ip {' '.join(arguments)}: {problem}")


@contextmanager
def network() -> Iterator[Network]:
    """A new network; the test is skipped where none can be made."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("to cut links takes root and the program ip")
    made = Network()
    try:
        try:
            made.open()
            made.host("probe")
        except OSError as problem:
            pytest.skip(f"no network of namespaces can be made: {problem}")
        yield made
    finally:
        made.close()
